"""`/v1/agents`: who serves the clusters, with which credential, and taking one back."""

from __future__ import annotations

import datetime
import math
from typing import Any, Final

from hub.api import models, nodes
from hub.api.lists import joined
from hub.api.routes import Call, Reply, Route, Who
from hub.api.services import Services, TunnelStatus
from hub.audit import Audit
from hub.auth.agentkeys import AgentKey
from hub.auth.nodes import NODE_PATTERN, ROLE_NODE, credential_id
from hub.auth.retention import KEEP_S
from hub.clock import rfc3339
from hub.clusters.nodetable import NodeTable
from hub.clusters.records import Cluster
from hub.errors import ClusterUnavailable, Conflict, NotFound
from hub.slices import in_slices

_OF_ONE_LIST_S: Final = 10.0
"""How old what other workers have said of their tunnels may be on a page behind the first: each time they are asked all
go through all of them, and 250,000 agents are 25 pages."""


async def list_agents(call: Call) -> Reply:
    """As `models.AgentList`: one entry for each live session, and one for each enrolled agent that has none. Made in
    slices, as the list of clusters is, and on request in pages of whole clusters: the 250,000 agents that a hub may
    have are 200 MB, and a page that ended within a cluster would repeat or miss agents that come and go."""
    services, query = call.services, call.query
    assert isinstance(query, models.AgentQuery)
    clusters = _asked(services, query)
    within_s = 0.0 if query.continue_ is None else _OF_ONE_LIST_S
    await services.tunnels.refresh(clusters[0].uid if len(clusters) == 1 else "", within_s=within_s)
    items: list[str] = []
    async for cluster in in_slices(clusters):
        items += [agent.model_dump_json(by_alias=True) for agent in await _of_cluster(services, cluster)]
        if query.limit is not None and len(items) >= query.limit and cluster is not clusters[-1]:
            return joined(items, more=cluster.name)
    return joined(items)


def _asked(services: Services, query: models.AgentQuery) -> list[Cluster]:
    """The clusters of a page and behind it, by name."""
    if query.cluster is not None:
        cluster = services.cluster_index.get(query.cluster)
        return [] if cluster is None else [cluster]
    behind = query.continue_ or ""
    return [cluster for cluster in services.cluster_index if cluster.name > behind]


async def _of_cluster(services: Services, cluster: Cluster) -> list[models.Agent]:
    statuses = services.tunnels.status(cluster.uid)
    has_nodes = any(status.role == ROLE_NODE for status in statuses)
    table = await services.node_tables.of_cluster(cluster.uid) if has_nodes else None
    connected = {status.credential_id for status in statuses}
    records = sorted(services.agent_key_index.of_cluster(cluster.uid), key=lambda record: record.created_at)
    away = [record for record in records if record.id not in connected and _is_listed(record, services.clock())]
    denied = services.denial_index.of_cluster(cluster.uid)
    return [
        *(_connected(services, cluster, status, table) for status in statuses),
        *(_away(services, cluster, record) for record in away),
        *(_denied(services, cluster, node, since) for node, since in sorted(denied.items())),
    ]


def _is_listed(record: AgentKey, now: float) -> bool:
    """The key of a revoked agent is remembered for longer than anybody wonders why it is refused."""
    return not record.is_barred and (record.revoked_at is None or now - record.revoked_at < KEEP_S)


async def revoke_agent(call: Call) -> Reply:
    services = call.services
    found = _node(call)
    if found is not None:
        return await _deny(call, *found)
    record = _agent(call)
    revoked = await services.agent_keys.revoke(record.cluster_uid, record.id, by=call.caller.user)
    if revoked is None:
        raise NotFound("there is no such agent", kind="agents", name=record.id)
    name = services.cluster_index.name_of(record.cluster_uid)
    call.audit(Audit.AGENT_REVOKED, agent=record.id, cluster=name)
    await services.follower.reached(revoked.revision)
    return Reply(None, 204)


async def _deny(call: Call, cluster: Cluster, node: str) -> Reply:
    """Legal in advance, and told: a name that is a little wrong leaves the node in that was meant."""
    services, agent_id = call.services, call.path["id"]
    is_live = any(status.node == node for status in services.tunnels.status(cluster.uid))  # until it is cut
    revision = await services.denials.deny(cluster.uid, node, by=call.caller.user)
    call.audit(Audit.AGENT_REVOKED, agent=agent_id, cluster=cluster.name)
    await services.follower.reached(revision)
    if is_live or services.tunnels.seen_when(credential_id(cluster.name, node)) is not None:
        return Reply(None, 204)
    table = await services.node_tables.of_cluster(cluster.uid)
    if table is not None and node in table.rows:
        return Reply(None, 204)
    note = f"the hub knows no node {node} of cluster {cluster.name}: one of this name is denied if it ever comes"
    return Reply(models.DeniedInAdvance(id=agent_id, cluster=cluster.name, node=node, note=note))


async def rotate_agent_key(call: Call) -> Reply:
    record = _agent(call)
    if record.is_revoked:
        raise Conflict("this agent was revoked", kind="agents", name=record.id)
    _refuse_within_grace(record, call.services.clock())
    name = call.services.cluster_index.name_of(record.cluster_uid)
    call.audit(Audit.AGENT_KEY_ROTATION_ASKED, agent=record.id, cluster=name)
    why = await call.services.rotate_key(record.id)
    if why:
        raise ClusterUnavailable(f"the agent's key was not replaced: {why}")
    return Reply(None, 204)


def _refuse_within_grace(record: AgentKey, now: float) -> None:
    """An agent that is asked while the last rotation is not over is refused the next one, keeps it, and carries it out
    a minute later, when its operator has been told that it did not. Raises Conflict."""
    ends = [key.until for key in record.keys[:-1] if key.until is not None and key.is_valid(now)]
    if ends:
        raise Conflict(
            f"the agent's key was replaced {max(now - record.current.since, 0.0):.0f} s ago: ask again in"
            f" {math.ceil(max(ends) - now)} s, when the one before it is dead",
            kind="agents",
            name=record.id,
        )


async def readmit_agent(call: Call) -> Reply:
    found = _node(call)
    if found is None:
        raise Conflict("only node agents are let in again; an enrolled agent joins anew with a join token")
    cluster, node = found
    revision = await call.services.denials.allow(cluster.uid, node)
    if revision is None:
        raise NotFound("this node was not revoked", kind="agents", name=call.path["id"])
    call.audit(Audit.AGENT_READMITTED, agent=call.path["id"], cluster=cluster.name)
    await call.services.follower.reached(revision)
    return Reply(None, 204)


def _node(call: Call) -> tuple[Cluster, str] | None:
    """Cluster and node of an id `CLUSTER:NODE`, None for ids of another form. Raises NotFound."""
    name, colon, node = call.path["id"].partition(":")
    if not colon:
        return None
    cluster = call.services.cluster_index.get(name)
    if cluster is None or not NODE_PATTERN.fullmatch(node):
        raise NotFound("there is no such agent", kind="agents", name=call.path["id"])
    return cluster, node


def _agent(call: Call) -> AgentKey:
    """Raises NotFound, with a word to those who mean something else that is listed."""
    agent_id = call.path["id"]
    record = call.services.agent_key_index.get(agent_id)
    is_agent = record is not None and not record.is_barred
    if record is not None and is_agent and call.services.cluster_index.name_of(record.cluster_uid) is not None:
        return record
    if call.services.agent_token_index.get(agent_id) is not None:
        raise NotFound("this agent uses an agent token: revoke that (riata agent-tokens)", kind="agents", name=agent_id)
    raise NotFound("there is no such agent", kind="agents", name=agent_id)


def _connected(services: Services, cluster: Cluster, status: TunnelStatus, table: NodeTable | None) -> models.Agent:
    record = services.agent_key_index.get(status.credential_id)
    return models.Agent(
        **_identity(cluster, status.credential_id, record, status.role, status.node),
        connected=True,
        instance=status.instance,
        address=status.address,
        version=status.version,
        kubernetes=status.kubernetes,
        connected_since=_time(status.connected_since),
        last_seen=rfc3339(services.clock() - status.last_received_age_s),
        rtt_seconds=status.rtt_s,
        node_facts=nodes.facts(status) if status.role == ROLE_NODE else None,
        registered_node=nodes.shown_of(table, status.node) if status.role == ROLE_NODE else None,
    )


def _away(services: Services, cluster: Cluster, record: AgentKey) -> models.Agent:
    return _without_session(services, _identity(cluster, record.id, record, record.role))


def _denied(services: Services, cluster: Cluster, node: str, since: float) -> models.Agent:
    agent_id = credential_id(cluster.name, node)
    identity = _identity(cluster, agent_id, None, ROLE_NODE, node)
    return _without_session(services, {**identity, "revoked_at": rfc3339(since)})


def _without_session(services: Services, identity: dict[str, Any]) -> models.Agent:
    seen = services.tunnels.seen_when(identity["id"])
    return models.Agent(
        **identity,
        connected=False,
        instance="",
        address="",
        version="",
        kubernetes="",
        connected_since=None,
        last_seen=None if seen is None else _time(seen),
        rtt_seconds=None,
        node_facts=None,
        registered_node=None,
    )


def _identity(cluster: Cluster, agent_id: str, record: AgentKey | None, role: str, node: str = "") -> dict[str, Any]:
    revoked_at = None if record is None else record.revoked_at
    return {
        "id": agent_id,
        "cluster": cluster.name,
        "role": role,
        "node": node,
        "credential": "service-account" if role == ROLE_NODE else "token" if record is None else "key",
        "joined_at": None if record is None else rfc3339(record.created_at),
        "key_since": None if record is None else rfc3339(record.current.since),
        "revoked_at": None if revoked_at is None else rfc3339(revoked_at),
    }


def _time(moment: datetime.datetime) -> str:
    return rfc3339(moment.timestamp())


ROUTES = (
    Route(
        method="GET", path="/v1/agents", name="listAgents", who=Who.HUB_ADMIN, handler=list_agents,
        summary="Every agent session, and every enrolled agent without one.", replies={200: models.AgentList},
        query=models.AgentQuery, errors=(ClusterUnavailable,),
    ),
    Route(
        method="DELETE", path="/v1/agents/{id}", name="revokeAgent", who=Who.HUB_ADMIN, handler=revoke_agent,
        summary="Revoke an agent: its sessions are cut; an enrolled key never comes back, a node is denied.",
        replies={200: models.DeniedInAdvance, 204: None}, errors=(NotFound,),
    ),
    Route(
        method="POST", path="/v1/agents/{id}/readmit", name="readmitAgent", who=Who.HUB_ADMIN, handler=readmit_agent,
        summary="Let the agent of a revoked node in again.", replies={204: None}, errors=(NotFound, Conflict),
    ),
    Route(
        method="POST", path="/v1/agents/{id}/rotate-key", name="rotateAgentKey", who=Who.HUB_ADMIN,
        handler=rotate_agent_key, summary="Have a connected agent replace its key now; nothing that runs is cut.",
        replies={204: None}, errors=(NotFound, Conflict),
    ),
)  # fmt: skip
