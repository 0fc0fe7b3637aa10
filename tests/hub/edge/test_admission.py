"""hub/edge/admission.py: how many handshakes at once, and whose is next."""

from __future__ import annotations

import socket

import pytest

from hub.edge.admission import GROWTH, LEAST, SILENT_S, TURN_S, Waiting, Window

HELLO_OF_AGENT = b"\x16\x03\x01\x02\x00\x01...\x00\x10\x00\x17\x0criata.mux.v1\x08http/1.1"
HELLO_OF_USER = b"\x16\x03\x01\x02\x00\x01...\x00\x10\x00\x0b\x09\x08http/1.1"
HEAD_OF_AGENT = b"GET /v1/tunnel HTTP/1.1\r\nSec-WebSocket-Protocol: riata.mux.v1\r\n"


class Crowd:
    """Clients that have connected and said something, and who of them is let in."""

    def __init__(self) -> None:
        self.waiting = Waiting()
        self.clients: dict[str, socket.socket] = {}
        self.now = 0.0

    def knocks(self, name: str, said: bytes = HELLO_OF_USER) -> None:
        client, accepted = socket.socketpair()
        if said:
            client.sendall(said)
        self.clients[name] = client
        self.waiting.put(accepted, name, self.now)

    def let_in(self) -> list[object]:
        found = []
        while (accepted := self.waiting.take()) is not None:
            accepted.sock.close()
            found.append(accepted.address)
        return found

    def close(self) -> None:
        self.waiting.close()
        for client in self.clients.values():
            client.close()


def test_a_window_grows_behind_short_turns_and_shrinks_behind_long_ones() -> None:
    window = Window(200)
    assert window.size == LEAST
    for _ in range(10):
        window.turned(TURN_S / 2)
    assert window.size == LEAST + 10 * GROWTH
    window.turned(TURN_S * 2)
    assert window.size == 27
    for _ in range(10):
        window.turned(1.0)
    assert window.size == LEAST, "the loop is slow for another reason, perhaps"
    for _ in range(200):
        window.turned(0.0)
    assert window.size == 200


@pytest.mark.parametrize(("cpu_s", "count"), [(0.0, 1), (0.0009, 1), (0.0011, 2), (0.0042, 5), (0.02, 8), (1.0, 8)])
def test_in_short_turns_handshakes_begin_one_by_one_and_in_long_ones_several(cpu_s: float, count: int) -> None:
    assert Window(1_000).turned(cpu_s) == count


def test_a_window_is_never_wider_than_the_setting() -> None:
    window = Window(2)
    assert window.size == 2
    window.turned(0.0)
    window.turned(1.0)
    assert window.size == 2


def test_handshakes_and_agents_that_are_nobody_yet_share_the_window_but_for_a_few() -> None:
    window = Window(200)
    window.size = 100
    assert window.has_room(60, 39)
    assert not window.has_room(60, 40)
    assert window.has_room(LEAST - 1, 200), "silent agents hold up nobody"
    assert not window.has_room(LEAST, 200)


@pytest.mark.parametrize("said", [HELLO_OF_AGENT, HEAD_OF_AGENT])
def test_agents_take_turns_with_all_others_and_the_newest_is_next(said: bytes) -> None:
    crowd = Crowd()
    for number in range(4):
        crowd.knocks(f"agent {number}", said)
    crowd.knocks("early user")
    crowd.knocks("silent", b"")
    crowd.knocks("user")
    assert len(crowd.waiting) == 7
    assert crowd.let_in() == ["agent 3", "user", "agent 2", "early user", "agent 1", "agent 0", "silent"]
    assert len(crowd.waiting) == 0
    crowd.close()


def test_without_room_for_agents_others_are_let_in() -> None:
    crowd = Crowd()
    assert not crowd.waiting.has_next(with_agents=True)
    crowd.knocks("agent", HELLO_OF_AGENT)
    crowd.knocks("silent", b"")
    assert crowd.waiting.has_next(with_agents=True)
    assert not crowd.waiting.has_next(with_agents=False)
    assert crowd.waiting.take(with_agents=False) is None
    crowd.knocks("user")
    assert crowd.waiting.has_next(with_agents=False)
    found = crowd.waiting.take(with_agents=False)
    assert found is not None
    assert found.address == "user"
    found.sock.close()
    assert crowd.let_in() == ["agent", "silent"]
    crowd.close()


def test_half_of_the_window_is_left_to_those_who_have_spoken() -> None:
    window = Window(200)
    window.size = 100
    assert window.has_room_for_silent(49)
    assert not window.has_room_for_silent(50)
    crowd = Crowd()
    crowd.knocks("silent", b"")
    crowd.knocks("agent", HELLO_OF_AGENT)
    assert crowd.waiting.has_next(with_agents=True, with_silent=False)
    found = crowd.waiting.take(with_silent=False)
    assert found is not None
    assert found.address == "agent"
    found.sock.close()
    assert not crowd.waiting.has_next(with_agents=True, with_silent=False)
    assert crowd.waiting.take(with_silent=False) is None
    assert crowd.let_in() == ["silent"]
    crowd.close()


def test_who_speaks_late_finds_its_lane() -> None:
    crowd = Crowd()
    for name in ("silent", "agent", "user"):
        crowd.knocks(name, b"")
    crowd.knocks("early agent", HELLO_OF_AGENT)
    crowd.clients["agent"].sendall(HELLO_OF_AGENT)
    crowd.clients["user"].sendall(HELLO_OF_USER)
    crowd.waiting.sort()
    assert crowd.let_in() == ["agent", "user", "early agent", "silent"]
    crowd.close()


def test_who_has_been_silent_for_longest_makes_room_and_nobody_who_has_spoken() -> None:
    crowd = Crowd()
    for name in ("first", "late", "second"):
        crowd.knocks(name, b"")
    crowd.knocks("user")
    crowd.now = SILENT_S / 2
    crowd.knocks("new", b"")
    assert not crowd.waiting.has_silent(crowd.now)
    crowd.waiting.drop_silent(crowd.now)
    assert len(crowd.waiting) == 5
    crowd.now = SILENT_S
    crowd.clients["late"].sendall(HELLO_OF_USER)
    assert crowd.waiting.has_silent(crowd.now)
    crowd.waiting.drop_silent(crowd.now)
    assert crowd.clients["first"].recv(1) == b""
    crowd.waiting.drop_silent(crowd.now)
    assert crowd.clients["second"].recv(1) == b""
    crowd.waiting.drop_silent(crowd.now)
    assert crowd.let_in() == ["late", "user", "new"]
    crowd.close()


def test_who_has_given_up_is_not_greeted() -> None:
    crowd = Crowd()
    for name in ("one", "two", "three"):
        crowd.knocks(name, HELLO_OF_AGENT)
    crowd.clients["two"].close()
    assert crowd.let_in() == ["three", "one"]
    crowd.close()


def test_all_that_wait_are_closed() -> None:
    crowd = Crowd()
    crowd.knocks("one")
    crowd.knocks("two", HELLO_OF_AGENT)
    sockets = [each.sock for lane in (crowd.waiting._agents, crowd.waiting._others) for each in lane]
    crowd.waiting.close()
    assert [sock.fileno() for sock in sockets] == [-1, -1]
    assert crowd.let_in() == []
    crowd.close()
