"""TLS sessions with the API server that are taken up again, without its certificate and what that costs to check.

Each exec, port-forward and watch of a burst takes a connection of its own, and a full handshake is half of what an exec
costs the agent (ADR 28). Whoever has been verified by a context in the last minute may go on under it, by the name it
was verified for (RFC 8446 §2.2). A server that does not know the session (another one of several, or restarted) asks
for a full handshake, and nobody notices. A ticket serves more than once, which §C.4 of that RFC advises against where
somebody who listens must not see that two connections are of the same client: here all are the agent's.
"""

import math
import ssl
import time
from collections.abc import Callable
from typing import Final

from proto.aio.tls import RecordReads

KEPT_S: Final = 60.0
"""For how long after the full handshake: what has changed about a server or its certificate is noticed by then."""
PAUSE_S: Final = 600.0
"""For how long no session is taken up when a handshake with one went wrong: a proxy or a firewall in front of the API
server may break off every such handshake, and would every minute."""


class Sessions:
    """The last full handshake with each name, under one context."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._kept: dict[str | None, tuple[ssl.SSLSession, float]] = {}
        self._paused_until = -math.inf
        self.offers = 0
        """Handshakes that took up a session so far."""

    def of(self, name: str | None) -> ssl.SSLSession | None:
        """The session to offer to the server of this name."""
        session, since = self._kept.get(name, (None, 0.0))
        if session is None or self.clock() - since < KEPT_S:
            return session
        del self._kept[name]
        return None

    def keep(self, name: str | None, session: ssl.SSLSession, since: float) -> None:
        """Of a full handshake at `since`; a resumed one has verified nobody."""
        if self.clock() >= self._paused_until:
            self._kept[name] = session, since

    def pause(self, for_s: float) -> None:
        """Forget them all, and keep none for so long."""
        self._kept.clear()
        self._paused_until = self.clock() + for_s


class Resumable(RecordReads):
    """A client's end of a connection that offers a kept session when its handshake begins."""

    sessions: Sessions
    _has_begun = False
    _since = -math.inf

    def do_handshake(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            session = self.sessions.of(self.server_hostname)
            if session is not None:
                self.sessions.offers += 1
                self.session = session
        super().do_handshake()
        self._since = self.sessions.clock()

    def keep(self) -> None:
        """Call when the server has sent something: by TLS 1.3 its tickets come behind the handshake."""
        if self.session_reused or self.sessions.of(self.server_hostname) is not None:
            return
        session = self.session
        if session is not None and session.has_ticket:
            self.sessions.keep(self.server_hostname, session, self._since)


def attach(context: ssl.SSLContext, clock: Callable[[], float] = time.monotonic) -> None:
    """Have a client's context resume its sessions. Another context, with other CAs, knows nothing of them."""
    context.sslobject_class = type("ResumableOfContext", (Resumable,), {"sessions": Sessions(clock)})


def keep(connection: object) -> None:
    """Keep the session of a connection (`get_extra_info("ssl_object")`), if it is one that can be resumed."""
    if isinstance(connection, Resumable):
        connection.keep()


def offers(context: ssl.SSLContext) -> int:
    """How many handshakes have taken up a session so far. They do when they begin, long after somebody dials."""
    sessions = _sessions_of(context)
    return 0 if sessions is None else sessions.offers


def pause(context: ssl.SSLContext) -> None:
    """A handshake that took up a session went wrong: perhaps for that."""
    sessions = _sessions_of(context)
    if sessions is not None:
        sessions.pause(PAUSE_S)


def retire(context: ssl.SSLContext) -> None:
    """Nobody connects by it any more. What it keeps would keep it for ever: a session knows its context."""
    sessions = _sessions_of(context)
    if sessions is not None:
        sessions.pause(math.inf)


def _sessions_of(context: ssl.SSLContext) -> Sessions | None:
    return getattr(context.sslobject_class, "sessions", None)
