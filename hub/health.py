"""`/livez`, `/readyz`, `/version`, `/v1/ca`: what may be known without a credential."""

from __future__ import annotations

from hub.api import models
from hub.api.routes import Call, Reply, Route, Who
from hub.errors import ClusterUnavailable, NotFound
from proto.versions import PRODUCT_VERSION, WIRE_VERSION

_TEXT = "text/plain"
PEM = "application/x-pem-file"


async def livez(_call: Call) -> Reply:
    """The event loop runs, since it answers. What a restart would not cure is no matter of this."""
    return Reply(b"ok\n", content_type=_TEXT)


async def readyz(call: Call) -> Reply:
    """Not ready: the store is not followed, or the hub drains. The text names the checks, nothing else."""
    failing = call.services.failing_checks()
    if failing:
        return Reply("".join(f"failed: {check}\n" for check in failing).encode(), 503, _TEXT)
    return Reply(b"ok\n", content_type=_TEXT)


async def version(call: Call) -> Reply:
    return Reply(models.Version(version=PRODUCT_VERSION, wire_version=WIRE_VERSION, hub_id=call.services.hub_id))


async def ca(call: Call) -> Reply:
    """Public on purpose: whoever fetches it compares it with a pin before trusting it (design P8)."""
    pem = call.services.ca_pem()
    if not pem:
        raise NotFound("this hub has a certificate of its own; ask its operator for the CA")
    return Reply(pem, content_type=PEM)


ROUTES = (
    Route(
        method="GET", path="/livez", name="livez", who=Who.ANYBODY, handler=livez,
        summary="200 while the process works.", replies={200: _TEXT},
    ),
    Route(
        method="GET", path="/readyz", name="readyz", who=Who.ANYBODY, handler=readyz,
        summary="200 while the hub takes requests, 503 with the failing checks otherwise, also while it drains.",
        replies={200: _TEXT, 503: _TEXT}, errors=(ClusterUnavailable,),
    ),
    Route(
        method="GET", path="/version", name="version", who=Who.ANYBODY, handler=version,
        summary="Versions of the product and of the wire protocol, and the hub's id.", replies={200: models.Version},
    ),
    Route(
        method="GET", path="/v1/ca", name="getCa", who=Who.ANYBODY, handler=ca,
        summary="The hub's CA in PEM form. Compare it with a pin before you trust it.",
        replies={200: PEM}, errors=(NotFound,),
    ),
)  # fmt: skip
