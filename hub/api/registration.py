"""`POST /v1/clusters`: a cluster becomes known, and its administrator gets what brings the agents in."""

from __future__ import annotations

from typing import Final

from hub.api import models
from hub.api.clusters import shown
from hub.api.manifests import made, values_of
from hub.api.routes import Call, Reply, Route, Who
from hub.audit import Audit
from hub.clusters.records import Cluster
from hub.errors import AlreadyExists, Conflict

_SHOWN: Final = 300
"""Characters of a cluster's labels in an error: it may have 64 of them, of 300 each."""


async def create_cluster(call: Call) -> Reply:
    """Idempotent as to the cluster, also without its labels, and told: each join token is a new one that lets an agent
    in. What the hub's settings lack for a manifest prevents no cluster: it is told."""
    body = call.body
    assert isinstance(body, models.ClusterRequest)
    services = call.services
    cluster, revision, is_new = await services.clusters.create(
        name=body.name, labels=body.labels, created_by=call.caller.user
    )
    if is_new:
        call.audit(Audit.CLUSTER_MADE, cluster=cluster.name, cluster_uid=cluster.uid)
    if body.labels and dict(cluster.labels) != body.labels:
        raise AlreadyExists(_is_other(cluster), kind="clusters", name=body.name)
    await services.follower.reached(revision)
    manifest, obstacle = None, None
    if body.manifest is not None:
        try:
            values_of(services, cluster, body.manifest)
        except Conflict as exc:
            obstacle = exc.message
        else:
            manifest = await made(call, cluster, body.manifest)
    answer = models.NewCluster(
        **shown(services, cluster).model_dump(by_alias=False),
        existed=not is_new,
        command=f"riata clusters manifest {cluster.name} | kubectl apply -f -",
        manifest=manifest,
        obstacle=obstacle,
    )
    return Reply(answer, 201 if is_new else 200)


def _is_other(cluster: Cluster) -> str:
    labels = ", ".join(f"{key}={value}" for key, value in sorted(cluster.labels.items()))
    shown = labels if len(labels) <= _SHOWN else labels[:_SHOWN] + "…"
    has = f"with the labels {shown}" if shown else "without labels"
    return (
        f"there is a cluster {cluster.name!r} already, {has}, which cannot be changed: give no labels or the same, or"
        " take another name. Deleting it would end its grants, its agents' keys and every session"
    )


ROUTES = (
    Route(
        method="POST", path="/v1/clusters", name="createCluster", who=Who.HUB_ADMIN, handler=create_cluster,
        summary="Make a cluster known. Repeating it, with the same labels or without any, changes nothing.",
        request=models.ClusterRequest, replies={201: models.NewCluster, 200: models.NewCluster},
        errors=(AlreadyExists,),
    ),
)  # fmt: skip
