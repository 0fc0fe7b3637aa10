"""The rounds of the replica that holds the Lease, against an API server's objects."""

import asyncio

import pytest

from agent.counts import Counts
from agent.fallback.choose import GRACE_S, NO_AGENT
from agent.fallback.endpoints import ENTRY, SLICE, ControlPlaneEndpoints
from agent.fallback.labels import PUBLISH_ROUNDS, REMIND_ROUNDS, FallbackLabels
from agent.fallback.lease import Lease
from agent.fallback.nodes import (
    AVOIDED_S,
    NAMED_MAX,
    NOT_WINDOWS,
    PAGE,
    PAGES_MAX,
    REFUSED_S,
    WIDE_INTERVAL_S,
    Nodes,
)
from proto.aio.tasks import TaskGroup
from tests.agent.fallback.kubeapi import Api, Clock, node, pod
from tests.agent.fallback.test_endpoints import CONFIG_MAP, slice_of
from tests.agent.fallback.test_lease import PATH

NOW = 1_780_000_000.0


class World:
    """A replica, its clocks and its API server."""

    def __init__(self, *nodes, pods=None, account="riata-agent"):
        self.api, self.clock, self.counts = Api(*nodes, pods=pods or ()), Clock(), Counts()
        self.api.objects |= {
            PATH: {"metadata": {"resourceVersion": "1"}},
            CONFIG_MAP: {"metadata": {"resourceVersion": "1"}},
            SLICE: slice_of("10.0.0.5"),
        }
        self.runs_everywhere = pods is None
        lease = Lease(self.api, "riata-system/riata-agent", "me", clock=self.clock, wall=self.wall)
        seen = Nodes(self.api, "riata-system", account, clock=self.clock, wall=self.wall)
        endpoints = ControlPlaneEndpoints(self.api, "riata-system/riata-agent-endpoints")
        self.labels = FallbackLabels(self.api, lease, seen, endpoints, self.counts)

    def wall(self):
        return NOW + self.clock.now

    async def round(self, seconds=15.0):
        self.clock.now += seconds
        if self.runs_everywhere:
            self.api.pods = [pod(name) for name in self.api.nodes]
        await self.labels._attempt()
        return self.api.chosen()


async def test_three_nodes_are_chosen_and_stay():
    world = World(*(node(f"w{n}", zone=f"z{n}") for n in range(3)), node("p", plane=True))
    assert await world.round() == {"p", "w0", "w1"}
    assert world.counts.fallback_nodes == 3
    assert (world.counts.leads_fallback, dict(world.counts.fallback_changes)) == (True, {"chosen": 3})
    for _ in range(100):
        await world.round()
    assert len(world.api.patches) == 3


async def test_a_node_that_leaves_is_replaced_and_one_that_is_silent_after_its_grace():
    world = World(*(node(name) for name in "abcd"))
    assert await world.round() == {"a", "b", "c"}
    del world.api.nodes["a"]
    assert await world.round() == {"b", "c", "d"}
    world.api.nodes["e"] = node("e")
    world.api.nodes["b"]["status"]["conditions"][0]["status"] = "Unknown"
    assert await world.round() == {"b", "c", "d"}
    assert await world.round(15) == {"b", "c", "d"}
    assert await world.round(15) == {"c", "d", "e"}
    world.api.nodes["b"]["status"]["conditions"][0]["status"] = "True"
    assert await world.round() == {"c", "d", "e"}


async def test_cordoned_nodes_are_released_as_others_can_take_their_places():
    """A cluster whose only node is cordoned had no fallback left."""
    world = World(*(node(name) for name in "abc"), *(node(name, cordoned=True) for name in "de"))
    assert await world.round() == {"a", "b", "c"}
    for name in "abc":
        world.api.nodes[name]["spec"]["unschedulable"] = True
    for _ in range(100):
        assert await world.round() == {"a", "b", "c"}
    del world.api.nodes["d"]["spec"]["unschedulable"]
    assert await world.round() == {"a", "b", "d"}
    del world.api.nodes["a"]["spec"]["unschedulable"]
    del world.api.nodes["e"]["spec"]["unschedulable"]
    assert await world.round() == {"a", "d", "e"}
    assert await world.round() == {"a", "d", "e"}


async def test_a_node_on_which_no_agent_comes_up_is_avoided_for_a_while(caplog):
    caplog.set_level("INFO")
    world = World(*(node(name) for name in "abcd"), pods=[pod(name) for name in "abcd"])
    assert await world.round() == {"a", "b", "c"}
    world.api.pods[0] = pod("a", running=False)
    assert await world.round() == {"a", "b", "c"}
    assert await world.round(GRACE_S[NO_AGENT]) == {"b", "c", "d"}
    assert "no node agent runs on it" in {getattr(record, "reason", "") for record in caplog.records}
    world.api.pods.remove(pod("c"))
    await world.round()
    assert await world.round(GRACE_S[NO_AGENT]) == {"b", "c", "d"}  # nobody else is to have it
    assert await world.round(AVOIDED_S) == {"a", "b", "d"}
    assert await world.round(GRACE_S[NO_AGENT]) == {"a", "b", "d"}
    world.api.pods += [pod("a"), pod("c")]
    assert await world.round() == {"a", "b", "d"}


async def _changes(world, hours):
    """Label changes within so many hours."""
    before = len(world.api.patches)
    for _ in range(hours * 12):
        await world.round(300.0)
    return len(world.api.patches) - before


async def test_where_the_fallbacks_pod_runs_nowhere_the_labels_come_to_rest():
    """An image that cannot be pulled, in virtual time. Each node was given up every 12 minutes before, for ever."""
    for count in (2, 8):
        world = World(*(node(f"w{number}") for number in range(count)), pods=[])
        days = [await _changes(world, 24) for _ in range(3)]
        print(f"{count} nodes: {days} labels changed on each day")
        if count <= 3:
            assert days == [count, 0, 0]
        assert days[0] <= 10 * count
        assert days[2] <= 2 * count
        assert len(world.api.chosen()) == min(count, 3)


async def test_a_node_on_which_no_agent_ran_for_long_is_found_again_soon_after_it_could():
    world = World(*(node(f"w{number}") for number in range(4)), pods=[])
    await _changes(world, 24)
    # Its registry answers again, the image is there: wherever the label is, a pod runs, and it stays.
    world.runs_everywhere = True
    await _changes(world, 1)
    assert await _changes(world, 24) == 0
    assert len(world.api.chosen()) == 3


async def test_without_an_account_pods_are_not_looked_at():
    world = World(node("a"), pods=[], account="")
    await world.round()
    assert await world.round(10_000) == {"a"}
    assert not [path for path in world.api.asked if "/pods" in path]


async def test_a_large_cluster_is_not_listed_whole_nor_often():
    world = World(*(node(f"w{number:04}") for number in range(1000)))
    await world.round()
    lists = [path for path in world.api.asked if NOT_WINDOWS in path]
    assert len(lists) == PAGES_MAX
    assert f"limit={PAGE}" in lists[0]
    world.api.asked.clear()
    for _ in range(int(WIDE_INTERVAL_S / 15) - 1):
        await world.round()
    assert not [path for path in world.api.asked if NOT_WINDOWS in path]
    await world.round()
    assert [path for path in world.api.asked if NOT_WINDOWS in path]


async def test_more_windows_nodes_than_are_looked_at_hide_no_other():
    world = World(*(node(f"a{number:04}") for number in range(PAGE * PAGES_MAX + 10)), *(node(name) for name in "xyz"))
    for name, each in world.api.nodes.items():
        if name.startswith("a"):
            each["metadata"]["labels"]["kubernetes.io/os"] = "windows"
    assert await world.round() == {"x", "y", "z"}  # of which the label says nothing


@pytest.mark.parametrize("count", [40, PAGE * PAGES_MAX + 10])
async def test_nodes_without_a_node_agent_do_not_keep_the_fallback_from_the_others(count):
    """A pool with a taint of its own, or all but the pool that `nodeAgents` is for. Each was tried for two minutes,
    three at a time: an hour for 40, for ever where 300 came first."""
    world = World(
        *(node(f"fargate-{number:03}") for number in range(count)),
        *(node(f"infra-{number}") for number in range(4)),
        pods=[pod(f"infra-{number}") for number in range(4)],
    )
    assert await world.round() == {"infra-0", "infra-1", "infra-2"}
    for _ in range(100):
        await world.round()
    assert len(world.api.patches) == 3
    world.api.nodes["infra-1"]["spec"]["unschedulable"] = True
    assert await world.round() == {"infra-0", "infra-2", "infra-3"}
    world.api.nodes["infra-3"]["spec"]["unschedulable"] = True
    assert await world.round() == {"infra-0", "infra-2", "infra-3"}  # its pod goes on, and elsewhere none would


async def test_before_any_node_agent_runs_nodes_are_tried_and_soon_left_for_those_where_one_does():
    """The cluster was given its agents a moment ago."""
    pool = [node(f"fargate-{number:03}") for number in range(40)]
    world = World(*pool, *(node(f"w{number}") for number in range(3)), pods=[])
    assert await world.round() == {"fargate-000", "fargate-001", "fargate-002"}
    world.api.pods = [pod(f"w{number}") for number in range(3)]
    await world.round()
    assert await world.round(GRACE_S[NO_AGENT]) == {"w0", "w1", "w2"}
    for _ in range(100):
        assert await world.round() == {"w0", "w1", "w2"}


async def test_how_many_nodes_are_asked_for_by_name():
    names = [f"z{number:04}" for number in range(PAGE * PAGES_MAX + 10)]
    world = World(
        *(node(f"a{number:04}") for number in range(PAGE * PAGES_MAX)),
        *(node(name, cordoned=True) for name in names),
        pods=[pod(name) for name in names],
    )
    assert len(await world.round()) == 3
    assert len([path for path in world.api.asked if "metadata.name" in path]) == NAMED_MAX
    assert len([path for path in world.api.asked if "/pods?" in path]) == PAGES_MAX


async def test_those_that_refuse_the_label_keep_it_from_no_other_behind_a_crowd():
    names = [f"z{number}" for number in range(6)]
    world = World(
        *(node(f"a{number:04}") for number in range(PAGE * PAGES_MAX)),
        *map(node, names),
        pods=[pod(name) for name in names],
    )
    world.api.refused = dict.fromkeys(names[:3], 403)
    for _ in range(4):
        found = await world.round()
    assert found == set(names[3:])


async def test_where_the_fallback_runs_no_label_moves():
    """Nobody is better for it that others have node agents too, nor that a new node has none yet."""
    world = World(*(node(f"w{number}", zone="1") for number in range(3)))
    assert await world.round() == {"w0", "w1", "w2"}
    world.runs_everywhere = False
    world.api.nodes |= {"a": node("a", zone="1"), "b": node("b", zone="2")}
    world.api.pods.append(pod("a"))
    for _ in range(100):
        assert await world.round() == {"w0", "w1", "w2"}


async def test_the_other_replica_waits(caplog):
    world = World(node("a"))
    world.api.objects[PATH]["spec"] = {"holderIdentity": "other", "leaseDurationSeconds": 45, "renewTime": "x"}
    assert await world.round() == set()
    assert world.counts.leads_fallback is False
    assert await world.round(45) == {"a"}


async def test_a_lease_that_is_missing_is_said_with_its_cure(caplog):
    """Argo CD applies none; nothing told why there was no fallback but a 404."""
    world = World(node("a"))
    lease = world.api.objects.pop(PATH)
    assert await world.round() == set()
    (said,) = [record.error for record in caplog.records if hasattr(record, "error")]
    assert "answered 404" in said
    assert "apply the agent's manifest" in said
    assert "resource.exclusions" in said
    world.api.objects[PATH] = lease
    assert await world.round() == {"a"}


async def test_a_refusal_is_said_once_and_tried_again(caplog):
    world = World(node("a"))
    world.api.fail = 403
    for _ in range(5):
        await world.round()
    assert caplog.text.count("fallback nodes not looked after") == 1
    world.api.fail = 0
    assert await world.round() == {"a"}


async def test_a_node_whose_label_may_not_be_set_keeps_no_other_from_it(caplog):
    planes = [node(f"p{number}", plane=True) for number in range(3)]
    world = World(*planes, node("w0"), node("w1"))
    world.api.refused = dict.fromkeys(("p0", "p1", "p2"), 403)  # a policy for the control plane's nodes
    assert await world.round() == set()
    assert world.api.objects[CONFIG_MAP]["data"] == {ENTRY: "10.0.0.5:6443\n"}
    (said,) = [record.error for record in caplog.records if hasattr(record, "error")]
    assert all(f"answered 403 to PATCH /api/v1/nodes/{name}" in said for name in ("p0", "p1", "p2"))
    assert await world.round() == {"w0", "w1"}
    assert world.counts.fallback_nodes == 2
    world.api.refused = {"p0": 403}
    assert await world.round(REFUSED_S) == {"w0", "w1"}  # tried again, in vain
    assert await world.round() == {"p1", "w0", "w1"}


async def test_one_refusal_leaves_the_other_changes_of_its_round(caplog):
    world = World(*(node(f"w{number}") for number in range(4)))
    world.api.refused = {"w0": 422}
    assert await world.round() == {"w1", "w2"}
    assert world.counts.fallback_nodes == 2
    assert await world.round() == {"w1", "w2", "w3"}
    for name in ("w1", "w2"):
        world.api.nodes[name]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    world.api.refused = {"w1": 403}
    assert await world.round(REFUSED_S) == {"w0", "w1", "w3"}  # what may not be taken away stays, and is tried again
    world.api.refused = {}
    assert await world.round() == {"w0", "w3"}


async def test_nobody_gives_up_its_label_for_a_better_node_that_may_not_have_it():
    world = World(*(node(f"w{number}") for number in range(3)))
    assert await world.round() == {"w0", "w1", "w2"}
    world.api.nodes["p"] = node("p", plane=True)
    world.api.refused = {"p": 403}
    for _ in range(200):
        assert await world.round() == {"w0", "w1", "w2"}
    assert len(world.api.patches) == 3
    world.api.refused = {}
    for _ in range(100):
        await world.round()
    assert world.api.chosen() == {"p", "w1", "w2"}


async def test_there_are_never_more_than_three_where_a_label_may_not_be_taken_away():
    world = World(*(node(name) for name in "abc"))
    assert await world.round() == {"a", "b", "c"}
    world.api.nodes |= {"p": node("p", plane=True), "q": node("q", plane=True)}
    world.api.refused = dict.fromkeys("abc", 403)  # a policy freezes the workers
    for _ in range(100):
        assert await world.round() == {"a", "b", "c"}
    world.api.refused = {}
    for _ in range(100):
        chosen = await world.round()
    assert {"p", "q"} < chosen


async def test_a_refusal_by_other_nodes_is_nothing_new(caplog):
    """Each round tries three others."""
    world = World(*(node(f"w{number:02}") for number in range(60)))
    world.api.refused = {f"w{number:02}": 403 for number in range(60)}
    for _ in range(2 * REMIND_ROUNDS):
        await world.round()
    assert 1 <= caplog.text.count("fallback nodes not looked after") <= 3


async def test_where_nobody_answers_the_round_does_not_try_every_node():
    world = World(*(node(f"w{number}") for number in range(3)))
    world.api.refused = dict.fromkeys(("w0", "w1", "w2"), 0)
    await world.round()
    assert [path for path in world.api.asked if path.startswith("/api/v1/nodes/")] == ["/api/v1/nodes/w0"]
    world.api.refused = {}
    assert await world.round() == {"w0", "w1", "w2"}


async def test_the_endpoints_are_written_where_nodes_cannot_be_read():
    world = World(node("a"))
    world.api.nodes["a"] = node("a", chosen=True)
    world.api.pods, world.runs_everywhere = None, False  # which no list of pods is
    await world.round()
    assert world.api.objects[CONFIG_MAP]["data"] == {ENTRY: "10.0.0.5:6443\n"}


async def test_the_endpoints_are_looked_at_every_few_rounds():
    world = World(node("a"))
    for _ in range(2 * PUBLISH_ROUNDS):
        await world.round()
    assert world.api.objects[CONFIG_MAP]["data"] == {ENTRY: "10.0.0.5:6443\n"}
    assert world.api.asked.count(SLICE) == 2


async def test_the_end_gives_the_lease_back():
    world = World(node("a"))
    async with TaskGroup("agent") as group:
        group.spawn(world.labels.run(), name="labels")
        await asyncio.sleep(0.02)
    assert world.api.objects[PATH]["spec"]["holderIdentity"] == ""
    assert world.api.chosen() == {"a"}


async def test_who_takes_the_lease_again_gives_a_node_its_moment_again():
    """What was seen hours ago, before another replica looked after the nodes, would have moved the label at once."""
    world = World(*(node(f"w{number}") for number in range(4)), pods=[pod(f"w{number}") for number in range(4)])
    assert await world.round() == {"w0", "w1", "w2"}
    world.api.pods[0] = pod("w0", running=False)
    assert await world.round() == {"w0", "w1", "w2"}
    world.api.pods[0] = pod("w0")
    for number in range(10):
        world.api.objects[PATH]["spec"] |= {"holderIdentity": "other", "renewTime": str(number)}
        await world.round(30)
    world.api.pods[0] = pod("w0", running=False)
    assert await world.round(45) == {"w0", "w1", "w2"}
    assert world.counts.leads_fallback is True
    assert await world.round(GRACE_S[NO_AGENT]) == {"w1", "w2", "w3"}
