"""TLS sessions with the API server that are taken up again, without its certificate and what that costs to check.

Each exec, port-forward and watch of a burst takes a connection of its own, and a full handshake is half of what an exec
costs the agent (ADR 28). Whoever has been verified by a context in the last minute may go on under it, by the name it
was verified for (RFC 8446 §2.2). A server that does not know the session (another one of several, or restarted) asks
for a full handshake, and nobody notices. A ticket serves more than once, which §C.4 of that RFC advises against where
somebody who listens must not see that two connections are of the same client: here all are the agent's.
"""

import ssl
import time
from collections.abc import Callable
from typing import Final

KEPT_S: Final = 60.0
"""For how long after the full handshake: what has changed about a server or its certificate is noticed by then."""


class Sessions:
    """The last full handshake with each name, under one context."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kept: dict[str | None, tuple[ssl.SSLSession, float]] = {}

    def of(self, name: str | None) -> ssl.SSLSession | None:
        """The session to offer to the server of this name."""
        session, since = self._kept.get(name, (None, 0.0))
        if session is None or self._clock() - since < KEPT_S:
            return session
        del self._kept[name]
        return None

    def keep(self, name: str | None, session: ssl.SSLSession) -> None:
        """Of a full handshake; a resumed one has verified nobody."""
        self._kept[name] = session, self._clock()

    def forget(self, name: str | None) -> None:
        """The server may have failed because of it."""
        self._kept.pop(name, None)


class Resumable(ssl.SSLObject):
    """A client's end of a connection that offers a kept session when its handshake begins."""

    sessions: Sessions
    _has_begun = False

    def do_handshake(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            session = self.sessions.of(self.server_hostname)
            if session is not None:
                self.session = session
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError:
            self.sessions.forget(self.server_hostname)
            raise

    def keep(self) -> None:
        """Call when the server has sent something: by TLS 1.3 its tickets come behind the handshake."""
        if self.session_reused or self.sessions.of(self.server_hostname) is not None:
            return
        session = self.session
        if session is not None and session.has_ticket:
            self.sessions.keep(self.server_hostname, session)


def attach(context: ssl.SSLContext, clock: Callable[[], float] = time.monotonic) -> None:
    """Have a client's context resume its sessions. Another context, with other CAs, knows nothing of them."""
    context.sslobject_class = type("ResumableOfContext", (Resumable,), {"sessions": Sessions(clock)})


def keep(connection: object) -> None:
    """Keep the session of a connection (`get_extra_info("ssl_object")`), if it is one that can be resumed."""
    if isinstance(connection, Resumable):
        connection.keep()
