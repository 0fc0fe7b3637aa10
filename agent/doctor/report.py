"""`riata-agent doctor`: the settings, the way to the hub, the API server; printed, and an exit code."""

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable
from typing import Final, Literal

from agent import kubeconfig, proof
from agent.config import Settings
from agent.doctor import causes, cluster, running, way
from agent.errors import ConfigError
from agent.kube import KubeApi
from proto import findings
from proto.findings import Finding, good

SETTINGS: Final = "settings"
Form = Literal["table", "json"]


def run(read: Callable[[], Settings], form: Form) -> int:
    """Examine and print. `read` makes the settings and may raise ConfigError. Returns the exit code."""
    found = asyncio.run(examine(read))
    if form == "json":
        sys.stdout.write(json.dumps(findings.document(found), indent=2) + "\n")
    else:
        sys.stdout.write(findings.render(found))
    return findings.exit_code(found)


async def examine(read: Callable[[], Settings]) -> list[Finding]:
    """Every finding, in order. Nothing is changed, at the hub or in the cluster."""
    try:
        settings = read()
        access = kubeconfig.access(settings.kube)
    except ConfigError as exc:
        cause = causes.SETTINGS_PIN if "--hub-ca-pin" in str(exc) else causes.SETTINGS_WRONG
        others = (running.CHECK, *way.CHECKS[:-1], way.CLOCK, way.CHECKS[-1], cluster.KUBE, cluster.TOKEN, cluster.RBAC)
        wrong = findings.bad(cause, causes.NAMES, said=str(exc))
        return [wrong, *(findings.not_run(check, SETTINGS) for check in others)]
    async with contextlib.AsyncExitStack() as stack:
        api = KubeApi(access)
        stack.push_async_callback(api.close)
        credential, _ = proof.choose(settings, access, stack)
        agent, to_hub, here = await asyncio.gather(
            running.examine(settings.serve.health_listen),
            way.examine(settings, credential, proof.wall_clock(), proof.ca_store(settings, access, stack)),
            cluster.examine(settings, access, api),
        )
    return [good(SETTINGS, f"mode {settings.mode}, hub {settings.hub.url}"), agent, *to_hub, *here]
