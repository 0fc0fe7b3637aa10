"""Where the hub's streams come in: the link calls `Admission.on_open` for each."""

import logging
import time
from typing import Final

from agent.errors import Refused
from agent.relay.context import RelayContext
from agent.relay.exchange import Exchange
from agent.relay.upgrade import UpgradeExchange
from proto.aio import link
from proto.aio.commands import CommandServer
from proto.errors import Code
from proto.messages import HttpRequest, Opening, StreamClass, StreamKind

logger = logging.getLogger(__name__)

_HTTP: Final = StreamKind.HTTP
_COMMAND: Final = StreamKind.CMD


class Admission:
    """Checks each opening against the cluster's own policy and starts the exchange. `serves`: this agent executes
    requests; a node agent that is no fallback has no right for them and takes none, whatever the hub believes."""

    def __init__(self, context: RelayContext, *, serves: bool = True) -> None:
        self._context = context
        self._serves = serves

    def on_open(
        self, stream: link.LinkStream, kind: StreamKind, cls: StreamClass, message: Opening
    ) -> link.StreamOwner | None:
        """The stream's owner, or None when the stream was reset. Must not raise: the session would end."""
        counts = self._context.counts
        try:
            if not self._serves:  # nothing was done, so the hub may ask elsewhere
                raise Refused("not-fallback", "this node agent serves no requests", Code.REFUSED)
            if kind is not _HTTP or not isinstance(message, HttpRequest):
                raise Refused("kind", f"this agent serves no stream of kind {kind.name.lower()}")
            passed = self._context.policy.admit(message, time.monotonic())
        except Refused as refusal:
            counts.refused(refusal.reason)
            logger.warning("request refused", extra={"reason": refusal.reason, "detail": str(refusal)})
            stream.reset(refusal.code, str(refusal))
            return None
        except Exception:
            logger.exception("opening failed")
            stream.reset(Code.INTERNAL, "the agent failed while it looked at the request")
            return None
        counts.active += 1
        counts.requests += 1
        exchange = (UpgradeExchange if message.upgrade else Exchange)(self._context, stream, message, passed)
        exchange.begin()
        return exchange


class SessionStreams:
    """Whose a stream of one session is: the hub's commands are for `commands`, everything else is for the admission."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.commands: CommandServer | None = None
        """Set before the session is driven."""

    def on_open(
        self, stream: link.LinkStream, kind: StreamKind, cls: StreamClass, message: Opening
    ) -> link.StreamOwner | None:
        """As `Admission.on_open`."""
        if kind is _COMMAND and self.commands is not None:
            return self.commands.on_open(stream, message)
        return self._admission.on_open(stream, kind, cls, message)
