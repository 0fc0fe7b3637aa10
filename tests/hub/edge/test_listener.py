"""hub/edge/listener.py: binding and its bounds; the accept loop itself is in tests/security/test_load.py."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from hub.edge import listener as listeners
from hub.edge.accepted import Accepted
from hub.edge.admission import GREEDY_S, LEAST, SILENT_S
from hub.edge.limits import EdgeLimits
from hub.edge.listener import Listener, bind
from proto.versions import SUBPROTOCOL


def test_bind_picks_a_port_and_says_it() -> None:
    (sock,) = bind("127.0.0.1", 0, 16)
    with sock:
        assert sock.getsockname()[1] > 0
        assert not sock.getblocking()


def test_a_taken_port_leaves_nothing_open() -> None:
    (taken,) = bind("127.0.0.1", 0, 16)
    with taken, pytest.raises(OSError, match="in use"):
        bind("127.0.0.1", taken.getsockname()[1], 16)


def test_every_address_is_of_both_families() -> None:
    """In a cluster of IPv6 alone the kubelet, and every agent, asks at a pod's only address."""
    sockets = bind("", 0, 16)
    with contextlib.ExitStack() as stack:
        for sock in sockets:
            stack.enter_context(sock)
        assert {sock.family for sock in sockets} == {socket.AF_INET, socket.AF_INET6}
        assert len({sock.getsockname()[1] for sock in sockets}) == 1


def test_every_address_where_the_kernel_has_no_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    class Socket(socket.socket):
        def __init__(self, family: int = -1, *rest: Any) -> None:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            super().__init__(family, *rest)

    monkeypatch.setattr(socket, "socket", Socket)
    (sock,) = bind("", 0, 16)
    with sock:
        assert sock.family == socket.AF_INET
    with pytest.raises(OSError, match="not supported"):
        bind("::1", 0, 16)


def test_an_address_that_the_resolver_names_twice_is_bound_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does where /etc/hosts has two lines for `localhost`."""
    found = socket.getaddrinfo("127.0.0.1", 0, type=socket.SOCK_STREAM)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found * 2)
    (sock,) = bind("localhost", 0, 16)
    sock.close()


async def test_a_stopped_listener_is_deaf() -> None:
    sockets = bind("127.0.0.1", 0, 16)
    address = sockets[0].getsockname()
    listener = Listener(
        sockets, tls=None, limits=EdgeLimits(), make_protocol=lambda peer: pytest.fail(peer), open_count=lambda: 0
    )
    listener.start()
    assert listener.addresses == [address]
    listener.stop()
    listener.room()
    await listener.aclose()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


async def test_when_all_places_are_taken_the_silent_make_room_for_who_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nobody else does: then accepting pauses."""
    (listening,) = bind("127.0.0.1", 0, 64)
    listener = Listener(
        [listening], tls=None, limits=EdgeLimits(connections_max=16), make_protocol=lambda peer: pytest.fail(peer),
        open_count=lambda: 0,
    )  # fmt: skip
    now = 0.0
    monkeypatch.setattr(listener, "_loop", Timed(lambda: now))
    monkeypatch.setattr(listener, "_greet_due", lambda: None)
    listener._is_accepting = True
    silent = [socket.create_connection(listening.getsockname()) for _ in range(16)]
    listener._accept(listening)
    newcomer = socket.create_connection(listening.getsockname())
    listener._accept(listening)
    assert (len(listener._waiting), listener._is_accepting) == (16, False)
    now = SILENT_S
    listener.room()
    assert listener._is_accepting
    listener._accept(listening)
    assert len(listener._waiting) == 16
    assert silent[0].recv(1) == b""
    for each in (*silent[1:], newcomer):
        each.setblocking(False)
        with pytest.raises(BlockingIOError):
            each.recv(1)
    await listener.aclose()
    for each in (*silent, newcomer):
        each.close()


class Timed:
    """A loop whose time is the test's, and that watches nothing."""

    def __init__(self, time: Callable[[], float]) -> None:
        self.time = time

    def call_soon(self, *_: object) -> None:
        """The test takes its turns itself."""

    def call_later(self, *_: object) -> None:
        """As `call_soon`."""

    def add_reader(self, *_: object) -> None:
        """As `remove_reader`."""

    def remove_reader(self, *_: object) -> None:
        """The test says itself when somebody has knocked."""


def begin(listener: Listener, count: int, origin: str = "stranger", *, is_agent: bool = False) -> list[Accepted]:
    """So many handshakes that never end."""
    found = []
    for _ in range(count):
        with socket.socket() as sock:
            found.append(Accepted(sock, origin, 0.0))
        found[-1].is_agent = is_agent
        found[-1].task = listener._tasks.spawn(_for_ever(), name=origin)
        listener._handshakes.begin(found[-1], listener._loop.time(), listener._turn)
    return found


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def test_who_speaks_late_is_greeted_though_the_silent_hold_their_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else happens at a quiet hub: no accept, and no end of a handshake."""
    monkeypatch.setattr(listeners, "_LOOK_S", 0.0)
    begun = asyncio.Event()
    listener = Listener(
        [], tls=None, limits=EdgeLimits(), make_protocol=lambda peer: pytest.fail(peer), open_count=lambda: 0
    )
    monkeypatch.setattr(listener, "_begin", lambda accepted: (accepted.sock.close(), begun.set()))
    begin(listener, listener._window.size // 2)
    ours, theirs = socket.socketpair()
    listener._waiting.put(ours, "late", 0.0)
    listener.go_on()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not begun.is_set()
    theirs.sendall(b"GET / HTTP/1.1\r\n\r\n")
    await begun.wait()
    assert not listener._waiting
    await listener.aclose()
    theirs.close()


async def test_an_agent_waits_for_the_places_behind_its_handshake() -> None:
    greetings = 200
    listener = Listener(
        [], tls=None, limits=EdgeLimits(), make_protocol=lambda peer: pytest.fail(peer), open_count=lambda: 0,
        greetings=lambda: greetings,
    )  # fmt: skip
    ours, theirs = socket.socketpair()
    theirs.sendall(SUBPROTOCOL.encode() + b"\r\n\r\n")
    listener._waiting.put(ours, "agent", 0.0)
    listener._window.size = 200
    begin(listener, LEAST, is_agent=True)
    listener.go_on()
    assert listener._due_since is None
    greetings = 100
    listener.go_on()
    assert listener._due_since is not None
    begin(listener, 200 - LEAST)
    await asyncio.sleep(0)
    assert len(listener._waiting) == 1, "there was no room when its turn came"
    await listener.aclose()
    theirs.close()


@pytest.mark.parametrize("is_forged", [False, True])
@pytest.mark.parametrize("greetings", [0, 1, 200])
async def test_handshakes_that_stand_still_keep_no_agent_out(
    monkeypatch: pytest.MonkeyPatch, greetings: int, is_forged: bool
) -> None:
    """Whatever those say that they are, and however many are past theirs in silence."""
    listener = Listener(
        [], tls=None, limits=EdgeLimits(), make_protocol=lambda peer: pytest.fail(peer), open_count=lambda: 0,
        greetings=lambda: greetings,
    )  # fmt: skip
    begun: list[object] = []
    monkeypatch.setattr(listener, "_begin", lambda accepted: (accepted.sock.close(), begun.append(accepted.address)))
    listener._window.size = 200
    stalled = begin(listener, 200, is_agent=is_forged)
    pairs = [socket.socketpair() for _ in range(3)]
    for number, (ours, theirs) in enumerate(pairs):
        theirs.sendall(SUBPROTOCOL.encode() + b"\r\n\r\n")
        listener._waiting.put(ours, number, 0.0)
    listener._greet_due()
    assert not begun
    now = listener._loop.time() + GREEDY_S
    monkeypatch.setattr(listener, "_loop", Timed(lambda: now))
    for _ in range(200):
        listener._greet_due()
    assert sorted(begun, key=str) == [0, 1, 2]
    await asyncio.sleep(0)
    assert stalled[0].task is not None
    assert stalled[0].task.cancelled()
    await listener.aclose()
    for _, theirs in pairs:
        theirs.close()


async def test_while_agents_wait_strangers_leave_places_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Listener(
        [], tls=None, limits=EdgeLimits(), make_protocol=lambda peer: pytest.fail(peer), open_count=lambda: 0,
        greetings=lambda: 200,
    )  # fmt: skip
    listener._window.size = 200
    begin(listener, 200 - LEAST)
    assert listener._lanes() == (True, True, False)
    ours, theirs = socket.socketpair()
    theirs.sendall(SUBPROTOCOL.encode() + b"\r\n\r\n")
    listener._waiting.put(ours, "agent", 0.0)
    assert listener._lanes() == (False, True, False)
    await listener.aclose()
    theirs.close()


async def test_who_come_together_are_greeted_turn_by_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their handshakes would be done in a row, and whatever agents wait for behind them."""
    begun: list[object] = []
    listener = Listener(
        [], tls=None, limits=EdgeLimits(), make_protocol=lambda peer: pytest.fail(peer), open_count=lambda: 0
    )
    monkeypatch.setattr(listener, "_begin", lambda accepted: (accepted.sock.close(), begun.append(accepted.address)))
    monkeypatch.setattr(time, "thread_time", lambda: 0.0)
    pairs = [socket.socketpair() for _ in range(3)]
    for number, (ours, theirs) in enumerate(pairs):
        theirs.sendall(b"GET / HTTP/1.1\r\n\r\n")
        listener._waiting.put(ours, number, 0.0)
    listener._greet_due()
    for count in (1, 2, 3):
        assert len(begun) == count
        await asyncio.sleep(0)
    await listener.aclose()
    for _, theirs in pairs:
        theirs.close()
