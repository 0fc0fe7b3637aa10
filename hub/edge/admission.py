"""Who is greeted when, in a storm of connections: how many handshakes may be under way, and whose turn it is.

A handshake costs what thirty requests cost, and thousands of agents that have lost their hub begin theirs in the same
second. As many as the loop can bear are under way; the others wait, already accepted.
"""

from __future__ import annotations

import socket
from typing import Final

from hub.edge.accepted import Accepted, Shares
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
"""Longer than a ClientHello takes to come from anywhere: when all places are taken, who has said less for so long
makes room for who comes."""
GREEDY_S: Final = 1.5
PATIENCE_S: Final = 2.5
"""A handshake that old gives way when no place is left: of an origin that has several, of any. From the other side of
the world it takes 0.3 s behind the ClientHello, over two satellites 1 s, and after a loss 1.5 s more."""
TURNS_MIN: Final = 12
"""Nor before the listener has had so many turns since: where that takes longer it is the hub that is slow, and all of
its handshakes would give way to the next, and none end."""
_RECORD_HEAD_BYTES: Final = 5
_MARK: Final = SUBPROTOCOL.encode("ascii")
_PEEK: Final = int(socket.MSG_PEEK | socket.MSG_DONTWAIT)


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

    def has_room(self, handshakes: int) -> bool:
        """Whether a handshake may begin beside so many."""
        return handshakes < self.size

    def has_room_for_agent(self, agents: int, greetings: int) -> bool:
        """Whether an agent's may begin beside so many of agents. Those count too that are past theirs and nobody yet:
        when their places are taken the next are sent away. Somebody may be silent there; so LEAST may always go on,
        how many others ever stand still."""
        return agents < max(self.size - greetings, self._least)

    def has_room_beside_agents(self, others: int) -> bool:
        """Whether another's may begin while agents wait: some places are theirs."""
        return others < max(self.size - LEAST, self.size // 2, 1)

    def has_room_for_silent(self, handshakes: int, greetings: int) -> bool:
        """The same for who has said nothing yet, and may be an agent, or silent for ever: half is left to those who
        have spoken."""
        return handshakes < max(self.size // 2, 1) and self.has_room_for_agent(handshakes, greetings)


class Handshakes:
    """Those under way."""

    def __init__(self) -> None:
        self._all = Shares()
        self._agents = Shares()

    def __len__(self) -> int:
        return len(self._all)

    @property
    def agents(self) -> int:
        return len(self._agents)

    @property
    def others(self) -> int:
        return len(self._all) - len(self._agents)

    def begin(self, accepted: Accepted, now: float, turn: int) -> None:
        accepted.since, accepted.turn = now, turn
        self._all.add(accepted)
        if accepted.is_agent:
            self._agents.add(accepted)

    def end(self, accepted: Accepted) -> None:
        """Nothing for one that has given way."""
        self._all.discard(accepted)
        self._agents.discard(accepted)

    def slowest(self, waiting: Waiting, now: float, turn: int, *, of_agents: bool) -> Accepted | None:
        """Who gives way to one that waits, of agents or of all: the oldest of the greediest origin, if it is old, else
        the oldest. Not for others of its own origin: many agents behind a NAT are slow, and none would ever end its
        handshake."""
        shares = self._agents if of_agents else self._all
        greedy, oldest = shares.oldest_of_greediest(), shares.oldest()
        if greedy is None or oldest is None:
            return None
        limits = [(oldest, PATIENCE_S)]
        if shares.count(greedy.origin) > 1:
            limits.insert(0, (greedy, GREEDY_S))
        for accepted, age_s in limits:
            is_old = now - accepted.since >= age_s and turn - accepted.turn >= TURNS_MIN
            if is_old and waiting.has_spoken(besides=accepted.origin, of_agents=of_agents):
                return accepted
        return None


class Waiting:
    """Accepted connections without a handshake, in two lanes that take turns: of agents, and of all others. Who
    administers the hub while five thousand agents come back waits for one of them, not for all. A client is silent
    until its first words are whole, a ClientHello or in the clear a head: it is in neither, and next when nobody else
    is. A single byte may be all that it ever says.

    In its lane the newest is next. In a storm the oldest wait for its end anyway, and may have given up.
    """

    def __init__(self, *, is_tls: bool) -> None:
        self._is_tls = is_tls
        self._agents = Shares()
        self._others = Shares()
        self._silent = Shares()
        self._is_turn_of_agents = False

    def __len__(self) -> int:
        return len(self._agents) + len(self._others) + len(self._silent)

    @property
    def has_agents(self) -> bool:
        return bool(self._agents)

    def has_spoken(self, *, besides: str, of_agents: bool) -> bool:
        """Whether anybody has of another origin, or any agent."""
        lanes = (self._agents,) if of_agents else (self._agents, self._others)
        return any(len(lane) > lane.count(besides) for lane in lanes)

    def has_next(self, *, with_others: bool = True, with_agents: bool, with_silent: bool = True) -> bool:
        """Whether `take` would find somebody, as far as is known."""
        return bool(
            (with_others and self._others) or (with_agents and (self._agents or (with_silent and self._silent)))
        )

    def put(self, sock: socket.socket, address: object, now: float) -> None:
        self._enter(self._lane_of(sock), Accepted(sock, address, now))

    def may_make_room(self, now: float) -> bool:
        """Whether `make_room` would drop somebody, as far as is known."""
        return self._longest_silent(now) is not None or self._greedy(now) is not None

    def make_room(self, now: float) -> None:
        """Close who has been silent for longest, if that is SILENT_S; else who waits for so long of the origin of which
        the most wait. So nobody keeps all others out by what costs him nothing."""
        while (accepted := self._longest_silent(now)) is not None:
            self._silent.discard(accepted)
            lane = self._lane_of(accepted.sock)
            if lane is self._silent:
                accepted.sock.close()
                return
            self._enter(lane, accepted)
        if (greedy := self._greedy(now)) is not None:
            (self._agents if greedy.is_agent else self._others).discard(greedy)
            greedy.sock.close()

    def sort(self) -> None:
        """See who has spoken meanwhile, of the newest SORTED_MAX."""
        for accepted in self._silent.latest(SORTED_MAX):
            lane = self._lane_of(accepted.sock)
            if lane is not self._silent:
                self._silent.discard(accepted)
                self._enter(lane, accepted)

    def take(
        self,
        *,
        with_others: bool = True,
        with_agents: bool = True,
        with_silent: bool = True,
        besides: str | None = None,
    ) -> Accepted | None:
        """The next whose client is still there; sockets of the others are closed. None if nobody is. Who is silent may
        be an agent. In its lane somebody of another origin than `besides` comes first, which has given way."""
        self._is_turn_of_agents = not self._is_turn_of_agents
        lanes = [self._agents] if with_agents else []
        if with_others:
            lanes.insert(len(lanes) if self._is_turn_of_agents else 0, self._others)
        if with_agents and with_silent:
            lanes.append(self._silent)
        for lane in lanes:
            while (accepted := lane.pop(besides)) is not None:
                if not gone([accepted.sock]):
                    return accepted
                accepted.sock.close()
        return None

    def close(self) -> None:
        """Close them all."""
        for lane in (self._agents, self._others, self._silent):
            while (accepted := lane.pop()) is not None:
                accepted.sock.close()

    def _enter(self, lane: Shares, accepted: Accepted) -> None:
        lane.add(accepted)
        accepted.is_agent = lane is self._agents

    def _longest_silent(self, now: float) -> Accepted | None:
        oldest = self._silent.oldest()
        return oldest if oldest is not None and now - oldest.since >= SILENT_S else None

    def _greedy(self, now: float) -> Accepted | None:
        """Of the lane in which an origin has the most."""
        agent, other = self._agents.oldest_of_greediest(), self._others.oldest_of_greediest()
        oldest = agent or other
        if agent is not None and other is not None:
            is_agent = self._agents.count(agent.origin) > self._others.count(other.origin)
            oldest = agent if is_agent else other
        return oldest if oldest is not None and now - oldest.since >= SILENT_S else None

    def _lane_of(self, sock: socket.socket) -> Shares:
        """By what has arrived: whether it names the tunnel's subprotocol. In TLS agents offer it by ALPN (RFC 7301), in
        the clear it is in the head of their only request. It is a hint: whoever gives it falsely waits among agents."""
        try:
            said = sock.recv(PEEKED_BYTES, _PEEK)
        except OSError:  # nothing has arrived
            return self._silent
        if not (_has_record(said) if self._is_tls else _has_head(said)):
            return self._silent
        return self._agents if _MARK in said else self._others


def _has_record(said: bytes) -> bool:
    """Whether the first record of TLS is here: the whole ClientHello, whatever names it offers. What nobody looks at
    may be missing."""
    size = _RECORD_HEAD_BYTES + int.from_bytes(said[3:_RECORD_HEAD_BYTES])
    return len(said) >= max(min(size, PEEKED_BYTES), _RECORD_HEAD_BYTES)


def _has_head(said: bytes) -> bool:
    return b"\r\n\r\n" in said or len(said) == PEEKED_BYTES
