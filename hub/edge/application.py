"""What the connection and the relay know of each other. Everything is called in the event loop and never blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from hub import errors
from hub.edge.framing import Request

TUNNEL_PATH: Final = "/v1/tunnel"
"""Where agents connect (design P5)."""


class Front(Protocol):
    """The client's connection as an exchange sees it. Every method is a no-op once the connection is gone."""

    @property
    def is_writable(self) -> bool:
        """False while the socket's buffer is full: withhold the agent's credit until `Exchange.drained`."""

    def write(self, data: bytes | memoryview) -> None:
        """Queue response bytes; what is queued in one turn of the loop leaves together, as far as there is room. What a
        view is of must not change."""

    def flush(self) -> None:
        """Write now what is queued, as far as there is room."""

    def be_frugal(self, is_short: bool) -> None:
        """Let the socket hold as little as possible, memory is short; or as much as is best."""

    def send_continue(self) -> None:
        """Answer `Expect: 100-continue`, once, and only if the client asked for it."""

    def pause_body(self) -> None: ...

    def resume_body(self) -> None: ...

    def become_opaque(self) -> None:
        """From now on everything that the client sends goes to `Exchange.body` as it is; there is no next request."""

    def finish(self, *, is_reusable: bool) -> None:
        """The response is complete. The connection is closed unless it `is_reusable` and the request was read whole."""

    @property
    def unsent_bytes(self) -> int:
        """Response bytes that the socket has not taken yet."""

    def unhurried(self) -> None:
        """The body of this request may come as slowly as it likes: what it goes to is a program, not an API."""

    def when_drained(self, call: Callable[[], None]) -> None:
        """Run `call` once, when the socket has room again or is gone. For a front that is not writable."""

    def abort(self) -> None:
        """Break the transfer visibly: the client must not take what it has for the whole."""


class Exchange(Protocol):
    """One request under way."""

    def body(self, data: bytes) -> None: ...

    def body_complete(self) -> None: ...

    def body_failed(self, error: errors.HubError) -> None:
        """The body is malformed or too slow; the exchange ends itself with this error if it still can."""

    def drained(self) -> None:
        """The client's socket has room again."""

    def client_eof(self) -> None:
        """An opaque connection: the client will send no more."""

    def gone(self) -> None:
        """The connection is lost; the last call."""


class Application(Protocol):
    """What answers the requests under /k8s/."""

    def begin(self, front: Front, request: Request) -> Exchange | None:
        """Start; None when the request was answered already."""

    def refused(self, peer: str, error: errors.HubError, request: Request | None) -> str:
        """A request that the edge answers itself: for metrics and the access log. Returns its id."""


class Tunnels(Protocol):
    """What serves the requests for TUNNEL_PATH."""

    def take(self, transport: asyncio.Transport, request: Request, early: bytes, when_lost: Callable[[], None]) -> None:
        """The connection is yours, with the bytes that came behind the request head. Calls `when_lost` at its end."""

    def __len__(self) -> int:
        """Connections that were taken and are open."""

    @property
    def greetings(self) -> int:
        """Those of them that have not shown yet who they are."""

    async def aclose(self) -> None:
        """End them all, in order where they let it."""
