"""A Kubernetes request of the hub's own over a tunnel, its answer whole. Small and rare: what users send goes through
hub.proxy."""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

from hub.route import Route
from proto.aio.linkstream import LinkStream
from proto.compression import PLAINLY
from proto.errors import Code, StreamReset
from proto.messages import Accepted, Headers, HttpHead, HttpRequest, StreamClass, StreamKind

ANSWER_BYTES_MAX: Final = 4 * 1024 * 1024


class Answer(NamedTuple):
    """What the API server said."""

    status: int
    body: bytes


class _Question:
    """Owner of the stream: collects the answer."""

    def __init__(self) -> None:
        self.done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.stream: LinkStream | None = None
        self._status = 0
        self._body = bytearray()

    def accepted(self, message: Accepted) -> None:
        pass

    def head(self, message: HttpHead) -> None:
        self._status = message.status

    def data(self, chunk: memoryview) -> None:
        self._body += chunk
        if self.stream is not None:
            self.stream.consumed(len(chunk))
        if len(self._body) > ANSWER_BYTES_MAX:
            self.reset(Code.TOO_BIG, "the answer is too big")

    def trailers(self, headers: Headers) -> None:
        pass

    def end(self) -> None:
        if not self.done.done():
            self.done.set_result(Answer(self._status, bytes(self._body)))

    def reset(self, code: Code, text: str) -> None:
        if not self.done.done():
            self.done.set_exception(StreamReset(text, code))

    def writable(self) -> None:
        pass


async def ask(route: Route, method: str, path: str, headers: Headers, body: bytes = b"") -> Answer:
    """Raises StreamReset with the agent's code, SessionLost, SessionDraining, TooManyStreams, MessageTooBig. Cancelling
    takes it back; whether it was done is then open."""
    owner = _Question()
    fields = (*headers, (b"content-length", str(len(body)).encode())) if body else headers
    message = HttpRequest(method=method, path=path.encode(), headers=fields, ext=PLAINLY if route.compresses else {})
    stream = route.open(message, owner, kind=StreamKind.HTTP, cls=StreamClass.NORMAL, end=not body)
    owner.stream = stream
    try:
        if body:
            stream.send(body, end=True)
        return await owner.done
    except (asyncio.CancelledError, StreamReset):
        if not stream.is_closed:
            stream.reset(Code.CANCELLED)
        raise
