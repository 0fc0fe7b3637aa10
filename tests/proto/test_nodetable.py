"""The table of nodes: divided so that a change moves little, and exact when it arrives."""

import msgspec
import pytest

from proto import codec, commands
from proto.commands import NODES_MAX, PARTS_MAX, ROWS_MAX, TellNodes
from proto.errors import Code, StreamReset
from proto.messages import Command
from proto.nodetable import _WIDTHS, NodeRow, Part, clean, divide, from_args, to_args

ROW = NodeRow("n1", "control-plane etcd", "v1.37.2", "Debian 12", "6.1", "amd64", "10.0.0.5 fd00::5", "z", True, True)
LONGEST = NodeRow(*("x" * width for width in _WIDTHS.values()), True, True)  # type: ignore[misc]


def cluster(count: int) -> list[NodeRow]:
    return [NodeRow(f"node-{number:04}") for number in range(count)]


@pytest.mark.parametrize(("nodes", "parts"), [(0, 1), (1, 1), (20, 1), (21, 2), (100, 8), (1000, 64), (5000, 256)])
def test_every_node_is_in_one_part(nodes: int, parts: int) -> None:
    divided = divide(cluster(nodes))
    assert len(divided) == parts <= PARTS_MAX
    assert sorted(row.name for part in divided for row in part.rows) == [row.name for row in cluster(nodes)]
    assert max(len(part.rows) for part in divided) <= ROWS_MAX


def test_a_change_concerns_one_part_and_a_new_node_too() -> None:
    rows = cluster(300)
    before = [part.tag for part in divide(rows)]
    for changed in (
        [*rows[:-1], msgspec.structs.replace(rows[-1], is_ready=True)],
        [*rows, NodeRow("one-more")],
        rows[1:],
    ):
        after = [part.tag for part in divide(changed)]
        assert sum(one != two for one, two in zip(before, after, strict=True)) == 1
    assert [part.tag for part in divide(reversed(rows))] == before


def test_more_nodes_than_a_table_takes() -> None:
    assert sum(len(part.rows) for part in divide(cluster(NODES_MAX + 500))) == NODES_MAX


def test_a_part_travels_and_comes_back() -> None:
    (part,) = divide([ROW, NodeRow("n2")])
    sent = codec.encode(Command(verb="tell-nodes", args=commands.to_ext(to_args(0, part))))
    assert from_args(commands.from_ext(TellNodes, codec.decode(Command, sent).args)) == part.rows


def test_the_widths_are_those_of_the_arguments_and_the_longest_part_fits_into_a_command() -> None:
    full = to_args(255, Part("f" * 16, (LONGEST,) * ROWS_MAX))
    assert commands.from_ext(TellNodes, commands.to_ext(full)) == full
    codec.encode(Command(verb="tell-nodes", args=commands.to_ext(full)))
    for column in _WIDTHS:
        longer = commands.to_ext(msgspec.structs.replace(full, **{column: ("x" * (_WIDTHS[column] + 1),)}))
        with pytest.raises(StreamReset, match="malformed"):
            commands.from_ext(TellNodes, longer)


@pytest.mark.parametrize(
    "change",
    [
        {"roles": ()},
        {"ready": (True, False)},
        {"names": ("",)},
        {"names": ("a", "a")},
        {"systems": ("Debian\n12",)},
        {"systems": ("Debian\x1b[2J",)},
        {"zones": ("zürich",)},
    ],
)
def test_columns_that_fit_no_table_are_refused_without_being_quoted(change: dict[str, tuple[str, ...]]) -> None:
    args = to_args(0, Part("0" * 16, (ROW,)))
    names = change.get("names", ())
    if len(names) == 2:
        args = to_args(0, Part("0" * 16, (ROW, ROW)))
    with pytest.raises(StreamReset) as caught:
        from_args(msgspec.structs.replace(args, **change))
    assert caught.value.code is Code.PROTOCOL
    assert "Debian" not in caught.value.text


def test_what_a_column_cannot_take_is_replaced_and_cut() -> None:
    assert clean("zones", "zürich\n") == "z?rich?"
    assert len(clean("kubelets", "v" * 500)) == 64
