"""One seed: a cluster, some faults, some requests, and what they came to."""

import asyncio
import collections
import dataclasses
import logging
import random
from collections.abc import Awaitable, Callable

from proto.window import CROWDED_BYTES
from tests.faults.sim import loop
from tests.faults.sim.agent import Agent
from tests.faults.sim.client import Client
from tests.faults.sim.session import Session
from tests.faults.sim.watcher import Watcher
from tests.faults.sim.world import Errors, World

REQUESTS = 24
WATCHERS = 2
SESSIONS = 2
BUSY_S = 20.0
"""In which faults and requests come."""
SETTLED_S = 25.0
"""From the end of the last fault until all is well: an idle session's dead peer is known, and its agent is back."""
QUIET_S = 75.0
"""From when on nothing begins until everything has ended: a route's patience, the answers that take their time."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a seed came to. Nothing `broken` is what is promised."""

    seed: int
    broken: tuple[str, ...]
    fates: collections.Counter[str]
    faults: tuple[str, ...]
    trace: str


def play(seed: int) -> Outcome:
    """Run a seed from its beginning to its end."""
    errors = Errors()
    access = logging.getLogger("riata.access")
    logger, before, level = logging.getLogger(), logging.getLogger().level, access.level
    logger.addHandler(errors)
    logger.setLevel(logging.ERROR)
    access.setLevel(logging.CRITICAL)
    try:
        outcome = loop.run(_play(seed))
    except AssertionError as exc:  # everybody waits for ever, or a task or a timer is left behind
        outcome = Outcome(seed, (f"{type(exc).__name__}: {exc}",), collections.Counter(), (), "")
    finally:
        logger.removeHandler(errors)
        logger.setLevel(before)
        access.setLevel(level)
    return dataclasses.replace(outcome, broken=(*outcome.broken, *errors.said))


async def _play(seed: int) -> Outcome:
    dice = random.Random(seed)
    world = World()
    world.budget.promised = elsewhere = seed % 2 * CROWDED_BYTES  # every other hub is crowded
    world.start()
    agents = _agents(world, dice)
    is_spared = any(agent.is_spared for agent in agents)
    for agent in agents:
        agent.start()
    await asyncio.sleep(1.0)
    faults = [_fault(dice, agents) for _ in range(dice.randrange(1, 6))]
    coming: list[tuple[float, Callable[[], Awaitable[None]]]] = [(fault.at, fault.happen) for fault in faults]
    coming.extend((dice.random() * BUSY_S, _request(world, dice, f"{seed}-{number}")) for number in range(REQUESTS))
    started = world.now()
    watchers = [Watcher(world, dice, f"w{seed}-{number}") for number in range(WATCHERS)]
    sessions = [Session(world, dice, f"s{seed}-{number}") for number in range(SESSIONS)]
    coming.extend((dice.random() * BUSY_S / 2, _soon(watcher.begin)) for watcher in watchers)
    coming.extend((dice.random() * BUSY_S, _soon(session.begin)) for session in sessions)
    for at, call in sorted(coming, key=lambda each: each[0]):
        await asyncio.sleep(max(started + at - world.now(), 0.0))
        await call()
    await asyncio.sleep(max(started + max(fault.until for fault in faults) - world.now(), 0.0) + SETTLED_S)
    users, patience = (*world.clients, *sessions), started + BUSY_S + QUIET_S
    while world.now() < patience and not all(user.fate for user in users):  # noqa: ASYNC110 - virtual time
        await asyncio.sleep(1.0)
    for watcher in watchers:
        watcher.stop()
    last = Client(world, dice, f"{seed}-last", "GET", 1000, 0.0)
    last.is_slow, last.leaves_after, last.timeout_s = False, None, None
    world.clients.append(last)
    last.begin()
    await asyncio.sleep(1.0)
    _judge(world, agents, last, is_spared=is_spared)
    for session in sessions:
        world.check_session(session)
    for agent in agents:
        await agent.kill()
    await world.close()
    kept = world.budget.used + world.budget.promised - elsewhere
    if kept:
        world.broken.append(f"{kept} bytes of the buffer budget were never given back")
    fates = collections.Counter(f"{client.method} {client.fate}" for client in world.clients)
    fates += collections.Counter(f"exec {session.fate}" for session in sessions)
    fates["watch ended"] = sum(watcher.clean_ends for watcher in watchers)
    fates["watch cut"] = sum(watcher.cuts for watcher in watchers)
    fates["sessions superseded"] = world.supersessions
    fates["late frames"] = world.observer.late_frames
    said = tuple(f"{fault.at:.2f} s: {fault.text}" for fault in sorted(faults, key=lambda each: each.at))
    return Outcome(seed, tuple(world.broken), fates, said, world.trace.hexdigest())


def _agents(world: World, dice: random.Random) -> list[Agent]:
    """Two or three: one or two cluster agents, perhaps a node agent; in half of the seeds one of them is spared."""
    roles = dice.choice([("cluster", "cluster"), ("cluster", "node"), ("cluster", "cluster", "node")])
    agents = [Agent(world, f"{role}-{n}", role, random.Random(dice.random())) for n, role in enumerate(roles)]
    for agent in agents:
        for weather in agent.weather:
            weather.delay, weather.jitter = dice.choice([0.0005, 0.02, 0.15]), dice.choice([0.0, 0.01])
            weather.rate = dice.choice([2e6, 50e6])
    if dice.random() < 0.5:
        dice.choice(agents).is_spared = True
    return agents


@dataclasses.dataclass(frozen=True)
class _Fault:
    """`at`, `until`: seconds from when faults and requests come."""

    at: float
    until: float
    text: str
    happen: Callable[[], Awaitable[None]]


def _fault(dice: random.Random, agents: list[Agent]) -> _Fault:
    victim = dice.choice([agent for agent in agents if not agent.is_spared])
    kind = dice.choice(["kill", "freeze", "hold", "to hub", "to agent", "reset", "drain", "half-open"])
    seconds = dice.choice([0.5, 3.0, 7.0, 20.0])

    async def happen() -> None:
        if victim.life is None:
            return
        if kind == "kill":
            await victim.kill()
            asyncio.get_running_loop().call_later(min(seconds, 3.0), victim.start)
        elif kind == "freeze":
            victim.freeze(seconds)
        elif kind == "reset":
            victim.reset()
        elif kind == "half-open":
            victim.half_open(seconds)
        elif kind == "drain":
            await victim.drain()
        else:
            victim.hold(seconds, to_hub=kind != "to agent", to_agent=kind != "to hub")

    at = dice.random() * BUSY_S
    return _Fault(at, at + seconds, f"{kind} {victim.name} {seconds} s", happen)


def _request(world: World, dice: random.Random, name: str) -> Callable[[], Awaitable[None]]:
    method = dice.choice(["GET", "GET", "GET", "POST", "PUT"])
    size = dice.choice([100, 4_000, 200_000])
    client = Client(world, dice, name, method, size, dice.choice([0.0, 0.05, 1.5, 4.0]))
    world.clients.append(client)

    return _soon(client.begin)


def _soon(call: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    async def begin() -> None:
        call()

    return begin


def _judge(world: World, agents: list[Agent], last: Client, *, is_spared: bool) -> None:
    for client in world.clients:
        world.check_client(client, may_fail=not is_spared)
    if last.fate != "whole":
        world.broken.append(f"after everything had healed a read got {last.fate or 'nothing'}")
    if world.relay.live:
        world.broken.append(f"{world.relay.live} exchanges never ended")
    for tunnel in world.registry:
        if tunnel.link.streams or tunnel.link.queued_bytes:
            world.broken.append(f"{tunnel.link.name} kept {tunnel.link.streams} streams")
