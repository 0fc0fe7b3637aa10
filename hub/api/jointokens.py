"""`/v1/clusters/{cluster}/join-tokens`: what a new agent shows once."""

from __future__ import annotations

from hub.api import models
from hub.api.clusters import visible_cluster
from hub.api.routes import Call, Reply, Route, Who
from hub.api.services import Services
from hub.audit import Audit
from hub.auth import bearer
from hub.auth.jointokens import JoinToken
from hub.clock import rfc3339
from hub.clusters.records import Cluster
from hub.errors import Conflict, NotFound
from hub.store.model import Document


async def list_join_tokens(call: Call) -> Reply:
    services = call.services
    cluster = visible_cluster(services, call.caller, call.path["cluster"])
    records = sorted(services.join_token_index.of_cluster(cluster.uid), key=lambda record: record.created_at)
    return Reply(models.JoinTokenList(items=[_shown(services, record, cluster) for record in records]))


async def create_join_token(call: Call) -> Reply:
    body = call.body
    assert isinstance(body, models.JoinTokenRequest)
    services = call.services
    cluster = visible_cluster(services, call.caller, call.path["cluster"])
    record, minted = await mint(call, cluster, body.expires_in_seconds)
    shown = _shown(services, record, cluster).model_dump(by_alias=False)
    return Reply(models.NewJoinToken(**shown, token=minted.text), 201)


async def mint(
    call: Call, cluster: Cluster, expires_in_s: int | None, form: Document | None = None
) -> tuple[JoinToken, bearer.Minted]:
    """A new join token, visible to the tunnel. `expires_in_s` None: as the hub is set. Raises Conflict."""
    services = call.services
    record, minted, revision = await services.join_tokens.create(
        cluster_uid=cluster.uid,
        lifetime_s=expires_in_s or services.settings.join_token_lifetime_s,
        created_by=call.caller.user,
        form=form,
    )
    call.audit(Audit.JOIN_TOKEN_MADE, cluster=cluster.name, token_id=record.id)
    await services.follower.reached(revision)
    if services.cluster_index.by_uid(cluster.uid) is None:
        await services.clusters.sweep()
        raise Conflict("the cluster was deleted meanwhile", kind="clusters", name=cluster.name)
    return record, minted


async def revoke_join_token(call: Call) -> Reply:
    services, token_id = call.services, call.path["id"]
    cluster = visible_cluster(services, call.caller, call.path["cluster"])
    record = services.join_token_index.get(token_id)
    if record is None or record.cluster_uid != cluster.uid:
        raise NotFound("the cluster has no such join token", kind="join-tokens", name=token_id)
    # First its use, then the token: a join that is on its way to the store must not come after this answer.
    barred, _ = await services.agent_keys.bar(cluster.uid, token_id, by=call.caller.user)
    call.audit(Audit.JOIN_TOKEN_REVOKED, cluster=cluster.name, token_id=token_id, was_used=not barred.is_barred)
    revision = await services.join_tokens.revoke(cluster.uid, token_id)
    await services.follower.reached(max(barred.revision, revision or 0))
    return Reply(None, 204)


def _shown(services: Services, record: JoinToken, cluster: Cluster) -> models.JoinToken:
    agent = services.agent_key_index.get(record.id)
    return models.JoinToken(
        id=record.id,
        cluster=cluster.name,
        created_at=rfc3339(record.created_at),
        created_by=record.created_by,
        expires_at=rfc3339(record.expires_at),
        used_at=None if agent is None or agent.is_barred else rfc3339(agent.created_at),
    )


_TOKENS = "/v1/clusters/{cluster}/join-tokens"

ROUTES = (
    Route(
        method="GET", path=_TOKENS, name="listJoinTokens", who=Who.HUB_ADMIN, handler=list_join_tokens,
        summary="The join tokens of a cluster, without their secrets.",
        replies={200: models.JoinTokenList}, errors=(NotFound,),
    ),
    Route(
        method="POST", path=_TOKENS, name="createJoinToken", who=Who.HUB_ADMIN, handler=create_join_token,
        summary="Make a token with which one agent of the cluster enrols its key, once. Its text is shown once.",
        request=models.JoinTokenRequest, replies={201: models.NewJoinToken}, errors=(NotFound, Conflict),
    ),
    Route(
        method="DELETE", path=f"{_TOKENS}/{{id}}", name="revokeJoinToken", who=Who.HUB_ADMIN,
        handler=revoke_join_token, summary="Take a join token back. An agent that has joined with it stays.",
        replies={204: None}, errors=(NotFound,),
    ),
)  # fmt: skip
