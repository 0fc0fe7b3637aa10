"""`/v1/grants`: who may use which cluster."""

from __future__ import annotations

import contextlib
from typing import Final

from hub.api import models
from hub.api.clusters import visible_cluster
from hub.api.lists import listed
from hub.api.routes import Call, Reply, Route, Who
from hub.api.services import Services
from hub.audit import Audit
from hub.auth.grants import EVERY_CLUSTER, Grant, Role
from hub.auth.principal import Principal
from hub.clock import rfc3339
from hub.errors import AlreadyExists, Conflict, NotFound, PermissionDenied
from hub.store.model import RevisionConflict

_LAST: Final = "this is the last grant of hub administration: make another one first"


async def list_grants(call: Call) -> Reply:
    """As `models.GrantList`."""
    services, caller = call.services, call.caller
    known = services.grant_index if caller.is_admin else services.grant_index.of(caller.user, caller.groups)
    grants = sorted((grant for grant in known if _may_see(caller, grant)), key=lambda grant: grant.name)
    return await listed(grants, lambda grant: _shown(services, grant))


async def get_grant(call: Call) -> Reply:
    services, caller, name = call.services, call.caller, call.path["grant"]
    grant = services.grant_index.get(name)
    if not caller.is_admin and (grant is None or not _may_see(caller, grant)):
        raise PermissionDenied("you may only see your own grants", kind="grants", name=name)
    if grant is None:
        raise NotFound("there is no such grant", kind="grants", name=name)
    return Reply(_shown(services, grant))


def _may_see(caller: Principal, grant: Grant) -> bool:
    """A token that is limited to clusters does not see what its user may do elsewhere: it may be in the hands of a
    program."""
    if caller.is_admin:
        return True
    uids = caller.cluster_uids
    return grant.concerns(caller.user, caller.groups) and (uids is None or any(grant.covers(uid) for uid in uids))


async def create_grant(call: Call) -> Reply:
    body = call.body
    assert isinstance(body, models.GrantRequest)
    services = call.services
    grant = _grant(call, body)
    try:
        revision = await services.grants.create(grant)
    except RevisionConflict:
        return await _existing(services, grant)
    _tell(Audit.GRANT_MADE, call, grant)
    await services.follower.reached(revision)
    if grant.cluster_uid != EVERY_CLUSTER and services.cluster_index.by_uid(grant.cluster_uid) is None:
        await services.clusters.sweep()
        raise Conflict("the cluster was deleted meanwhile", kind="clusters", name=body.cluster)
    return Reply(_shown(services, grant), 201)


async def delete_grant(call: Call) -> Reply:
    services, name = call.services, call.path["grant"]
    grant = services.grant_index.get(name)
    is_admins = grant is not None and grant.role is Role.HUB_ADMIN
    if is_admins and not _is_administered(services, without=name):
        raise Conflict(_LAST)
    revision = await services.grants.delete(name) if grant is not None else None
    if grant is None or revision is None:
        raise NotFound("there is no such grant", kind="grants", name=name)
    _tell(Audit.GRANT_REMOVED, call, grant)
    await services.follower.reached(revision)
    if is_admins and not _is_administered(services):
        await _put_back(call, grant)
        raise Conflict(_LAST)
    return Reply(None, 204)


def _is_administered(services: Services, *, without: str = "") -> bool:
    return any(grant.role is Role.HUB_ADMIN and grant.name != without for grant in services.grant_index)


async def _put_back(call: Call, grant: Grant) -> None:
    """Two who delete the last two together each saw the other's still there. It may be that both are put back: an
    administrator too many can be deleted again."""
    with contextlib.suppress(RevisionConflict):  # somebody made another one of this name, and may
        revision = await call.services.grants.create(grant)
        _tell(Audit.GRANT_MADE, call, grant)
        await call.services.follower.reached(revision)


def _tell(event: Audit, call: Call, grant: Grant) -> None:
    """`acts_as_…`, since the log redacts every field whose name begins as the header fields of impersonation do."""
    shown = _shown(call.services, grant)
    call.audit(
        event,
        grant=grant.name,
        subject=f"user:{grant.user}" if grant.user else f"group:{grant.group}",
        role=shown.role,
        cluster=shown.cluster,
        cluster_uid=grant.cluster_uid,
        acts_as_users=list(grant.impersonate_users),
        acts_as_groups=list(grant.impersonate_groups),
    )


def _grant(call: Call, body: models.GrantRequest) -> Grant:
    is_everywhere = body.cluster == EVERY_CLUSTER
    acts_as = body.impersonate or models.Impersonation()
    return Grant(
        name=body.name,
        user=body.user or "",
        group=body.group or "",
        cluster_uid=EVERY_CLUSTER if is_everywhere else visible_cluster(call.services, call.caller, body.cluster).uid,
        role=Role(body.role),
        impersonate_users=tuple(acts_as.users),
        impersonate_groups=tuple(acts_as.groups),
        created_at=call.services.clock(),
        created_by=call.caller.user,
    )


async def _existing(services: Services, grant: Grant) -> Reply:
    """Repeating a creation changes nothing, also while the first one is on its way; another grant of this name is a
    conflict."""
    try:
        known = await services.grants.stored(grant.name)
    except (KeyError, TypeError, ValueError):
        raise _taken(grant) from None
    if known is None:
        raise Conflict(kind="grants", name=grant.name)
    found, revision = known
    if not _is_same(found, grant):
        raise _taken(grant)
    await services.follower.reached(revision)
    return Reply(_shown(services, found), 200)


def _taken(grant: Grant) -> AlreadyExists:
    text = f"there is another grant {grant.name!r}: delete it first, or take another name"
    return AlreadyExists(text, kind="grants", name=grant.name)


def _is_same(one: Grant, other: Grant) -> bool:
    ignored = {"createdAt": None, "createdBy": None}
    return {**one.spec(), **ignored} == {**other.spec(), **ignored}


def _shown(services: Services, grant: Grant) -> models.Grant:
    name = services.cluster_index.name_of(grant.cluster_uid)
    acts_as = models.Impersonation(users=list(grant.impersonate_users), groups=list(grant.impersonate_groups))
    return models.Grant(
        name=grant.name,
        user=grant.user or None,
        group=grant.group or None,
        cluster=EVERY_CLUSTER if grant.cluster_uid == EVERY_CLUSTER else name or "",
        role=grant.role.value,
        impersonate=acts_as if acts_as.users or acts_as.groups else None,
        created_at=rfc3339(grant.created_at),
        created_by=grant.created_by,
    )


ROUTES = (
    Route(
        method="GET", path="/v1/grants", name="listGrants", who=Who.PRINCIPAL, handler=list_grants,
        summary="The grants that concern the caller, of a limited token its clusters; all for hub administrators.",
        replies={200: models.GrantList},
    ),
    Route(
        method="POST", path="/v1/grants", name="createGrant", who=Who.HUB_ADMIN, handler=create_grant,
        summary="Let a user or a group use a cluster. Repeating it changes nothing.",
        request=models.GrantRequest, replies={201: models.Grant, 200: models.Grant},
        errors=(NotFound, AlreadyExists, Conflict),
    ),
    Route(
        method="GET", path="/v1/grants/{grant}", name="getGrant", who=Who.PRINCIPAL, handler=get_grant,
        summary="One grant.", replies={200: models.Grant}, errors=(NotFound,),
    ),
    Route(
        method="DELETE", path="/v1/grants/{grant}", name="deleteGrant", who=Who.HUB_ADMIN, handler=delete_grant,
        summary="Take a grant back and cut what ran under it.", replies={204: None}, errors=(NotFound, Conflict),
    ),
)  # fmt: skip
