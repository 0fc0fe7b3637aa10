"""What is applied in a cluster so that its agent joins, a join token inside: made for an administrator
(`/v1/clusters/{cluster}/manifest`), or fetched by whoever holds the join token (`/v1/manifest`)."""

from __future__ import annotations

import dataclasses

from hub import audit
from hub.api import models
from hub.api.clusters import visible_cluster
from hub.api.jointokens import mint
from hub.api.routes import Call, Reply, Route, Who
from hub.api.services import Services
from hub.audit import Audit
from hub.auth.nodes import audience
from hub.clock import rfc3339
from hub.clusters import forms, manifest
from hub.clusters.manifest import ManifestError, ManifestValues
from hub.clusters.records import Cluster
from hub.errors import Conflict, NotFound, TooManyRequests, Unauthenticated
from proto import pins

_NO_TOKEN = "checked-first"  # noqa: S105 no secret: it stands for the token until everything else is known to be good


async def create_manifest(call: Call) -> Reply:
    body = call.body
    assert isinstance(body, models.ManifestRequest)
    cluster = visible_cluster(call.services, call.caller, call.path["cluster"])
    return Reply(await made(call, cluster, body), 201)


async def made(call: Call, cluster: Cluster, body: models.ManifestRequest) -> models.NewManifest:
    """A new join token and all that is made with it. Raises Conflict.

    Everything is checked before the token is made: a request that cannot be served leaves nothing behind.
    """
    values = values_of(call.services, cluster, body)
    form = body.model_dump(by_alias=True, exclude_defaults=True, exclude={"expires_in_seconds"})
    record, minted = await mint(call, cluster, body.expires_in_seconds, form)
    values = dataclasses.replace(values, token=minted.text)
    return models.NewManifest(
        cluster=cluster.name,
        join_token=record.id,
        expires_at=rfc3339(record.expires_at),
        manifest=manifest.dump(manifest.documents(values)),
        shell=forms.shell(values),
        values=forms.helm(values),
    )


async def fetch_manifest(call: Call) -> Reply:
    """The token says which cluster, and what its manifest is like. Fetching does not use it up."""
    services = call.services
    token = services.join_token_index.presented(call.bearer)
    if token is None:
        raise Unauthenticated
    services.fetches.take(token.id)
    services.fetches.keep({record.id for record in services.join_token_index})
    if token.is_expired(services.clock()):
        raise Unauthenticated(f"the join token expired at {rfc3339(token.expires_at)}: make a new manifest")
    cluster = services.cluster_index.by_uid(token.cluster_uid)
    if cluster is None:
        raise Unauthenticated
    values = values_of(services, cluster, models.ManifestRequest.model_validate(token.form))
    text = manifest.dump(manifest.documents(dataclasses.replace(values, token=call.bearer.decode("ascii"))))
    audit.record(Audit.MANIFEST_FETCHED, cluster=cluster.name, token_id=token.id, peer=call.peer)
    return Reply(text.encode(), content_type="application/yaml")


def values_of(services: Services, cluster: Cluster, body: models.ManifestRequest) -> ManifestValues:
    """Raises Conflict: the hub's own settings do not allow a manifest."""
    known = list(services.joining_pins())
    if not known:
        raise Conflict(
            "the hub knows no CA by which its agents could verify it: set tls_ca, or agent_ca and agent_pins;"
            " and public_url"
        )
    ca = services.joining_ca()
    try:
        if not ca or known[0] not in pins.pins_of_pem(ca):  # they would meet a certificate of another one for ever
            raise Conflict(
                f"the hub does not have the CA that its agents meet ({known[0]}): name the file of it in agent_ca, or"
                " first in agent_pins the one that they do meet"
            )
        return ManifestValues(
            hub_url=services.hub_url(),
            ca_pins=tuple(known[:2]),
            token=_NO_TOKEN,
            image=body.image or services.settings.agent_image,
            cluster_uid=cluster.uid,
            ca_pem=pins.keep_pinned(ca, known[:2]).decode("ascii"),
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
    Route(
        method="GET", path=forms.PATH, name="fetchManifest", who=Who.JOIN_TOKEN, handler=fetch_manifest,
        replies={200: "application/yaml"}, errors=(Conflict, TooManyRequests),
        summary="The manifest of the join token's cluster, that token inside. Fetching does not use the token up.",
    ),
)  # fmt: skip
