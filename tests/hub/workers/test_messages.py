"""hub/workers/messages.py: records survive the way."""

from __future__ import annotations

from hub.store.model import Event, Key, Resource
from hub.workers.messages import Record, Records, events_of, listing_of


def resource(name: str, revision: int) -> Resource:
    return Resource(Key("token", "c", name), {"text": "é\u2028", "n": 1.5, "l": [None, True]}, {"p": {}}, "u", revision)


def test_a_listing_comes_back_as_it_was() -> None:
    items = (resource("a", 1), resource("b", 2))
    listing = listing_of(Records(tuple(map(Record.of, items)), 7))
    assert (listing.items, listing.revision) == (items, 7)


def test_events_keep_their_kind() -> None:
    gone = Record.of(resource("a", 3), is_deleted=True)
    assert events_of(Records((Record.of(resource("a", 2)), gone))) == (
        Event(resource("a", 2), is_deleted=False),
        Event(resource("a", 3), is_deleted=True),
    )
