"""One replica does it: a Lease, held as client-go's leader election holds one (coordination.k8s.io/v1).

No clock is compared with another machine's: a holder is gone when its record has not changed for as long as the record
itself says, measured here. Two holders at once are possible for a moment (a holder that was frozen), and harmless: both
would choose the same nodes.
"""

import datetime
import logging
from collections.abc import Callable
from typing import Any, Final

from agent.kube import KubeApi, KubeError

logger = logging.getLogger(__name__)

DURATION_S: Final = 45
"""Three rounds of the holder."""
CURE: Final = (
    "apply the agent's manifest, which ships it empty; Argo CD leaves Leases out (resource.exclusions), see"
    " docs/operate/integrate.md"
)
"""Where it is missing. The agent may not make it: RBAC cannot name the object of a create."""


def path_of(lease: str) -> str:
    """The API's path of `NAMESPACE/NAME`."""
    namespace, _, name = lease.partition("/")
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}"


class Lease:
    """`NAMESPACE/NAME`, shipped empty by the manifest; the agent may get and update this one."""

    def __init__(
        self,
        api: KubeApi,
        lease: str,
        identity: str,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        """`identity`: of this process, among the replicas. `clock`: monotonic seconds; `wall`: since the epoch."""
        self._api = api
        self._path = path_of(lease)
        self._identity = identity
        self._clock = clock
        self._wall = wall
        self._seen: tuple[str, str] = ("", "")
        """Holder and time of the record, as last seen …"""
        self._seen_at = float("-inf")
        """… and since when it has been this one."""
        self._is_new = False
        """It was somebody else's, or nobody's, before the last write that may have been applied."""
        self.is_held = False
        self.is_taken = False
        """The last `hold` took it, or found that one before had: it was nobody's, or somebody else's, until then."""

    async def hold(self) -> bool:
        """Take it, or keep it. False: somebody else has it. Raises KubeError (it is not held then)."""
        self.is_held = False
        try:
            document = await self._api.get(self._path)
        except KubeError as exc:
            if exc.status == 404:
                raise KubeError(404, f"{exc}: {CURE}") from exc
            raise
        spec = _spec(document)
        holder = spec.get("holderIdentity") or ""
        if holder not in {"", self._identity} and not self._is_over(holder, spec):
            return False
        self._is_new |= holder != self._identity
        self.is_held = await self._write(document, spec, holder)
        self.is_taken = self.is_held and self._is_new
        self._is_new &= not self.is_held
        return self.is_held

    async def release(self) -> None:
        """Let another one take it at once. Does nothing when it is not held; never raises for the API server's sake."""
        if not self.is_held:
            return
        self.is_held = False
        try:
            document = await self._api.get(self._path)
            spec = _spec(document)
            if spec.get("holderIdentity") == self._identity:
                await self._api.put(self._path, {**document, "spec": {**spec, "holderIdentity": ""}})
        except KubeError as exc:
            logger.info("the Lease was not released and will run out", extra={"error": str(exc)})

    def _is_over(self, holder: str, spec: dict[str, Any]) -> bool:
        """Whether the holder has not renewed for as long as it said."""
        seen, now = (holder, str(spec.get("renewTime"))), self._clock()
        if seen != self._seen:
            self._seen, self._seen_at = seen, now
        seconds = spec.get("leaseDurationSeconds")
        return now - self._seen_at >= (seconds if type(seconds) is int and 0 < seconds < 3600 else DURATION_S)

    async def _write(self, document: Any, spec: dict[str, Any], holder: str) -> bool:
        now = datetime.datetime.fromtimestamp(self._wall(), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        ours = {**spec, "holderIdentity": self._identity, "leaseDurationSeconds": DURATION_S, "renewTime": now}
        if holder != self._identity:
            turns = spec.get("leaseTransitions")
            ours |= {"acquireTime": now, "leaseTransitions": turns + 1 if type(turns) is int else 0}
        try:
            await self._api.put(self._path, {**document, "spec": ours})
        except KubeError as exc:
            if exc.status == 409:  # the other replica was faster
                return False
            raise
        return True


def _spec(document: Any) -> dict[str, Any]:
    spec = document.get("spec") if isinstance(document, dict) else None
    return spec if isinstance(spec, dict) else {}
