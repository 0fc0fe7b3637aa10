import typing

from proto import events
from proto.aio.delivery import Delivery
from proto.aio.link import Link
from proto.aio.transport import pipe
from proto.errors import Code
from proto.events import EndKind, EndReason
from proto.session import Role, Session
from tests.proto.pair import shake


def test_clean_ends_are_those_that_both_sides_know_of() -> None:
    assert {kind for kind in EndKind if EndReason(kind, Code.NONE).is_clean} == {EndKind.LOCAL, EndKind.PEER}


async def test_the_link_delivers_every_event() -> None:
    link = Link(Session(Role.HUB, shake()[0]), pipe()[0], on_open=lambda *_: None, name="x")
    delivery: Delivery = link._delivery
    assert set(delivery._deliver_one) == set(typing.get_args(events.Event))
