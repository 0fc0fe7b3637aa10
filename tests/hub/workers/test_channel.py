"""hub/workers/channel.py: questions, answers and news between two ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from hub.store.model import Compacted, Key, RevisionConflict, StoreUnavailable, UnknownLease
from hub.workers import channel as channels
from hub.workers import messages
from hub.workers.channel import Answer, Call, Cancel, Channel, ChannelLost
from hub.workers.messages import Done, News, Number, Question, Reply
from hub.workers.packets import PacketSocket, pair
from tests.hub.workers.fakes import until


class End:
    def __init__(self, sock: socket.socket) -> None:
        self.news: list[News] = []
        self.sockets: list[socket.socket] = []
        self.is_lost = False
        self.was_cancelled = False
        self.answer: Reply | Exception | None = Done()
        self.is_free = asyncio.Event()
        """An answer of None waits for it, and is Done then."""
        self.times: list[float] = []
        """What its clock shows next; 100 behind them."""
        self.channel = Channel(
            sock, "peer", on_question=self._answer, on_news=self._news, on_lost=self._lost, clock=self._now
        )

    def _now(self) -> float:
        return self.times.pop(0) if self.times else 100.0

    async def _answer(self, question: Question) -> Reply:
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is None:
            try:
                await self.is_free.wait()
            except asyncio.CancelledError:
                self.was_cancelled = True
                raise
        return self.answer or Done()

    def _news(self, news: News, sockets: list[socket.socket]) -> None:
        self.news.append(news)
        self.sockets += sockets

    def _lost(self) -> None:
        self.is_lost = True


@pytest.fixture
async def ends() -> AsyncIterator[tuple[End, End]]:
    one, two = (End(sock) for sock in pair())
    yield one, two
    await one.channel.aclose()
    await two.channel.aclose()


async def turns(count: int = 30) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_answers_find_their_questions(ends: tuple[End, End]) -> None:
    one, two = ends
    one.answer, two.answer = Number(1), Number(2)
    asked = [one.channel.ask(messages.Ping()), two.channel.ask(messages.Ping()), one.channel.ask(messages.Measure())]
    assert await asyncio.gather(*asked) == [Number(2), Number(1), Number(2)]


async def test_long_messages_arrive_whole_and_in_order(ends: tuple[End, End]) -> None:
    one, two = ends
    texts = ["x" * size for size in (10, 5_000_000, 20)]
    for text in texts:
        one.channel.tell(messages.Start(1, "h", text))
    for _ in range(2000):
        if len(two.news) == 3:
            break
        await asyncio.sleep(0)
    assert [news.settings for news in two.news if isinstance(news, messages.Start)] == texts


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (RevisionConflict(Key("token", "c", "n"), 3, 4), RevisionConflict),
        (Compacted(1, 2), Compacted),
        (UnknownLease("gone"), UnknownLease),
        (StoreUnavailable("full"), StoreUnavailable),
        (ValueError("a document is …"), ValueError),
        (KeyError("bug"), StoreUnavailable),
    ],
)
async def test_what_the_store_raises_is_raised_here(
    ends: tuple[End, End], raised: Exception, told: type[Exception]
) -> None:
    one, two = ends
    two.answer = raised
    with pytest.raises(told) as caught:
        await one.channel.ask(messages.Ping())
    if told is not StoreUnavailable or type(raised) is StoreUnavailable:
        assert str(caught.value) == str(raised)


async def test_a_question_that_is_given_up_is_not_worked_on(ends: tuple[End, End]) -> None:
    one, two = ends
    two.answer = None
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await one.channel.ask(messages.Ping())
    await turns()
    assert two.was_cancelled


async def test_a_question_has_its_time(ends: tuple[End, End]) -> None:
    one, two = ends
    assert await one.channel.ask(messages.Ping(), 30.0) == Done()
    two.answer = None
    with pytest.raises(TimeoutError):
        await one.channel.ask(messages.Ping(), 0.01)
    await turns()
    assert two.was_cancelled
    two.answer = StoreUnavailable("full")
    with pytest.raises(StoreUnavailable):
        await one.channel.ask(messages.Ping(), 30.0)


async def test_an_answer_that_came_while_this_process_stood_still_is_read(ends: tuple[End, End]) -> None:
    one, two = ends
    two.answer = None
    one.times = [50.0, 60.0]  # at the question, and when the time is over
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(one.channel.ask(messages.Ping(), 0.01))
        await until(lambda: not one.times)
        two.is_free.set()
    assert asking.result() == Done()


async def test_who_does_not_answer_after_that_either_is_not_waited_for(
    ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "AGAIN_S", 0.01)
    one, two = ends
    two.answer = None
    one.times = [50.0, 60.0]
    with pytest.raises(TimeoutError):
        await one.channel.ask(messages.Ping(), 0.01)
    assert one.times == []


async def test_an_answer_counts_that_is_read_in_the_turn_in_which_its_time_is_over() -> None:
    ours, theirs = pair()
    one = End(ours)
    with theirs:
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(one.channel.ask(messages.Ping(), 0.0))
            asyncio.get_running_loop().call_soon(one.channel._take, Answer(1, Number(7)), [])
        assert asking.result() == Number(7)
    await one.channel.aclose()


async def test_the_end_of_the_other_process_ends_every_question(ends: tuple[End, End]) -> None:
    one, two = ends
    two.answer = None
    asking = asyncio.ensure_future(one.channel.ask(messages.Ping()))  # noqa: TID251
    await turns()
    await two.channel.aclose()
    with pytest.raises(ChannelLost):
        await asking
    assert one.is_lost
    with pytest.raises(ChannelLost):
        await one.channel.ask(messages.Ping())


async def test_sockets_go_with_news(ends: tuple[End, End]) -> None:
    one, two = ends
    kept, given = socket.socketpair()
    one.channel.tell(messages.Hop(2, "s"), given)
    await turns()
    with kept, two.sockets[0] as taken:
        assert two.news == [messages.Hop(2, "s")]
        kept.send(b"x")
        assert taken.recv(1) == b"x"


async def test_nonsense_ends_the_channel() -> None:
    ours, theirs = pair()
    one = End(ours)
    other = PacketSocket(theirs, on_packet=lambda packet, sockets: None, on_lost=lambda: None)
    other.send(b"\x00nonsense")
    await turns()
    assert one.is_lost
    other.close()
    await one.channel.aclose()


async def test_a_question_that_is_taken_back_at_once_leaves_nothing(ends: tuple[End, End]) -> None:
    one, _ = ends
    one.channel._take(Call(1, messages.Ping()), [])
    one.channel._take(Cancel(1), [])
    await turns()
    assert one.channel._answering == {}
    assert not one.was_cancelled  # it had not begun
