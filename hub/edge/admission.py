"""Who is greeted when, in a storm of connections: how many handshakes may be under way, and whose turn it is.

A handshake costs what thirty requests cost, and thousands of agents that have lost their hub begin theirs in the same
second. As many as the loop can bear are under way; the others wait, already accepted.
"""

from __future__ import annotations

import socket
from typing import Final

from hub.edge.vanished import gone
from proto.versions import SUBPROTOCOL

TURN_S: Final = 0.025
"""Of CPU time: a turn of the loop that needs more is too long, and what is under way is made less. Others see some
turns one after the other, a connection's handshake about six. Time that other processes took we cannot save."""
LEAST: Final = 16
"""Handshakes that may be under way, however long turns are: they may be long for another reason."""
GROWTH: Final = 2
SHRINKAGE: Final = 0.75
FURTHER_S: Final = 0.001
"""Of CPU time of the last turn, for each handshake that begins in the next one beside the first. Those that begin
together are done in a row, a quarter of a millisecond each, and agents wait for what the hub has for them behind that.
Where turns are long for another reason as many begin as make up for it."""
PER_TURN_MAX: Final = 8


PEEKED_BYTES: Final = 4096
SORTED_MAX: Final = 1024
"""Looks at silent connections in one turn, 2 ms."""
SILENT_S: Final = 1.0
"""Longer than a ClientHello takes to come from anywhere: when all places are taken, who has said nothing for so long
makes room for who comes."""
_MARK: Final = SUBPROTOCOL.encode("ascii")
_PEEK: Final = int(socket.MSG_PEEK | socket.MSG_DONTWAIT)


class Accepted:
    """A connection, the address that it comes from, and when it came."""

    __slots__ = ("address", "since", "sock")

    def __init__(self, sock: socket.socket, address: object, since: float) -> None:
        self.sock = sock
        self.address = address
        self.since = since


class Window:
    """How many handshakes may be under way: more behind each short turn of the loop, by a share less behind each long
    one, as TCP finds out what a way can carry. Far agents take many at once, since each waits for the network; near
    ones few, since each takes the loop's time."""

    def __init__(self, most: int) -> None:
        self._least, self._most = min(LEAST, most), most
        self.size = self._least

    def turned(self, cpu_s: float) -> int:
        """A turn of the loop took so much CPU time; how many handshakes may begin in the next one."""
        size = int(self.size * SHRINKAGE) if cpu_s > TURN_S else self.size + GROWTH
        self.size = min(max(size, self._least), self._most)
        return min(1 + int(cpu_s / FURTHER_S), PER_TURN_MAX)

    def has_room(self, handshakes: int, greetings: int = 0) -> bool:
        """Whether a TLS handshake may begin beside so many. That of an agent counts those too that are past theirs and
        nobody yet: when their places are taken the next are sent away. Somebody may be silent there; so LEAST may
        always go on."""
        return handshakes < max(self.size - greetings, self._least)

    def has_room_for_silent(self, handshakes: int) -> bool:
        """The same for who has said nothing yet, and may never: half is left to those who have."""
        return handshakes < max(self.size // 2, 1)


class Waiting:
    """Accepted connections without a handshake, in two lanes that take turns: of agents, and of all others. Who
    administers the hub while five thousand agents come back waits for one of them, not for all. A client that has said
    nothing yet is in neither, and next when nobody else is.

    In its lane the newest is next. In a storm the oldest wait for its end anyway, and may have given up.
    """

    def __init__(self) -> None:
        self._agents: list[Accepted] = []
        self._others: list[Accepted] = []
        self._silent: list[Accepted] = []
        self._is_turn_of_agents = False

    def __len__(self) -> int:
        return len(self._agents) + len(self._others) + len(self._silent)

    def has_next(self, *, with_agents: bool, with_silent: bool = True) -> bool:
        """Whether `take` would find somebody, as far as is known."""
        return bool(self._others or (with_agents and (self._agents or (with_silent and self._silent))))

    def put(self, sock: socket.socket, address: object, now: float) -> None:
        self._lane_of(sock).append(Accepted(sock, address, now))

    def has_silent(self, now: float) -> bool:
        """Whether somebody has said nothing for SILENT_S, as far as is known."""
        return bool(self._silent) and now - self._silent[0].since >= SILENT_S

    def drop_silent(self, now: float) -> None:
        """Close who has said nothing for longest, if that is SILENT_S."""
        while self.has_silent(now):
            accepted = self._silent.pop(0)
            lane = self._lane_of(accepted.sock)
            if lane is self._silent:
                accepted.sock.close()
                return
            lane.append(accepted)

    def sort(self) -> None:
        """See who has spoken meanwhile, of the newest SORTED_MAX."""
        latest = self._silent[-SORTED_MAX:]
        del self._silent[-SORTED_MAX:]
        for accepted in latest:
            self._lane_of(accepted.sock).append(accepted)

    def take(self, *, with_agents: bool = True, with_silent: bool = True) -> Accepted | None:
        """The next whose client is still there; sockets of the others are closed. None if nobody is. Who is silent may
        be an agent."""
        self._is_turn_of_agents = not self._is_turn_of_agents
        lanes = [self._others, self._agents, *([self._silent] if with_silent else [])]
        if not with_agents:
            del lanes[1:]
        elif self._is_turn_of_agents:
            lanes[:2] = self._agents, self._others
        for lane in lanes:
            while lane:
                accepted = lane.pop()
                if not gone([accepted.sock]):
                    return accepted
                accepted.sock.close()
        return None

    def close(self) -> None:
        """Close them all."""
        for lane in (self._agents, self._others, self._silent):
            while lane:
                lane.pop().sock.close()

    def _lane_of(self, sock: socket.socket) -> list[Accepted]:
        """By what has arrived: whether it names the tunnel's subprotocol. In TLS agents offer it by ALPN (RFC 7301), in
        the clear it is in the head of their only request. It is a hint: whoever gives it falsely waits among agents."""
        try:
            said = sock.recv(PEEKED_BYTES, _PEEK)
        except OSError:  # nothing has arrived, or the end
            return self._silent
        return self._agents if _MARK in said else self._others
