"""`/v1/clean-ups`: deleted clusters in which riata's objects may still be."""

from __future__ import annotations

from hub.api import models
from hub.api.clusters import shown_clean_up
from hub.api.routes import Call, Reply, Route, Who
from hub.audit import Audit
from hub.errors import NotFound


async def list_clean_ups(call: Call) -> Reply:
    services = call.services
    found = [each for each in services.clean_up_index if services.cluster_index.by_uid(each.id) is None]
    found.sort(key=lambda each: (each.cluster, each.deleted_at))
    return Reply(models.CleanUpList(items=[shown_clean_up(each) for each in found]))


async def get_clean_up(call: Call) -> Reply:
    uid = call.path["id"]
    found = call.services.clean_up_index.get(uid)
    if found is None or call.services.cluster_index.by_uid(uid) is not None:
        raise NotFound("nothing is left to clean up there", kind="clean-ups", name=uid)
    return Reply(shown_clean_up(found))


async def forget_clean_up(call: Call) -> Reply:
    services, uid = call.services, call.path["id"]
    found = services.clean_up_index.get(uid)
    revision = await services.clean_ups.forget(uid) if found is not None else None
    if found is None or revision is None:
        raise NotFound("nothing is left to clean up there", kind="clean-ups", name=uid)
    call.audit(Audit.CLEAN_UP_FORGOTTEN, cluster=found.cluster, cluster_uid=uid)
    await services.follower.reached(revision)
    return Reply(None, 204)


_ONE = "/v1/clean-ups/{id}"

ROUTES = (
    Route(
        method="GET", path="/v1/clean-ups", name="listCleanUps", who=Who.HUB_ADMIN, handler=list_clean_ups,
        summary="Deleted clusters in which something of riata may be left.", replies={200: models.CleanUpList},
    ),
    Route(
        method="GET", path=_ONE, name="getCleanUp", who=Who.HUB_ADMIN, handler=get_clean_up,
        summary="One of them, by the deleted cluster's uid; 404 when it is done.", replies={200: models.CleanUp},
        errors=(NotFound,),
    ),
    Route(
        method="DELETE", path=_ONE, name="forgetCleanUp", who=Who.HUB_ADMIN, handler=forget_clean_up,
        summary="Take it off the list: it was done by hand, or the cluster is no more.", replies={204: None},
        errors=(NotFound,),
    ),
)  # fmt: skip
