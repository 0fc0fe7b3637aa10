"""`/v1/clusters` and the agent tokens of a cluster. hub.api.registration makes clusters."""

from __future__ import annotations

from hub.api import models
from hub.api.lists import joined
from hub.api.routes import Call, Reply, Route, Who
from hub.api.services import Services, TunnelStatus
from hub.audit import Audit
from hub.auth.agents import AgentToken
from hub.auth.nodes import ROLE_NODE
from hub.auth.principal import Principal
from hub.clock import rfc3339
from hub.clusters.cleanups import CleanUp, State
from hub.clusters.records import Cluster
from hub.errors import NO_CLUSTER, Conflict, NotFound, PermissionDenied
from hub.slices import in_slices


def visible_cluster(services: Services, principal: Principal, name: str) -> Cluster:
    """The cluster of a name if the principal may know of it. For others a cluster that exists and one that does not
    are the same PermissionDenied; hub administrators get NotFound. Neither message repeats the name: it may be of any
    length, and a whole token that was pasted."""
    cluster = services.cluster_index.get(name)
    if principal.is_admin and cluster is None:
        raise NotFound("there is no such cluster", kind="clusters", name=name)
    if cluster is None or (not principal.is_admin and services.authorizer.access(principal, name) is None):
        raise PermissionDenied(NO_CLUSTER, kind="clusters", name=name)
    return cluster


async def list_clusters(call: Call) -> Reply:
    """As `models.ClusterList`, made in slices: a thousand clusters with five tunnels each take the loop 130 ms, and
    everybody's keystrokes would wait for one administrator's list. Without node agents that do not serve: there are
    six thousand in one cluster, and clients take 32 MiB."""
    services, caller = call.services, call.caller
    await services.tunnels.refresh()
    return joined(
        [
            shown(services, cluster, serving_only=True).model_dump_json(by_alias=True)
            async for cluster in in_slices(services.cluster_index)
            if caller.is_admin or services.authorizer.access(caller, cluster.name) is not None
        ]
    )


async def get_cluster(call: Call) -> Reply:
    cluster = visible_cluster(call.services, call.caller, call.path["cluster"])
    await call.services.tunnels.refresh(cluster.uid)
    return Reply(shown(call.services, cluster))


async def delete_cluster(call: Call) -> Reply:
    """What riata made in the cluster is written down before anything is deleted: nobody could find it out later."""
    services, name = call.services, call.path["cluster"]
    cluster = visible_cluster(services, call.caller, name)
    clean_up = await _clean_up(services, cluster, call.caller)

    def tell() -> None:
        call.audit(Audit.CLUSTER_DELETED, cluster=name, cluster_uid=cluster.uid)
        if clean_up is not None and clean_up.state is State.PENDING:  # nobody would tell of it later
            call.audit(Audit.CLEAN_UP_PENDING, cluster=name, cluster_uid=cluster.uid, reason=clean_up.reason)

    revision = await services.clusters.delete(name, uid=cluster.uid, on_deleted=tell)
    if revision is None:
        raise NotFound("there is no such cluster", kind="clusters", name=name)
    await services.follower.reached(revision)
    return Reply(None, 204) if clean_up is None else Reply(shown_clean_up(clean_up), 200)


async def _clean_up(services: Services, cluster: Cluster, caller: Principal) -> CleanUp | None:
    """None for a cluster that nobody was ever given anything for."""
    uid = cluster.uid
    if not (
        services.join_token_index.of_cluster(uid)
        or services.agent_token_index.of_cluster(uid)
        or services.agent_key_index.of_cluster(uid)
    ):
        return None
    instance = services.tunnels.route_now(uid).instance
    return await services.clean_ups.begin(
        uid=uid, cluster=cluster.name, user=caller.user, groups=caller.groups, instance=instance
    )


def shown_clean_up(clean_up: CleanUp) -> models.CleanUp:
    """As the API shows it."""
    return models.CleanUp(
        id=clean_up.id,
        cluster=clean_up.cluster,
        deleted_at=rfc3339(clean_up.deleted_at),
        deleted_by=clean_up.deleted_by,
        state=clean_up.state.value,
        since=rfc3339(clean_up.since),
        reason=clean_up.reason,
        command=clean_up.command,
    )


async def list_agent_tokens(call: Call) -> Reply:
    cluster = visible_cluster(call.services, call.caller, call.path["cluster"])
    records = sorted(call.services.agent_token_index.of_cluster(cluster.uid), key=lambda record: record.created_at)
    return Reply(models.AgentTokenList(items=[_agent_token(record, cluster) for record in records]))


async def create_agent_token(call: Call) -> Reply:
    body = call.body
    assert isinstance(body, models.AgentTokenRequest)
    services = call.services
    cluster = visible_cluster(services, call.caller, call.path["cluster"])
    record, minted, revision = await services.agent_tokens.create(
        cluster_uid=cluster.uid,
        name=body.name,
        lifetime_s=body.expires_in_seconds,
        created_by=call.caller.user,
    )
    call.audit(Audit.AGENT_TOKEN_MADE, cluster=cluster.name, token_id=record.id)
    await services.follower.reached(revision)
    if services.cluster_index.by_uid(cluster.uid) is None:
        await services.clusters.sweep()
        raise Conflict("the cluster was deleted meanwhile", kind="clusters", name=cluster.name)
    shown = _agent_token(record, cluster).model_dump(by_alias=False)
    return Reply(models.NewAgentToken(**shown, token=minted.text), 201)


async def revoke_agent_token(call: Call) -> Reply:
    cluster = visible_cluster(call.services, call.caller, call.path["cluster"])
    record = call.services.agent_token_index.get(call.path["id"])
    is_known = record is not None and record.cluster_uid == cluster.uid
    revision = await call.services.agent_tokens.revoke(cluster.uid, call.path["id"]) if is_known else None
    if revision is None:
        raise NotFound("the cluster has no such agent token", kind="agent-tokens", name=call.path["id"])
    call.audit(Audit.AGENT_TOKEN_REVOKED, cluster=cluster.name, token_id=call.path["id"])
    await call.services.follower.reached(revision)
    return Reply(None, 204)


def shown(services: Services, cluster: Cluster, *, serving_only: bool = False) -> models.Cluster:
    """The cluster as the API shows it. `serving_only`: of its tunnels."""
    statuses = services.tunnels.status(cluster.uid)
    tunnels = [_tunnel(services, status) for status in statuses if status.is_eligible or not serving_only]
    lost = services.tunnels.lost_when(cluster.uid)
    route = services.tunnels.route_now(cluster.uid)
    return models.Cluster(
        name=cluster.name,
        uid=cluster.uid,
        labels=dict(cluster.labels),
        created_at=rfc3339(cluster.created_at),
        joined=_has_joined(services, cluster.uid),
        connected=route.role != "none",
        route=models.RouteNow(
            role=route.role,
            node=route.node,
            instance=route.instance,
            reason=route.reason,
            since=None if route.since is None else rfc3339(route.since.timestamp()),
        ),
        fallback_nodes=sorted({tunnel.node for tunnel in tunnels if tunnel.serves and tunnel.role == ROLE_NODE}),
        node_agents=len({status.instance for status in statuses if status.role == ROLE_NODE}),
        agent_versions=sorted({status.version for status in statuses}),
        tunnels=tunnels,
        last_lost_at=None if lost is None else rfc3339(lost.timestamp()),
    )


def _has_joined(services: Services, uid: str) -> bool:
    """Of the records: who was connected is forgotten when the hub restarts. A token that has expired counts: its agent
    is away for that reason."""
    if services.agent_token_index.of_cluster(uid):
        return True
    return any(not key.is_revoked for key in services.agent_key_index.of_cluster(uid))  # those that are barred are


def _tunnel(services: Services, status: TunnelStatus) -> models.Tunnel:
    return models.Tunnel(
        role=status.role,
        node=status.node,
        instance=status.instance,
        address=status.address,
        version=status.version,
        kubernetes=status.kubernetes,
        connected_since=rfc3339(status.connected_since.timestamp()),
        last_seen=rfc3339(services.clock() - status.last_received_age_s),
        rtt_seconds=status.rtt_s,
        streams=status.streams,
        serves=status.is_eligible,
    )


def _agent_token(record: AgentToken, cluster: Cluster) -> models.AgentToken:
    return models.AgentToken(
        id=record.id,
        name=record.name,
        cluster=cluster.name,
        created_at=rfc3339(record.created_at),
        created_by=record.created_by,
        expires_at=None if record.expires_at is None else rfc3339(record.expires_at),
    )


_ONE = "/v1/clusters/{cluster}"
_TOKENS = "/v1/clusters/{cluster}/agent-tokens"

ROUTES = (
    Route(
        method="GET", path="/v1/clusters", name="listClusters", who=Who.PRINCIPAL, handler=list_clusters,
        summary="The clusters that the caller may use.", replies={200: models.ClusterList},
    ),
    Route(
        method="GET", path=_ONE, name="getCluster", who=Who.PRINCIPAL, handler=get_cluster,
        summary="One cluster with its live tunnels.", replies={200: models.Cluster}, errors=(NotFound,),
    ),
    Route(
        method="DELETE", path=_ONE, name="deleteCluster", who=Who.HUB_ADMIN, handler=delete_cluster,
        summary="Delete a cluster: keys, tokens, grants and sessions end; what riata made there is removed, or noted.",
        replies={200: models.CleanUp, 204: None}, errors=(NotFound, Conflict),
    ),
    Route(
        method="GET", path=_TOKENS, name="listAgentTokens", who=Who.HUB_ADMIN, handler=list_agent_tokens,
        summary="The agent tokens of a cluster, without their secrets.",
        replies={200: models.AgentTokenList}, errors=(NotFound,),
    ),
    Route(
        method="POST", path=_TOKENS, name="createAgentToken", who=Who.HUB_ADMIN, handler=create_agent_token,
        summary="Make a token with which agents of the cluster connect. Its text is shown once.",
        request=models.AgentTokenRequest, replies={201: models.NewAgentToken}, errors=(NotFound, Conflict),
    ),
    Route(
        method="DELETE", path=f"{_TOKENS}/{{id}}", name="revokeAgentToken", who=Who.HUB_ADMIN,
        handler=revoke_agent_token, summary="Revoke an agent token and cut the sessions that use it.",
        replies={204: None}, errors=(NotFound,),
    ),
)  # fmt: skip
