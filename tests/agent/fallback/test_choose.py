"""Which nodes get the label: a table of cases, and what holds for any cluster."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.fallback.choose import (
    BETTER_AFTER_S,
    CORDONED,
    DELETED,
    GRACE_S,
    NO_AGENT,
    NODES_MAX,
    NOT_READY,
    SETTLED_S,
    STAYS,
    Node,
    choose,
)

OLD = 10_000.0


def plane(name, zone="", since=OLD, **others):
    return Node(name, is_control_plane=True, zone=zone, since_s=since, **others)


def worker(name, zone="", since=OLD, **others):
    return Node(name, zone=zone, since_s=since, **others)


def applied(nodes, changes):
    """The nodes after the changes, nothing else having happened."""
    gains = {change.node: change.gains for change in changes}
    return [dataclasses.replace(node, is_chosen=gains.get(node.name, node.is_chosen)) for node in nodes]


def chosen(*nodes):
    return {node.name for node in applied(nodes, choose(nodes)) if node.is_chosen}


CASES = {
    "nobody": ([], set()),
    "a single node": ([plane("a", since=0)], {"a"}),
    "control plane first": ([worker("a"), plane("p"), worker("b"), plane("q"), plane("r")], {"p", "q", "r"}),
    "filled up with workers": ([worker("a"), plane("p"), worker("b"), worker("c")], {"p", "a", "b"}),
    "spread over zones": ([worker("a", "1"), worker("b", "1"), worker("c", "2"), worker("d", "3")], {"a", "c", "d"}),
    "control plane before zones": (
        [plane("p", "1"), plane("q", "1"), plane("r", "1"), worker("a", "2")],
        {"p", "q", "r"},
    ),
    "where no agent runs comes last, before zones": (
        [worker("a", "1", is_proven=False), worker("b", "2"), worker("c", "2"), worker("d", "2"), worker("e", "2")],
        {"b", "c", "d"},
    ),
    "but before none": ([worker("a", is_proven=False), worker("b")], {"a", "b"}),
    "a control plane is tried all the same": (
        [plane("p", is_proven=False), worker("a"), worker("b"), worker("c")],
        {"p", "a", "b"},
    ),
    "no other zone without an agent": (
        [*(worker(n, "1", is_chosen=True) for n in "xyz"), worker("a", "2", is_proven=False)],
        set("xyz"),
    ),
    "one with an agent takes the place of one without": (
        [*(worker(n, is_chosen=True) for n in "xy"), worker("z", is_chosen=True, is_proven=False), worker("a")],
        {"a", "x", "y"},
    ),
    "who has just come is last": ([worker("a", since=1), worker("b"), worker("c"), worker("d")], {"b", "c", "d"}),
    "the unfit are not chosen": (
        [plane("p", unfit=CORDONED), plane("q", unfit=NOT_READY), worker("a"), worker("b", unfit=DELETED)],
        {"a"},
    ),
    "a moment of silence changes nothing": (
        [plane("p", is_chosen=True, unfit=NOT_READY, since=29), *(worker(n, is_chosen=True) for n in "ab"), plane("q")],
        {"p", "a", "b"},
    ),
    "a longer one does": (
        [plane("p", is_chosen=True, unfit=NOT_READY, since=30), *(worker(n, is_chosen=True) for n in "ab"), plane("q")],
        {"q", "a", "b"},
    ),
    "a cordoned node is replaced at once": (
        [*(plane(n, is_chosen=True) for n in "pq"), plane("r", is_chosen=True, unfit=CORDONED, since=0), worker("a")],
        {"p", "q", "a"},
    ),
    "where no agent comes up another is tried": (
        [
            *(worker(n, is_chosen=True) for n in "xy"),
            worker("a", is_chosen=True, unfit=NO_AGENT, since=120),
            worker("b"),
        ],
        {"b", "x", "y"},
    ),
    "where nobody else is to have it the label stays": (
        [worker("a", is_chosen=True, unfit=NO_AGENT, since=OLD), worker("b", unfit=NO_AGENT)],
        {"a"},
    ),
    "as many as there is room for": (
        [
            *(worker(n, is_chosen=True, unfit=NO_AGENT) for n in "ab"),
            plane("c", is_chosen=True, unfit=NO_AGENT),
            worker("d"),
            worker("e"),
        ],
        {"c", "d", "e"},
    ),
    "a cordoned one stays where there is no other": (
        [plane("a", is_chosen=True, unfit=CORDONED), plane("b", unfit=CORDONED), worker("c", unfit=NOT_READY)],
        {"a"},
    ),
    "and goes for the first that is fit": (
        [*(plane(n, is_chosen=True, unfit=CORDONED) for n in "abc"), worker("d", since=0)],
        {"a", "b", "d"},
    ),
    "a cordoned one before one where no agent runs": (
        [
            worker("a", is_chosen=True, unfit=CORDONED),
            *(plane(n, is_chosen=True, unfit=NO_AGENT) for n in "bc"),
            worker("d"),
        ],
        {"a", "b", "d"},
    ),
    "a cordoned one whose agent goes on before a try": (
        [
            *(worker(n, is_chosen=True, unfit=CORDONED) for n in "abc"),
            *(worker(n, is_proven=False) for n in "xyz"),
        ],
        {"a", "b", "c"},
    ),
    "which one without an agent is not": (
        [
            worker("a", is_chosen=True, unfit=CORDONED, is_proven=False),
            *(worker(n, is_chosen=True, unfit=CORDONED) for n in "bc"),
            worker("x", is_proven=False),
        ],
        {"b", "c", "x"},
    ),
    "nor one before a node of the control plane": (
        [*(worker(n, is_chosen=True, unfit=CORDONED) for n in "abc"), plane("p", is_proven=False)],
        {"a", "b", "p"},
    ),
    "sure ones, cordoned ones, tries, and those where none came up": (
        [
            worker("a", is_chosen=True, unfit=NO_AGENT, is_proven=False),
            worker("b", is_chosen=True, unfit=CORDONED),
            worker("x", is_proven=False),
            worker("y"),
        ],
        {"b", "x", "y"},
    ),
    "one that is being deleted does not stay": ([worker("a", is_chosen=True, unfit=DELETED)], set()),
    "the chosen stay, although others come first by name": (
        [*(worker(n, is_chosen=True) for n in "xyz"), *(worker(n) for n in "abc")],
        set("xyz"),
    ),
    "a better one must have been fit for a while": (
        [*(worker(n, is_chosen=True) for n in "xyz"), plane("p", since=BETTER_AFTER_S - 1)],
        set("xyz"),
    ),
    "and then one takes the place of one": (
        [*(worker(n, is_chosen=True) for n in "xyz"), plane("p"), plane("q")],
        {"p", "y", "z"},
    ),
    "another zone is better too": (
        [*(worker(n, "1", is_chosen=True) for n in "xyz"), worker("a", "2")],
        {"a", "y", "z"},
    ),
    "labels of somebody else's beyond three go": (
        [*(worker(n, is_chosen=True) for n in "abc"), plane("p", is_chosen=True)],
        {"a", "b", "p"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_choice(case):
    nodes, expected = CASES[case]
    assert chosen(*nodes) == expected


def test_each_change_says_why():
    nodes = [plane("p", "eu-1"), *(worker(name, is_chosen=True, unfit=CORDONED) for name in "abc")]
    assert [str(change.why) for change in choose(nodes)] == ["cordoned", "control plane, zone eu-1"]


_nodes = st.lists(
    st.builds(
        Node,
        st.text("abcdefgh", min_size=1, max_size=3),
        st.booleans(),
        st.sampled_from(["", "1", "2", "3"]),
        st.booleans(),
        st.sampled_from(["", "", "", *GRACE_S]),
        st.sampled_from([0.0, 10.0, SETTLED_S, 200.0, BETTER_AFTER_S, OLD]),
        st.booleans(),
    ),
    max_size=12,
    unique_by=lambda node: node.name,
)


def settle(nodes):
    """Rounds until nothing changes; fails when that never comes."""
    for _ in range(2 * NODES_MAX + 3):
        changes = choose(nodes)
        if not changes:
            return nodes
        nodes = applied(nodes, changes)
    raise AssertionError("it flaps")


@given(_nodes)
def test_a_round_leaves_as_many_as_there_can_be_and_no_lost_one_but_for_want_of_others(nodes):
    after = [node for node in applied(nodes, choose(nodes)) if node.is_chosen]
    usable = [
        node for node in nodes if not node.unfit or (node.is_chosen and (not node.is_lost or node.unfit in STAYS))
    ]
    assert len(after) == min(NODES_MAX, len(usable))
    assert all(node in {each.name for each in usable} for node in {each.name for each in after})


@given(_nodes)
def test_it_comes_to_rest_and_order_does_not_matter(nodes):
    rest = settle(nodes)
    assert choose(list(reversed(rest))) == []
    assert choose(list(reversed(nodes))) == choose(nodes)


_name = st.text("abcdefgh", min_size=1, max_size=3)
_drained = st.lists(
    st.one_of(
        st.builds(worker, _name, is_chosen=st.just(True), unfit=st.just(CORDONED), is_proven=st.booleans()),
        st.builds(worker, _name, is_proven=st.booleans()),
        st.builds(plane, _name, is_proven=st.booleans()),
    ),
    max_size=8,
    unique_by=lambda node: node.name,
)


@given(_drained)
def test_no_label_goes_from_where_an_agent_runs_to_a_try(nodes):
    """But for those of the control plane."""
    changes = choose(nodes)
    tried = {node.name for node in nodes if not (node.is_proven or node.is_control_plane)}
    left = {node.name for node in nodes if node.is_proven and node.unfit == CORDONED}
    if tried & {change.node for change in changes if change.gains}:
        assert not left & {change.node for change in changes if not change.gains}


@given(_nodes)
def test_at_rest_nobody_settled_is_better(nodes):
    rest = settle(nodes)
    kept = [node for node in rest if node.is_chosen]
    if len(kept) == NODES_MAX and not any(node.unfit for node in kept):
        waiting = [n for n in rest if not n.is_chosen and not n.unfit and n.since_s >= BETTER_AFTER_S]
        if any(node.is_control_plane for node in waiting):
            assert all(node.is_control_plane for node in kept)


@given(_nodes)
def test_fit_nodes_are_moved_for_a_better_one_only(nodes):
    for change in choose(nodes):
        node = next(each for each in nodes if each.name == change.node)
        if not change.gains and not node.unfit:
            assert "better" in change.why or "others are chosen" in change.why
        assert not (change.gains and node.unfit)
