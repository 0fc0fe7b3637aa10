import typing

from proto import events
from proto.aio import delivery
from proto.errors import Code
from proto.events import EndKind, EndReason


def test_clean_ends_are_those_that_both_sides_know_of() -> None:
    assert {kind for kind in EndKind if EndReason(kind, Code.NONE).is_clean} == {EndKind.LOCAL, EndKind.PEER}


def test_the_link_delivers_every_event() -> None:
    assert set(delivery._DELIVER_ONE) == set(typing.get_args(events.Event))
