"""The connection between the main process and one worker: questions with answers, news, sockets that change hands.

Long messages are cut into pieces, because one packet is bounded by the socket's buffer. A channel that ends is the end
of the other process: there is no reconnecting.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from hub.store.model import Compacted, Key, RevisionConflict, StoreError, StoreUnavailable, UnknownLease
from hub.workers import messages
from hub.workers.messages import News, Question, Reply, Word
from hub.workers.packets import PacketSocket
from proto.aio.tasks import TaskGroup

logger = logging.getLogger(__name__)

_PIECE_BYTES: Final = 64 * 1024
_MORE: Final = b"\x01"
_LAST: Final = b"\x00"
QUEUED_BYTES_MAX: Final = 256 * 1024 * 1024
"""Waiting to be written. A peer that lets so much pile up does not read: the channel ends."""
LATE_S: Final = 0.5
AGAIN_S: Final = 2.0
"""A limit that is noticed LATE_S late ran out while this process stood still: an answer has so long to be read then."""


class Call(Word, frozen=True):
    id: int
    question: Question


class Cancel(Word, frozen=True):
    id: int


class Answer(Word, frozen=True):
    id: int
    reply: Reply


class Failed(Word, frozen=True):
    """The exception of a store, or `internal`."""

    id: int
    kind: str
    text: str
    numbers: tuple[int, int] = (0, 0)
    place: messages.Place | None = None


class Tell(Word, frozen=True):
    news: News


_Envelope = Call | Cancel | Answer | Failed | Tell
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Envelope).decode


class ChannelLost(StoreUnavailable):
    """The process at the other end has ended."""


class Channel:
    """`on_question` answers, as a task of its own; `on_news` takes news in order; `on_lost` is the last call.

    Both ends are processes of this hub: what cannot be decoded is a bug, and ends the channel.
    """

    def __init__(
        self,
        sock: socket.socket,
        name: str,
        *,
        on_question: Callable[[Question], Awaitable[Reply]],
        on_news: Callable[[News, list[socket.socket]], None],
        on_lost: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._clock = clock
        self._on_question = on_question
        self._on_news = on_news
        self._on_lost = on_lost
        self._pieces: list[bytes] = []
        self._asked: dict[int, asyncio.Future[Reply]] = {}
        self._answering: dict[int, asyncio.Task[None]] = {}
        self._last_id = 0
        self._tasks = TaskGroup(f"channel {name}")
        self._socket = PacketSocket(sock, on_packet=self._packet, on_lost=self._lose)

    @property
    def is_open(self) -> bool:
        return not self._socket.is_closed

    def tell(self, news: News, *sockets: socket.socket) -> None:
        """Send news. The sockets belong to the other process from here on. Nothing once the channel is closed."""
        self._send(Tell(news), sockets)

    async def ask(self, question: Question, limit_s: float | None = None) -> Reply:
        """The answer. Raises what the other end raised (StoreError and its kin, ValueError), ChannelLost, TimeoutError
        after `limit_s`."""
        if self._socket.is_closed:
            raise ChannelLost(f"{self.name} has ended")
        self._last_id += 1
        number = self._last_id
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        self._send(Call(number, question))
        try:
            if limit_s is not None:
                await self._wait(answer, limit_s)
            return await answer
        except (asyncio.CancelledError, TimeoutError):
            self._send(Cancel(number))
            raise
        finally:
            self._asked.pop(number, None)

    async def _wait(self, answer: asyncio.Future[Reply], limit_s: float) -> None:
        """Raises TimeoutError. Not for an answer that is there when the limit is noticed, as asyncio.timeout would, nor
        before what came while this process was stopped or its machine paused is read: a worker would die for it."""
        due = self._clock() + limit_s
        await asyncio.wait([answer], timeout=limit_s)
        if not answer.done() and self._clock() - due >= LATE_S:
            await asyncio.wait([answer], timeout=AGAIN_S)
        if not answer.done():
            raise TimeoutError

    async def aclose(self) -> None:
        """End it; whoever waits for an answer gets ChannelLost."""
        self._socket.close()
        self._fail_asked()
        await self._tasks.aclose()

    def _lose(self) -> None:
        self._fail_asked()
        self._tasks.cancel()
        self._on_lost()

    def _fail_asked(self) -> None:
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(ChannelLost(f"{self.name} has ended"))

    def _send(self, envelope: _Envelope, sockets: tuple[socket.socket, ...] = ()) -> None:
        data = _encode(envelope)
        if self._socket.waiting_bytes + len(data) > QUEUED_BYTES_MAX:
            logger.error("channel not read, closed", extra={"channel": self.name})
            self._socket.close()
            self._lose()
        whole, at = memoryview(data), 0  # a piece off the front of bytes would copy the rest each time
        while len(data) - at > _PIECE_BYTES:
            self._socket.send(b"".join((_MORE, whole[at : at + _PIECE_BYTES])))
            at += _PIECE_BYTES
        self._socket.send(b"".join((_LAST, whole[at:])), sockets)

    def _packet(self, packet: bytes, sockets: list[socket.socket]) -> None:
        self._pieces.append(packet[1:])
        if packet[:1] == _MORE:
            return
        data = b"".join(self._pieces)
        self._pieces.clear()
        try:
            self._take(_decode(data), sockets)
        except Exception:
            logger.exception("channel broken", extra={"channel": self.name})
            self._socket.close()
            self._lose()

    def _take(self, envelope: _Envelope, sockets: list[socket.socket]) -> None:
        if isinstance(envelope, Tell):
            self._on_news(envelope.news, sockets)
        elif isinstance(envelope, Call):
            task = self._tasks.spawn(self._reply(envelope), name=type(envelope.question).__name__)
            self._answering[envelope.id] = task
            task.add_done_callback(lambda _: self._answering.pop(envelope.id, None))
        elif isinstance(envelope, Cancel):
            task_or_none = self._answering.get(envelope.id)
            if task_or_none is not None:
                task_or_none.cancel()
        else:
            waiting = self._asked.get(envelope.id)
            if waiting is None or waiting.done():
                return
            if isinstance(envelope, Answer):
                waiting.set_result(envelope.reply)
            else:
                waiting.set_exception(_exception(envelope))

    async def _reply(self, call: Call) -> None:
        try:
            self._send(Answer(call.id, await self._on_question(call.question)))
        except (StoreError, ValueError) as exc:
            self._send(_failed(call.id, exc))
        except Exception:
            logger.exception("question failed", extra={"channel": self.name, "question": type(call.question).__name__})
            self._send(Failed(call.id, "internal", "the other process failed; the hub's log says why"))


def _failed(number: int, exc: StoreError | ValueError) -> Failed:
    if isinstance(exc, RevisionConflict):
        place = messages.Place.of(exc.key)
        return Failed(number, "conflict", str(exc), (exc.expected, exc.actual), place)
    if isinstance(exc, Compacted):
        return Failed(number, "compacted", str(exc), (exc.wanted, exc.oldest))
    if isinstance(exc, UnknownLease):
        return Failed(number, "lease", str(exc))
    return Failed(number, "value" if isinstance(exc, ValueError) else "unavailable", str(exc))


def _exception(failed: Failed) -> Exception:
    if failed.kind == "conflict":
        key = failed.place.key() if failed.place is not None else Key("unknown", "", "unknown")
        return RevisionConflict(key, *failed.numbers)
    if failed.kind == "compacted":
        return Compacted(*failed.numbers)
    if failed.kind == "lease":
        return UnknownLease(failed.text)
    return ValueError(failed.text) if failed.kind == "value" else StoreUnavailable(failed.text)
