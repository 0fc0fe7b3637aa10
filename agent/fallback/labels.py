"""Keeping the label on the chosen nodes: a round every 15 seconds by the replica that holds the Lease.

It goes on whether or not the hub can be reached. Rights: nodes get, list and patch (a ValidatingAdmissionPolicy leaves
of the last one this label), pods of the own namespace, one Lease, one ConfigMap, one EndpointSlice.
"""

import asyncio
import contextlib
import logging
import random
import socket
import time
from collections.abc import AsyncIterator, Iterator
from typing import Final

from agent.counts import Counts
from agent.errors import TokenUnavailable
from agent.fallback.choose import LABEL, VALUE, Change, choose
from agent.fallback.endpoints import ControlPlaneEndpoints
from agent.fallback.lease import Lease
from agent.fallback.nodes import Nodes
from agent.issuer import own_name
from agent.kube import KubeApi, KubeError
from agent.kubeconfig import KubeAccess
from agent.proof import wall_clock
from proto.aio.tasks import TaskGroup

logger = logging.getLogger(__name__)

INTERVAL_S: Final = 15.0
RELEASE_S: Final = 2.0
"""What the end may wait for giving the Lease back."""
REMIND_ROUNDS: Final = 20
"""Rounds after which an unchanged failure is logged again."""
PUBLISH_ROUNDS: Final = 4
"""Rounds from one look at the control plane's endpoints to the next."""
ENDPOINTS_SUFFIX: Final = "-endpoints"
"""What the ConfigMap of the endpoints has behind the Lease's name."""
_REFUSED: Final = frozenset({400, 403, 422})
"""How RBAC, policies and admission webhooks say no: they do so the next time too."""


class FallbackLabels:
    """`run()` until cancelled."""

    def __init__(
        self, api: KubeApi, lease: Lease, nodes: Nodes, endpoints: ControlPlaneEndpoints, counts: Counts
    ) -> None:
        self._api = api
        self._lease = lease
        self._nodes = nodes
        self._endpoints = endpoints
        self._counts = counts
        self._rounds = 0
        self._failure: set[tuple[str, object]] = set()
        self._failed_rounds = 0

    async def run(self) -> None:
        """Never raises for the API server's sake. Cancelling gives the Lease back."""
        try:
            while True:
                await self._attempt()
                await asyncio.sleep(INTERVAL_S * random.uniform(0.9, 1.1))  # noqa: S311 - spreads replicas, no secret
        finally:
            try:
                async with asyncio.timeout(RELEASE_S):
                    await self._lease.release()
            except TimeoutError:
                logger.info("the Lease was not released in time and will run out")

    async def _attempt(self) -> None:
        failures: list[Exception] = []
        was_held = self._lease.is_held
        with _noted(failures):
            if await self._lease.hold():
                if self._lease.is_taken:
                    self._nodes.forget()
                if not was_held:
                    logger.info("this replica chooses the fallback nodes")
                with _noted(failures):
                    await self._label(failures)
                await self._publish()
        self._counts.leads_fallback = self._lease.is_held
        self._report(failures)

    def _report(self, failures: list[Exception]) -> None:
        """What went wrong in a round. The same for other nodes is nothing new: each round may try others."""
        kinds: set[tuple[str, object]] = {(type(each).__name__, getattr(each, "status", 0)) for each in failures}
        self._failed_rounds = self._failed_rounds + 1 if failures else 0
        if not kinds <= self._failure or (failures and self._failed_rounds % REMIND_ROUNDS == 0):
            error = "; ".join(dict.fromkeys(map(str, failures)))
            logger.warning("fallback nodes not looked after", extra={"error": error})
        self._failure = kinds

    async def _label(self, failures: list[Exception]) -> None:
        """A node whose label may not be changed, as by a policy of the cluster, keeps no other from its change."""
        found = await self._nodes.look()
        chosen = {node.name for node in found if node.is_chosen}
        refused: set[str] = set()
        for change in choose(found):
            if change.behind in refused:
                continue
            try:
                await self._apply(change)
            except KubeError as exc:
                if not exc.status:  # nobody answered: the others would only make the round longer than the Lease
                    raise
                failures.append(exc)
                refused.add(change.node)
                if change.gains and exc.status in _REFUSED:
                    self._nodes.refused(change.node)
                elif change.behind:
                    await self._take_back(change.behind, chosen)
            else:
                self._note(change, chosen)
        self._counts.fallback_nodes = len(chosen)

    async def _take_back(self, node: str, chosen: set[str]) -> None:
        """It gained its label for another one's, who does not let go of it: never more than there are places. Raises
        KubeError."""
        await self._apply(Change(node, gains=False, why="the other one's label may not be taken away"))
        chosen.discard(node)
        self._nodes.refused(node)

    def _note(self, change: Change, chosen: set[str]) -> None:
        if change.gains:
            chosen.add(change.node)
        else:
            chosen.discard(change.node)
            self._nodes.lost(change.node, change.why)

    async def _publish(self) -> None:
        """One that fails is tried again in the next round."""
        if self._rounds % PUBLISH_ROUNDS == 0:
            await self._endpoints.publish()
        self._rounds += 1

    async def _apply(self, change: Change) -> None:
        value = VALUE if change.gains else None
        await self._api.patch(f"/api/v1/nodes/{change.node}", {"metadata": {"labels": {LABEL: value}}})
        self._counts.fallback_changes["chosen" if change.gains else "released"] += 1
        logger.info(
            "fallback node chosen" if change.gains else "fallback node released",
            extra={"node": change.node, "reason": change.why},
        )


@contextlib.contextmanager
def _noted(failures: list[Exception]) -> Iterator[None]:
    """What ends the block is kept there, where it is the API server's or the credential's doing."""
    try:
        yield
    except (KubeError, TokenUnavailable, ValueError) as exc:
        failures.append(exc)


@contextlib.asynccontextmanager
async def serving(
    lease: str, access: KubeAccess, counts: Counts, instance: bytes, group: TaskGroup
) -> AsyncIterator[None]:
    """Look after the fallback nodes as a task of `group` for as long as the block runs. `lease`: NAMESPACE/NAME."""
    api = KubeApi(access)
    namespace = lease.partition("/")[0]
    task = group.spawn(_labels(api, lease, namespace, access, counts, instance).run(), name="fallback labels")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))
        await api.close()


def _labels(
    api: KubeApi, lease: str, namespace: str, access: KubeAccess, counts: Counts, instance: bytes
) -> FallbackLabels:
    try:
        account = own_name(access).rpartition(":")[2]
    except (ValueError, TokenUnavailable):  # outside Kubernetes: whose pods they would be is not known
        account = ""
    return FallbackLabels(
        api,
        Lease(api, lease, f"{socket.gethostname()}_{instance.hex()[:8]}", clock=time.monotonic, wall=wall_clock),
        Nodes(api, namespace, account, clock=time.monotonic, wall=wall_clock),
        ControlPlaneEndpoints(api, f"{lease}{ENDPOINTS_SUFFIX}"),
        counts,
    )
