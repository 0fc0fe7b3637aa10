"""One of the replicas holds the Lease; a dead holder's runs out; clocks of others do not matter."""

import pytest

from agent.fallback.lease import DURATION_S, Lease
from agent.kube import KubeError
from tests.agent.fallback.kubeapi import Api, Clock

PATH = "/apis/coordination.k8s.io/v1/namespaces/riata-system/leases/riata-agent"


class World:
    """Two replicas and their API server, which was given the Lease empty, as the manifest ships it."""

    def __init__(self):
        self.api, self.clock = Api(), Clock()
        self.api.objects[PATH] = {"metadata": {"name": "riata-agent", "resourceVersion": "1", "labels": {"a": "b"}}}
        self.one, self.two = self.replica("one", wall=1e9), self.replica("two", wall=2e9)

    def replica(self, name, wall):
        return Lease(self.api, "riata-system/riata-agent", name, clock=self.clock, wall=lambda: wall + self.clock.now)

    @property
    def spec(self):
        return self.api.objects[PATH]["spec"]


async def test_the_first_one_gets_it_and_keeps_it():
    world = World()
    assert [await world.one.hold(), await world.two.hold()] == [True, False]
    for _ in range(10):
        world.clock.now += DURATION_S / 3
        assert [await world.one.hold(), await world.two.hold()] == [True, False]
    assert world.spec["leaseTransitions"] == 0
    assert world.spec["leaseDurationSeconds"] == DURATION_S
    assert world.spec["acquireTime"] < world.spec["renewTime"]
    assert world.api.objects[PATH]["metadata"]["labels"] == {"a": "b"}


async def test_a_dead_holders_lease_runs_out_by_ones_own_clock():
    world = World()
    await world.one.hold()
    assert await world.two.hold() is False
    world.clock.now += DURATION_S - 1
    assert await world.two.hold() is False
    world.clock.now += 1
    assert await world.two.hold() is True
    assert (world.spec["holderIdentity"], world.spec["leaseTransitions"]) == ("two", 1)
    assert await world.one.hold() is False


async def test_a_released_lease_is_free_at_once():
    world = World()
    await world.one.hold()
    await world.one.release()
    await world.two.release()
    assert await world.two.hold() is True


async def test_of_two_at_the_same_moment_one_wins():
    world = World()
    read = world.api.get

    async def get(path):
        document = await read(path)
        world.api.objects[path]["metadata"]["resourceVersion"] = "7"
        return document

    world.api.get = get
    assert await world.one.hold() is False
    assert world.one.is_held is False


async def test_who_cannot_ask_does_not_hold_it():
    world = World()
    await world.one.hold()
    world.api.fail = 500
    with pytest.raises(KubeError):
        await world.one.hold()
    assert world.one.is_held is False
    world.api.fail = 0
    assert await world.one.hold() is True


async def test_one_that_was_taken_without_an_answer_is_taken_at_the_next_round():
    """The write was applied, so that the record names this replica by then."""
    world = World()
    put = world.api.put

    async def lost(path, document):
        await put(path, document)
        raise KubeError(0, "the connection broke")

    world.api.put = lost
    with pytest.raises(KubeError):
        await world.one.hold()
    world.api.put = put
    assert (await world.one.hold(), world.one.is_taken) == (True, True)
    assert (await world.one.hold(), world.one.is_taken) == (True, False)


@pytest.mark.parametrize(
    "spec", [None, [], {"holderIdentity": "x", "leaseDurationSeconds": "soon"}, {"holderIdentity": 7}]
)
async def test_a_strange_record_is_waited_out(spec):
    world = World()
    world.api.objects[PATH]["spec"] = spec
    if not await world.one.hold():
        world.clock.now += DURATION_S
        assert await world.one.hold() is True
