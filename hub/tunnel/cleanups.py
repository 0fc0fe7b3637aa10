"""Who removes a deleted cluster's objects: the process that has the session which the record names.

Everything else of the cluster is cut in the tick that learns of the deletion. This one session is spared to carry the
clean-up and nothing else: no request can choose it, since the cluster is no more. It ends with the clean-up, and within
the second in which the others end, whatever agent and API server do: what was not done by then is left to a person. The
records are hub.clusters.cleanups.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import msgspec

from hub.auth import impersonate
from hub.clusters.cleanups import LIMIT_S, CleanUp, CleanUpIndex, CleanUps, State
from hub.clusters.records import Cluster
from hub.clusters.removal import Ask, NotRemoved, Removal
from hub.store.model import StoreError
from hub.tunnel.ask import Answer, ask
from hub.tunnel.registry import Registry, Tunnel
from proto.aio.tasks import TaskGroup
from proto.errors import Code, RiataError
from proto.messages import Headers
from proto.versions import PRODUCT_VERSION

logger = logging.getLogger(__name__)

ANSWERS_BYTES_MAX: Final = 16 * 1024 * 1024
"""Of all answers of one clean-up together: who deletes a cluster may do so because its agent is in a stranger's hand,
and what was read stays in memory until the end."""
_REASON_MAX: Final = 500
_SHOWN: Final = 200
"""Names in an audit record; a manifest has 50. They are the other side's words."""
_PATCH: Final = b"application/merge-patch+json"
_JSON: Final = b"application/json"


class Cleaner:
    """Hears of deleted clusters and does what their records ask of this process."""

    def __init__(
        self,
        index: CleanUpIndex,
        clean_ups: CleanUps,
        registry: Registry,
        tasks: TaskGroup,
        sweep: Callable[[], Awaitable[object]],
    ) -> None:
        """`sweep` removes from the store what belongs to no cluster."""
        self._index = index
        self._clean_ups = clean_ups
        self._registry = registry
        self._tasks = tasks
        self._sweep = sweep
        self._expiring: asyncio.Task[None] | None = None

    def cluster_gone(self, cluster: Cluster) -> None:
        """Call it before the cluster's sessions are cut."""
        clean_up = self._index.get(cluster.uid)
        if clean_up is None or clean_up.state is not State.RUNNING:
            return
        tunnel = self._registry.spare(cluster.uid, clean_up.instance)
        if tunnel is not None:
            self._tasks.spawn(self._run(clean_up, tunnel), name=f"clean-up-{cluster.name}")

    def expire(self, live: Iterable[str]) -> None:
        """Settle those that nobody works on any more; `live`: uids of the clusters that exist. Call it now and then: it
        waits for nothing, since rights end by the same sweep, also while the disk stands still."""
        if self._expiring is None or self._expiring.done():
            self._expiring = self._tasks.spawn(self._expire(live), name="late clean-ups")

    async def _expire(self, live: Iterable[str]) -> None:
        try:
            await self._clean_ups.expire(self._index, live)
        except StoreError:
            logger.warning("clean-ups could not be looked through")

    async def _run(self, clean_up: CleanUp, tunnel: Tunnel) -> None:
        reason = ""
        removed: list[str] = []
        kept: list[str] = []
        removal = Removal(self._asking(clean_up, tunnel), clean_up.id)
        try:
            async with asyncio.timeout(self._clean_ups.left_s(clean_up)):
                removed, kept = await removal.run()
        except NotRemoved as exc:
            reason = str(exc)
        except TimeoutError:
            reason = f"it was not done within {LIMIT_S:g} s, when the last session ended"
        except RiataError as exc:
            reason = f"the agent's session failed ({exc.code.name.lower()})"
        except (KeyError, TypeError, AttributeError) as exc:  # whatever an agent makes up, the record gets its end
            reason = f"the API server's answers are malformed ({type(exc).__name__})"
        finally:
            self._registry.cut_spared(tunnel, Code.REVOKED)
        if reason:
            reason = f"{reason[:_REASON_MAX]}; {'part' if removal.has_begun else 'nothing'} of it was removed"
        await self._told(clean_up, reason, removed, kept)

    async def _told(self, clean_up: CleanUp, reason: str, removed: list[str], kept: list[str]) -> None:
        removed, kept = ([each[:_REASON_MAX] for each in names[:_SHOWN]] for names in (removed, kept))
        try:
            if reason:
                await self._clean_ups.pending(clean_up, reason)
            else:
                await self._clean_ups.done(clean_up, removed, kept)
            await self._sweep()  # whatever the agent registered while its session was spared
        except StoreError:
            logger.exception("a clean-up's end could not be stored")

    def _asking(self, clean_up: CleanUp, tunnel: Tunnel) -> Ask:
        """Ask the API server behind the tunnel in the name of whoever deleted the cluster."""
        headers = (
            *impersonate.administrator(clean_up.deleted_by, clean_up.groups, f"clean-up-{clean_up.id[:8]}"),
            (b"user-agent", f"riata-hub/{PRODUCT_VERSION}".encode()),
        )
        left = ANSWERS_BYTES_MAX

        async def asked(method: str, path: str, accept: str, body: object) -> tuple[int, Any]:
            nonlocal left
            answer = await _asked(tunnel, headers, method, path, accept, body)
            left -= len(answer.body)
            if left < 0:
                raise NotRemoved(f"the API server's answers have more than {ANSWERS_BYTES_MAX} bytes together")
            return answer.status, _document(answer.body)

        return asked


async def _asked(tunnel: Tunnel, headers: Headers, method: str, path: str, accept: str, body: object) -> Answer:
    content = b"" if body is None else json.dumps(body).encode()
    kind = _PATCH if method == "PATCH" else _JSON
    fields = (*headers, (b"accept", accept.encode()), *(((b"content-type", kind),) if content else ()))
    return await ask(tunnel.link, method, path, fields, content)


def _document(content: bytes) -> Any:
    """None for what is no JSON, or holds a text that is none (half of a surrogate pair): no path and no record takes
    it."""
    try:
        return msgspec.json.decode(content)
    except (ValueError, RecursionError):
        return None
