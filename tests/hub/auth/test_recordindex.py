"""What every index of credentials does with the store's changes."""

from __future__ import annotations

import pytest

from hub.auth import jointokens
from hub.auth.jointokens import JoinToken
from hub.auth.recordindex import RecordIndex
from hub.store.model import Event, Key, Resource
from tests.hub.auth.records import gone, join_token, made, stored


def test_records_come_change_and_go() -> None:
    lost: list[str] = []
    index = RecordIndex(jointokens.KIND, JoinToken.of, lost.append)
    one, two = join_token("one"), join_token("two", cluster_uid="uid-b")
    index.apply(made(one))
    index.apply(made(two))
    index.apply(made(one))
    assert (index.get("one"), list(index), index.of_cluster("uid-b")) == (one, [two, one], [two])
    assert lost == []
    index.apply(gone(one))
    assert (index.get("one"), lost) == (None, ["one"])
    index.reset([stored(one)])
    assert (list(index), lost) == ([one], ["one", "two"])


def test_what_cannot_be_read_proves_nothing(caplog: pytest.LogCaptureFixture) -> None:
    lost: list[str] = []
    index = RecordIndex(jointokens.KIND, JoinToken.of, lost.append)
    index.apply(made(join_token("one")))
    index.apply(Event(Resource(Key(jointokens.KIND, "uid-a", "one"), {"sha256": "zz"}), False))
    assert index.get("one") is None
    assert lost == ["one"]
    assert "unreadable" in caplog.text
