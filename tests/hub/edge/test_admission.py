"""hub/edge/admission.py: how many handshakes at once, and whose is next."""

from __future__ import annotations

import socket

import pytest

from hub.edge.accepted import Accepted
from hub.edge.admission import (
    GREEDY_S,
    GROWTH,
    LEAST,
    PATIENCE_S,
    PEEKED_BYTES,
    SILENT_S,
    TURN_S,
    TURNS_MIN,
    Handshakes,
    Waiting,
    Window,
)


def record(content: bytes) -> bytes:
    """Of TLS, a handshake's."""
    return b"\x16\x03\x01" + len(content).to_bytes(2) + content


HELLO_OF_AGENT = record(b"\x01...\x00\x10\x00\x17\x0criata.mux.v1\x08http/1.1")
HELLO_OF_USER = record(b"\x01...\x00\x10\x00\x0b\x09\x08http/1.1")
HEAD_OF_AGENT = b"GET /v1/tunnel HTTP/1.1\r\nSec-WebSocket-Protocol: riata.mux.v1\r\n\r\n"
HEAD_OF_USER = b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n"


class Crowd:
    """Clients that have connected and said something, and who of them is let in."""

    def __init__(self, *, is_tls: bool = True) -> None:
        self.waiting = Waiting(is_tls=is_tls)
        self.clients: dict[str, socket.socket] = {}
        self.now = 0.0

    def knocks(self, name: str, said: bytes = HELLO_OF_USER, at: str | None = None) -> None:
        """From an address of its own, or `at` one."""
        client, accepted = socket.socketpair()
        if said:
            client.sendall(said)
        self.clients[name] = client
        self.waiting.put(accepted, at or name, self.now)

    def let_in(self) -> list[object]:
        found = []
        while (accepted := self.waiting.take()) is not None:
            accepted.sock.close()
            found.append(accepted.address)
        return found

    def was_dropped(self, name: str) -> bool:
        try:
            return self.clients[name].recv(1, socket.MSG_DONTWAIT) == b""
        except ConnectionResetError:  # what it had said was not read
            return True
        except BlockingIOError:
            return False

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
    assert window.has_room(99)
    assert not window.has_room(100)
    assert window.has_room_for_agent(60, 39)
    assert not window.has_room_for_agent(60, 40)
    assert window.has_room_for_agent(LEAST - 1, 200), "silent agents hold up nobody"
    assert not window.has_room_for_agent(LEAST, 200)


@pytest.mark.parametrize(
    ("most", "size", "others"), [(200, 200, 184), (200, 100, 84), (200, LEAST, 8), (2, 2, 1), (1, 1, 1)]
)
def test_while_agents_wait_some_places_are_theirs(most: int, size: int, others: int) -> None:
    window = Window(most)
    window.size = size
    assert window.has_room_beside_agents(others - 1)
    assert not window.has_room_beside_agents(others)


@pytest.mark.parametrize(
    ("is_tls", "agent", "user"), [(True, HELLO_OF_AGENT, HELLO_OF_USER), (False, HEAD_OF_AGENT, HEAD_OF_USER)]
)
def test_agents_take_turns_with_all_others_and_the_newest_is_next(is_tls: bool, agent: bytes, user: bytes) -> None:
    crowd = Crowd(is_tls=is_tls)
    for number in range(4):
        crowd.knocks(f"agent {number}", agent)
    crowd.knocks("early user", user)
    crowd.knocks("silent", b"")
    crowd.knocks("user", user)
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


def test_without_room_for_others_agents_are_let_in() -> None:
    crowd = Crowd()
    crowd.knocks("agent", HELLO_OF_AGENT)
    for name in ("user", "another"):
        crowd.knocks(name)
    for name, is_agent in (("agent", True), (None, False)):
        found = crowd.waiting.take(with_others=False)
        assert (found and found.address) == name
        if found is not None:
            assert found.is_agent is is_agent
            found.sock.close()
    assert not crowd.waiting.has_next(with_others=False, with_agents=True)
    assert crowd.let_in() == ["another", "user"]
    crowd.close()


class Hall:
    """Handshakes under way, each of one origin, and who waits for a place."""

    def __init__(self, *origins: str, is_agent: bool = False) -> None:
        self.handshakes = Handshakes()
        self.begin(*origins, is_agent=is_agent)
        self.crowd = Crowd()

    def begin(self, *origins: str, is_agent: bool, now: float = 0.0) -> None:
        for origin in origins:
            with socket.socket() as sock:
                accepted = Accepted(sock, origin, 0.0)
            accepted.is_agent = is_agent
            self.handshakes.begin(accepted, now, 0)

    def slowest(self, now: float, turn: int = TURNS_MIN, *, of_agents: bool = False) -> object:
        found = self.handshakes.slowest(self.crowd.waiting, now, turn, of_agents=of_agents)
        if found is not None:
            self.handshakes.end(found)
            self.handshakes.end(found)
        return found and found.origin


def test_the_oldest_of_the_greediest_gives_way_when_it_is_old() -> None:
    hall = Hall("user", "flood", "flood", "flood")
    hall.crowd.knocks("agent", HELLO_OF_AGENT)
    assert hall.slowest(GREEDY_S - 0.1) is None
    assert [hall.slowest(GREEDY_S), hall.slowest(GREEDY_S), hall.slowest(GREEDY_S)] == ["flood", "flood", None]
    assert hall.slowest(PATIENCE_S) == "user", "each has one"
    assert [len(hall.handshakes), hall.handshakes.others] == [1, 1]
    hall.crowd.close()


def test_who_stands_still_gives_way_though_others_who_do_not_hold_more() -> None:
    hall = Hall("alone")
    hall.begin("nat", "nat", is_agent=False, now=PATIENCE_S)
    hall.crowd.knocks("user")
    assert [hall.slowest(PATIENCE_S), hall.slowest(PATIENCE_S)] == ["alone", None]
    hall.crowd.close()


def test_nobody_gives_way_to_others_of_its_own_origin() -> None:
    """A fleet behind a NAT, far away: each would end its handshake, and none does."""
    hall = Hall("nat", "nat", "nat")
    hall.crowd.knocks("agent", HELLO_OF_AGENT, at="nat")
    hall.crowd.knocks("silent", b"")
    assert hall.slowest(2 * PATIENCE_S) is None
    hall.crowd.knocks("user")
    assert hall.slowest(2 * PATIENCE_S) == "nat"
    hall.crowd.close()


def test_nobody_gives_way_at_a_hub_that_is_slow_itself() -> None:
    """Turns of half a second, and a fleet behind several addresses: each handshake gave way to the next, and none
    ended."""
    hall = Hall("one", "one", "two", "two")
    hall.crowd.knocks("agent", HELLO_OF_AGENT)
    assert hall.slowest(2 * PATIENCE_S, TURNS_MIN - 1) is None
    assert hall.slowest(2 * PATIENCE_S, TURNS_MIN) == "one"
    hall.crowd.close()


def test_the_place_is_for_another_origin_though_newer_ones_wait() -> None:
    crowd = Crowd()
    crowd.knocks("lone", HELLO_OF_AGENT)
    for name in ("a", "b", "c"):
        crowd.knocks(name, HELLO_OF_AGENT, at="nat")
    for besides, address in (("nat", "lone"), ("nat", "nat"), (None, "nat")):
        found = crowd.waiting.take(besides=besides)
        assert found is not None
        assert found.address == address
        found.sock.close()
    crowd.close()


def test_where_agents_have_no_place_one_of_theirs_gives_way() -> None:
    """Whoever says that he is one is one of them."""
    hall = Hall("user", "user", "user")
    hall.begin("forged", "forged", is_agent=True)
    hall.crowd.knocks("another")
    assert hall.slowest(GREEDY_S, of_agents=True) is None, "a user would not get the place"
    hall.crowd.knocks("agent", HELLO_OF_AGENT)
    assert [hall.handshakes.agents, hall.handshakes.others] == [2, 3]
    assert hall.slowest(GREEDY_S, of_agents=True) == "forged"
    assert [hall.handshakes.agents, hall.handshakes.others] == [1, 3]
    hall.crowd.close()


def test_half_of_the_window_is_left_to_those_who_have_spoken() -> None:
    window = Window(200)
    window.size = 100
    assert window.has_room_for_silent(49, 0)
    assert not window.has_room_for_silent(50, 0)
    assert window.has_room_for_silent(49, 50)
    assert not window.has_room_for_silent(49, 51), "they may be agents"
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


def test_who_has_been_silent_for_longest_makes_room_first() -> None:
    crowd = Crowd()
    for name in ("first", "late", "second"):
        crowd.knocks(name, b"")
    crowd.knocks("user")
    crowd.now = SILENT_S / 2
    crowd.knocks("new", b"")
    assert not crowd.waiting.may_make_room(crowd.now)
    crowd.waiting.make_room(crowd.now)
    assert len(crowd.waiting) == 5
    crowd.now = SILENT_S
    crowd.clients["late"].sendall(HELLO_OF_USER)
    for name in ("first", "second"):
        assert crowd.waiting.may_make_room(crowd.now)
        crowd.waiting.make_room(crowd.now)
        assert crowd.was_dropped(name)
    assert crowd.let_in() == ["late", "user", "new"]
    crowd.close()


@pytest.mark.parametrize(
    ("is_tls", "said"),
    [
        (True, b"\x16"),
        (True, HELLO_OF_USER[:4]),
        (True, HELLO_OF_AGENT[:-1]),
        (True, b"GET / HTTP/1.1\r\n\r\n"),
        (False, b"G"),
        (False, HEAD_OF_AGENT[:-1]),
    ],
)
def test_whose_first_words_are_not_whole_has_not_spoken(is_tls: bool, said: bytes) -> None:
    """A single byte costs nothing: fifteen thousand who say one must not keep all others out."""
    crowd = Crowd(is_tls=is_tls)
    crowd.knocks("speaker", HELLO_OF_USER if is_tls else HEAD_OF_USER)
    crowd.knocks("byte", said)
    crowd.now = SILENT_S
    crowd.waiting.make_room(crowd.now)
    assert crowd.was_dropped("byte")
    assert crowd.let_in() == ["speaker"]
    crowd.close()


@pytest.mark.parametrize("said", [HELLO_OF_USER, record(bytes(3 * PEEKED_BYTES))[: PEEKED_BYTES + 1]])
def test_a_slow_client_has_spoken_when_its_words_are_whole_or_many(said: bytes) -> None:
    crowd = Crowd()
    crowd.knocks("slow", said[:3])
    assert not crowd.waiting.has_next(with_agents=True, with_silent=False)
    crowd.clients["slow"].sendall(said[3:])
    crowd.waiting.sort()
    assert crowd.waiting.has_next(with_agents=True, with_silent=False)
    assert crowd.let_in() == ["slow"]
    crowd.close()


def test_who_has_ended_without_a_word_makes_room_too() -> None:
    crowd = Crowd()
    crowd.knocks("user")
    crowd.knocks("ended", b"")
    crowd.clients["ended"].shutdown(socket.SHUT_WR)
    crowd.now = SILENT_S
    crowd.waiting.sort()
    crowd.waiting.make_room(crowd.now)
    assert crowd.was_dropped("ended")
    assert crowd.let_in() == ["user"]
    crowd.close()


@pytest.mark.parametrize("said", [HELLO_OF_USER, HELLO_OF_AGENT])
def test_where_nobody_is_silent_the_oldest_of_the_greediest_makes_room(said: bytes) -> None:
    crowd = Crowd()
    crowd.knocks("user")
    for number in range(3):
        crowd.now = number * SILENT_S / 2
        crowd.knocks(f"flood {number}", said, at="flood")
    for number in range(2):
        assert crowd.waiting.may_make_room(crowd.now)
        crowd.waiting.make_room(crowd.now)
        assert crowd.was_dropped(f"flood {number}")
        crowd.now += SILENT_S / 2
    assert sum(lane.count("flood") for lane in (crowd.waiting._agents, crowd.waiting._others)) == 1
    assert not crowd.was_dropped("flood 2")
    crowd.close()


def test_who_waits_for_less_than_a_second_makes_no_room() -> None:
    crowd = Crowd()
    for number in range(3):
        crowd.knocks(str(number), at="nat")
    crowd.now = SILENT_S / 2
    assert not crowd.waiting.may_make_room(crowd.now)
    crowd.waiting.make_room(crowd.now)
    assert len(crowd.waiting) == 3
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
    sockets = [each.sock for lane in (crowd.waiting._agents, crowd.waiting._others) for each in lane.latest(2)]
    crowd.waiting.close()
    assert [sock.fileno() for sock in sockets] == [-1, -1]
    assert crowd.let_in() == []
    crowd.close()
