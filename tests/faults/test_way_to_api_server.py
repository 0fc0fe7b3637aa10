"""The way between an agent and its API server: what is lost on it now and then ends nothing, its end is noticed."""

import asyncio
import socket
import time

import pytest

from proto.aio.tasks import TaskGroup
from tests import harness
from tests.faults import figures
from tests.faults.deaf import deaf
from tests.faults.rig import Answer, Client, FaultCluster, fault_cluster
from tests.harness.children import until

pytestmark = [pytest.mark.alone, pytest.mark.timeout(120)]

PROBED_S = (13.0, 19.0)
"""In between the kernel asks on a quiet connection whether the other end is there (agent.relay.connection: after 15 s,
then every 5 s); its timers are late by a second or two."""
ANSWERED_S = 26.0
UNREAD_S = 12.0
"""Longer than anything that was sent may be unacknowledged."""
LARGE_BYTES = 8 * 1024 * 1024
"""More than the kernel's buffers on both sides hold."""
GONE_S = 6.5
"""Five to six seconds (agent.relay.connection.UNACKNOWLEDGED_S), and what a repetition takes."""
GONE_WITHOUT_ROOM_S = 9.0
"""Three probes in vain before that: the kernel asks less and less often. From a second before the way is gone."""


async def test_a_lost_probe_and_a_slow_reader_end_nothing_and_a_way_that_is_gone_ends_what_is_on_it() -> None:
    seed = figures.seed()
    async with (
        harness.hub() as hub,
        fault_cluster(hub, "slow", seed=seed) as slow,
        fault_cluster(hub, "gone", seed=seed) as gone,
        slow.replica("agent"),
        gone.replica("agent"),
        slow.client() as patient,
        gone.client() as client,
        TaskGroup("way to API server") as tasks,
    ):
        quiet = tasks.spawn(patient.ask("GET", f"id=quiet&delay={ANSWERED_S}&size=1000"), name="quiet")
        await until(lambda: slow.stub.asked["quiet"] > 0, what="the request", timeout_s=10)
        started = time.monotonic()
        silent = connection_of(slow, "quiet")
        upload = patient.ask("POST", f"id=large&unread={UNREAD_S}", body=bytes(LARGE_BYTES))
        unread = tasks.spawn(upload, name="unread")
        answers = await without_a_way(gone, client, tasks)
        await asyncio.sleep(started + PROBED_S[0] - time.monotonic())
        assert time.monotonic() - started < PROBED_S[0] + 1, "too late: the first probe was answered"
        with deaf([silent]):
            await asyncio.sleep(PROBED_S[1] - PROBED_S[0])
        answers |= {"quiet": await quiet, "unread": await unread}
    figures.show("A1", seed, **{f"{name}_s": answer.seconds for name, answer in answers.items()})
    assert answers["quiet"].is_whole(1000), answers["quiet"]
    assert answers["unread"].status == 200, answers["unread"]
    assert slow.stub.executed["large"] == 1
    assert answers["read"].is_whole(1000), answers["read"]
    assert answers["read"].seconds <= GONE_S * figures.room()
    for name, bound_s in (("change", GONE_S), ("full", GONE_WITHOUT_ROOM_S)):
        assert answers[name].status == 504, (name, answers[name])
        assert answers[name].seconds <= bound_s * figures.room()
        assert gone.stub.executed[name] == 0, f"{name}: executed when the way was back"


async def without_a_way(cluster: FaultCluster, client: Client, tasks: TaskGroup) -> dict[str, Answer]:
    """What requests get whose connections nobody hears any more: a read, a change, and an upload for which there was no
    room before either."""
    await asyncio.gather(*(client.ask("GET", f"id=warm-{number}&delay=1") for number in range(3)))
    upload = client.ask("POST", f"id=full&unread={UNREAD_S}", body=bytes(LARGE_BYTES))
    full = tasks.spawn(upload, name="full")
    await until(lambda: cluster.stub.asked["full"] > 0, what="the upload", timeout_s=10)
    await asyncio.sleep(1)
    with deaf([each.socket for each in cluster.stub.connections]):
        read = tasks.spawn(client.ask("GET", "id=read&size=1000"), name="read")
        change = tasks.spawn(client.ask("POST", "id=change", body=b"{}"), name="change")
        return {"read": await read, "change": await change, "full": await full}


def connection_of(cluster: FaultCluster, name: str) -> socket.socket:
    """The API server's end of the connection that this request came over."""
    (found,) = [each.socket for each in cluster.stub.connections if each.asked == name]
    return found
