"""`/v1/clusters/{cluster}/nodes`: what the cluster's agent says of its nodes, beside what their own agents say."""

from __future__ import annotations

import datetime

from hub.api import models
from hub.api.clusters import visible_cluster
from hub.api.routes import Call, Reply, Route, Who
from hub.api.services import Services, TunnelStatus
from hub.auth.nodes import ROLE_NODE
from hub.clock import rfc3339
from hub.clusters.nodetable import NodeTable
from hub.clusters.records import Cluster
from hub.errors import ClusterUnavailable, NotFound, PermissionDenied
from hub.slices import in_slices
from proto.nodetable import NodeRow


async def list_nodes(call: Call) -> Reply:
    """As `models.NodeList`, for those who administer the cluster: a grant to use it is none to read its nodes. Made
    once for all who ask meanwhile: an agent may have told megabytes."""
    services, caller = call.services, call.caller
    cluster = visible_cluster(services, caller, call.path["cluster"])
    access = services.authorizer.access(caller, cluster.name)
    if not caller.is_admin and (access is None or not access.is_admin):
        raise PermissionDenied("this needs administration of the cluster", kind="clusters", name=cluster.name)
    return Reply(await services.node_lists.do(cluster.uid, lambda: _list(services, cluster)))


async def _list(services: Services, cluster: Cluster) -> bytes:
    """Raises StoreError."""
    await services.tunnels.refresh(cluster.uid)
    table = await services.node_tables.of_cluster(cluster.uid)
    agents = _agents(services, cluster)
    rows = {} if table is None else table.rows
    items = []
    async for name in in_slices(sorted({*rows, *agents})):
        node = models.ClusterNode(name=name, registered=shown(rows.get(name)), agent=agents.get(name))
        items.append(node.model_dump_json(by_alias=True))
    around = models.NodeList(
        items=[],
        total=None if table is None else table.total,
        registered_by="" if table is None else table.registered_by,
        registered_at=None if table is None else rfc3339(table.registered_at),
        whole=table is not None and table.is_whole,
    ).model_dump_json(by_alias=True)
    head, _, tail = around.partition("[]")
    return f"{head}[{','.join(items)}]{tail}\n".encode()


def _agents(services: Services, cluster: Cluster) -> dict[str, models.NodeAgent]:
    """By node."""
    statuses = [each for each in services.tunnels.status(cluster.uid) if each.role == ROLE_NODE]
    return {status.node: _agent(status) for status in sorted(statuses, key=lambda each: each.connected_since)}


def _agent(status: TunnelStatus) -> models.NodeAgent:
    return models.NodeAgent(
        version=status.version,
        address=status.address,
        connected_since=_time(status.connected_since),
        serves=status.is_eligible,
        facts=facts(status),
    )


def facts(status: TunnelStatus) -> models.NodeFacts:
    """What a node agent says of its node, as the API shows it."""
    said = status.facts
    return models.NodeFacts(
        boot_id=said.boot_id,
        kernel=said.kernel,
        architecture=said.architecture,
        addresses=said.addresses.split(),
        roles=said.roles.split(),
    )


def shown(row: NodeRow | None) -> models.RegisteredNode | None:
    """A row of the table, as the API shows it."""
    if row is None:
        return None
    return models.RegisteredNode(
        roles=row.roles.split(),
        kubelet=row.kubelet,
        os_image=row.system,
        kernel=row.kernel,
        architecture=row.architecture,
        addresses=row.addresses.split(),
        zone=row.zone,
        ready=row.is_ready,
        fallback=row.is_fallback,
    )


def shown_of(table: NodeTable | None, node: str) -> models.RegisteredNode | None:
    """The same, of one node."""
    return None if table is None else shown(table.rows.get(node))


def _time(moment: datetime.datetime) -> str:
    return rfc3339(moment.timestamp())


ROUTES = (
    Route(
        method="GET", path="/v1/clusters/{cluster}/nodes", name="listNodes", who=Who.PRINCIPAL, handler=list_nodes,
        summary="The nodes of a cluster and their agents, for those who administer it.",
        replies={200: models.NodeList}, errors=(NotFound, ClusterUnavailable),
    ),
)  # fmt: skip
