"""Commands over a link: ask the other side, and serve what it asks.

A command is a stream of kind `cmd`: OPEN with verb and arguments, ACCEPT, one Result as DATA. Failure is a RESET whose
code says why.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from proto import codec, commands
from proto.aio.link import Link
from proto.aio.linkstream import LinkStream
from proto.aio.tasks import TaskGroup
from proto.commands import Fields, Verb
from proto.errors import Code, RiataError, StreamReset
from proto.limits import CONTROL_MAX_BYTES
from proto.messages import Accepted, Command, Headers, HttpHead, Opening, Result, StreamClass, StreamKind

logger = logging.getLogger(__name__)

TIMEOUT_S: Final = 15.0
"""How long a caller waits unless it says otherwise."""
SERVED_MAX: Final = 8
"""Commands of one peer that are worked on at once; more are refused."""

Handler = Callable[[Any], Awaitable[Fields]]
"""Arguments of the verb's type to a result of the verb's type. Raises RiataError to refuse with its code."""


class _Call:
    """Owner of a command of ours: collects the result."""

    def __init__(self) -> None:
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.stream: LinkStream | None = None
        self._body = bytearray()

    def accepted(self, message: Accepted) -> None:
        pass

    def head(self, message: HttpHead) -> None:
        self.reset(Code.PROTOCOL, "a command has no head")

    def data(self, chunk: memoryview) -> None:
        self._body += chunk
        if self.stream is not None:
            self.stream.consumed(len(chunk))
        if len(self._body) > CONTROL_MAX_BYTES:
            self.reset(Code.TOO_BIG, "the result is too big")

    def trailers(self, headers: Headers) -> None:
        pass

    def end(self) -> None:
        if not self.done.done():
            self.done.set_result(bytes(self._body))

    def reset(self, code: Code, text: str) -> None:
        if not self.done.done():
            self.done.set_exception(StreamReset(text, code))

    def writable(self) -> None:
        pass


async def call(link: Link, verb: Verb, args: Fields, *, timeout_s: float = TIMEOUT_S) -> Any:
    """Ask the peer; the result has the verb's type.

    Raises StreamReset with the peer's code, SessionLost, SessionDraining, TooManyStreams, ProtocolError for a result
    that is none, and TimeoutError. Cancelling takes the command back; whether it was done is then open.
    """
    owner = _Call()
    message = Command(verb=verb.name, args=commands.to_ext(args))
    owner.stream = link.open(message, owner, kind=StreamKind.CMD, cls=StreamClass.NORMAL, end=True)
    try:
        async with asyncio.timeout(timeout_s):
            body = await owner.done
    except (TimeoutError, asyncio.CancelledError):
        owner.stream.reset(Code.CANCELLED, "nobody waits for the result any more")
        raise
    except StreamReset:
        owner.stream.reset(Code.CANCELLED)
        raise
    return commands.from_ext(verb.result, codec.decode(Result, body).values)


class CommandServer:
    """Serves the peer's commands on one link; its tasks belong to `group`."""

    def __init__(self, handlers: Mapping[Verb, Handler], group: TaskGroup) -> None:
        self._handlers = {verb.name: (verb, handler) for verb, handler in handlers.items()}
        self._group = group
        self._served = 0

    def on_open(self, stream: LinkStream, message: Opening) -> "_Served | None":
        """For streams of kind `cmd`: the owner, None when the stream was reset."""
        assert isinstance(message, Command)  # the session decodes by kind
        known = self._handlers.get(message.verb)
        if known is None:
            stream.reset(Code.FORBIDDEN, "there is no such command here")
            return None
        if not stream.peer_ended:  # a body that nobody takes would be charged to the process, and for ever
            stream.reset(Code.PROTOCOL, "a command ends with its OPEN")
            return None
        if self._served >= SERVED_MAX:
            stream.reset(Code.OVERLOADED, "too many commands at once")
            return None
        verb, handler = known
        served = _Served()
        try:
            served.task = self._group.spawn(self._serve(stream, message, verb, handler), name=verb.name)
        except RuntimeError:  # the session is over
            stream.reset(Code.CLOSED, "the session ends")
            return None
        self._served += 1
        served.task.add_done_callback(self._done)  # a task that is cancelled before it began runs no `finally`
        return served

    def _done(self, _task: asyncio.Task[None]) -> None:
        self._served -= 1

    async def _serve(self, stream: LinkStream, message: Command, verb: Verb, handler: Handler) -> None:
        try:
            args = commands.from_ext(verb.args, message.args)
            result = await handler(args)
            stream.accept()
            stream.send(codec.encode(Result(values=commands.to_ext(result))), end=True)
        except RiataError as exc:
            code = exc.code if exc.code is not Code.SESSION_LOST else Code.INTERNAL
            logger.info("command refused", extra={"verb": verb.name, "code": code.name, "text": exc.text})
            stream.reset(code, exc.text)
        except Exception:
            logger.exception("command failed", extra={"verb": verb.name})
            stream.reset(Code.INTERNAL, "internal error")


class _Served:
    """Owner of a command of the peer: when it is taken back, the work stops."""

    task: asyncio.Task[None] | None = None

    def accepted(self, message: Accepted) -> None:
        pass

    def head(self, message: HttpHead) -> None:
        pass

    def data(self, chunk: memoryview) -> None:
        pass

    def trailers(self, headers: Headers) -> None:
        pass

    def end(self) -> None:
        pass

    def reset(self, code: Code, text: str) -> None:
        if self.task is not None:
            self.task.cancel()

    def writable(self) -> None:
        pass
