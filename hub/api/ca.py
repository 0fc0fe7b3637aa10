"""`/v1/ca/rotation`: where the replacement of the hub's CA is, and which agents know the new one."""

from __future__ import annotations

from hub.api import models
from hub.api.routes import Call, Reply, Route, Who


async def get_rotation(call: Call) -> Reply:
    await call.services.tunnels.refresh()
    rotation = await call.services.ca_rotation()
    return Reply(
        models.CaRotation(
            phase=rotation.phase.value,
            pin=rotation.pin,
            accepted_pins=list(rotation.accepted),
            agents=[
                models.CaStanding(
                    id=each.agent,
                    cluster=each.cluster,
                    role=each.role,
                    node=each.node,
                    instance=each.instance,
                    connected=each.is_connected,
                    knows=each.knows,
                    keeps=each.keeps,
                    problem=each.problem,
                )
                for each in rotation.agents
            ],
        )
    )


ROUTES = (
    Route(
        method="GET", path="/v1/ca/rotation", name="getCaRotation", who=Who.HUB_ADMIN, handler=get_rotation,
        summary="Where the replacement of the hub's CA is, and which agents know the new one.",
        replies={200: models.CaRotation},
    ),
)  # fmt: skip
