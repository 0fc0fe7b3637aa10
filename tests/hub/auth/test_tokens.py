"""Token records survive the store, and the index tells of those that are gone."""

import json
import logging

import pytest

from hub.auth.tokens import TokenIndex, TokenRecord
from hub.store.model import Event, Key, Resource
from tests.hub.auth.records import gone, made, stored, token


@pytest.mark.parametrize(
    "changes",
    [{}, {"expires_at": 9.0}, {"cluster_uids": frozenset({"b", "a"})}, {"groups": ()}, {"lineage": ("a", "b")}],
)
def test_a_record_is_read_back(changes: dict[str, object]) -> None:
    record = token(**changes)
    assert TokenRecord.of(stored(record)) == record
    assert "d" * 32 not in repr(record)


def test_a_record_of_an_older_version_has_no_known_origin() -> None:
    old = {name: value for name, value in stored(token()).spec.items() if name != "lineage"}
    assert TokenRecord.of(Resource(Key("token", "", "t" * 10), old)) == token()
    assert (token().created_with, token(lineage=("a", "b")).created_with) == ("", "b")
    assert token("c", lineage=("a", "b")).lineage_below == ("a", "b", "c")


def test_tokens_for_the_same_clusters_share_their_uids() -> None:
    """A token for five thousand clusters is half a megabyte otherwise, and a user may have five hundred."""
    texts = [json.dumps({**stored(token()).spec, "clusterUids": ["uid-a"]}) for _ in range(2)]
    one, two = (TokenRecord.of(Resource(Key("token", "", "t" * 10), json.loads(text))) for text in texts)
    assert one.cluster_uids is not None
    assert two.cluster_uids is not None
    assert next(iter(one.cluster_uids)) is next(iter(two.cluster_uids))


def test_expiry() -> None:
    assert not token().is_expired(1e12)
    assert not token(expires_at=10.0).is_expired(9.9)
    assert token(expires_at=10.0).is_expired(10.0)


def test_the_index_follows() -> None:
    lost: list[str] = []
    index = TokenIndex(lost.append)
    one, two = token("one"), token("two")
    index.apply(made(one))
    index.apply(made(two))
    assert index.get("one") == one
    assert set(index) == {one, two}
    index.apply(gone(one))
    index.apply(gone(one))
    assert index.get("one") is None
    assert lost == ["one"]
    index.reset([stored(token("three"))])
    assert lost == ["one", "two"]
    assert [record.id for record in index] == ["three"]


def test_an_unreadable_record_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    index = TokenIndex()
    index.apply(made(token("one")))
    index.apply(Event(Resource(Key("token", "", "one"), {"sha256": 7}), False))
    index.apply(made(token("two")))
    assert index.get("one") is None
    assert index.get("two") is not None
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_what_runs_on_a_token_whose_new_version_cannot_be_read_is_cut_once() -> None:
    lost: list[str] = []
    index = TokenIndex(lost.append)
    unreadable = Event(Resource(Key("token", "", "one"), {"sha256": 7}), False)
    index.apply(unreadable)  # it was never there
    assert lost == []
    index.apply(made(token("one")))
    index.apply(made(token("one", user="another")))  # a new version that can be read
    assert lost == []
    index.apply(unreadable)
    index.apply(unreadable)
    index.apply(gone(token("one")))
    assert lost == ["one"]


def test_what_was_made_with_a_closed_token_makes_no_others_until_it_is_gone() -> None:
    lost: list[str] = []
    index = TokenIndex(lost.append)
    stolen, child, other = token("stolen"), token("child", lineage=("stolen",)), token("other")
    for record in (stolen, child, other):
        index.apply(made(record))
    closed = Resource(Key("token", "", "stolen"), {"isRevokedWithDescendants": True})
    index.apply(Event(closed, False))
    assert (index.get("stolen"), lost) == (None, ["stolen"])
    assert [index.is_closed(record) for record in (stolen, child, other)] == [True, True, False]
    assert index.closed == {"stolen"}
    index.reset([stored(child), closed])
    assert index.is_closed(child)
    index.apply(Event(closed, True))
    assert not index.is_closed(child)
    assert lost == ["stolen", "other"]
