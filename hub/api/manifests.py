"""`/v1/clusters/{cluster}/manifest`: what is applied in a cluster so that its agent joins, a join token inside."""

from __future__ import annotations

import dataclasses

from hub.api import models
from hub.api.clusters import visible_cluster
from hub.api.jointokens import mint
from hub.api.routes import Call, Reply, Route, Who
from hub.api.services import Services
from hub.auth.nodes import audience
from hub.clock import rfc3339
from hub.clusters import manifest
from hub.clusters.manifest import ManifestError, ManifestValues
from hub.clusters.records import Cluster
from hub.errors import Conflict, NotFound
from proto import pins

_NO_TOKEN = "checked-first"  # noqa: S105 no secret: it stands for the token until everything else is known to be good


async def create_manifest(call: Call) -> Reply:
    """Everything is checked before a token is made: a request that cannot be served leaves nothing behind."""
    body = call.body
    assert isinstance(body, models.ManifestRequest)
    services = call.services
    cluster = visible_cluster(services, call.caller, call.path["cluster"])
    values = _values(services, cluster, body)
    record, minted = await mint(services, cluster, body.expires_in_seconds, call.caller.user)
    text = manifest.dump(manifest.documents(dataclasses.replace(values, token=minted.text)))
    shown = models.NewManifest(
        cluster=cluster.name, join_token=record.id, expires_at=rfc3339(record.expires_at), manifest=text
    )
    return Reply(shown, 201)


def _values(services: Services, cluster: Cluster, body: models.ManifestRequest) -> ManifestValues:
    """Raises Conflict: the hub's own settings do not allow a manifest."""
    known = sorted(services.agent_pins())
    if not known:
        raise Conflict("the hub serves no TLS and knows no pin for its agents: set agent_pins, and public_url")
    ca = services.ca_pem()
    try:
        is_ours = bool(ca) and bool(set(pins.pins_of_pem(ca)) & set(known[:2]))
        return ManifestValues(
            hub_url=services.hub_url(),
            ca_pins=tuple(known[:2]),
            token=_NO_TOKEN,
            image=body.image or services.settings.agent_image,
            ca_pem=pins.keep_pinned(ca, known[:2]).decode("ascii") if is_ours else "",
            audience=audience(services.hub_id, cluster.uid),
            node_agents=body.node_agents,
            profile=body.profile,
            cluster_admins=body.cluster_admins,
        )
    except (ManifestError, pins.PinError) as exc:
        raise Conflict(f"no manifest can be made: {exc}; see public_url, agent_pins and api.agent_image") from exc


ROUTES = (
    Route(
        method="POST", path="/v1/clusters/{cluster}/manifest", name="createManifest", who=Who.HUB_ADMIN,
        handler=create_manifest, request=models.ManifestRequest, replies={201: models.NewManifest},
        summary="Make a join token, and the manifest that brings the cluster's agents in with it.",
        errors=(NotFound, Conflict),
    ),
)  # fmt: skip
