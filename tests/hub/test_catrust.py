"""Who is ready for the next step of a rotation, and what there is to tell."""

from __future__ import annotations

import dataclasses

import pytest

from hub import slices
from hub.auth.agentkeys import AgentKeyIndex
from hub.carotation import Phase
from hub.catrust import Lesson, Rotation, Standing, lesson, standings
from hub.clusters.records import Cluster, ClusterIndex
from proto.pins import pins_of_pem
from tests.hub.turns import turns_of
from tests.proto.test_pins import FOREIGN, ONE, pem

NEW, NAMED = "sha256:" + "1" * 64, "sha256:" + "2" * 64


@dataclasses.dataclass
class Seen:
    credential_id: str = "k1"
    instance: str = "i"
    role: str = "cluster"
    node: str = ""
    trusts: tuple[str, ...] = ()
    keeps_trust: bool = False
    trust_problem: str = ""


def index() -> ClusterIndex:
    found = ClusterIndex()
    cluster = Cluster("alpha", "u1", {}, 0.0, "x")
    found._by_name["alpha"] = found._by_uid["u1"] = cluster
    return found


async def judged(*seen: Seen) -> list[Standing]:
    return await standings(index(), AgentKeyIndex(), lambda uid: seen if uid == "u1" else (), NEW, [NAMED])


async def test_who_knows_and_who_keeps() -> None:
    found = await judged(
        Seen(trusts=(NEW,), keeps_trust=True),
        Seen(trusts=(NEW,)),
        Seen(trusts=(NAMED,), keeps_trust=True),
        Seen(),
        Seen(role="node", node="n1", credential_id="alpha:n1", trust_problem="REFUSED: old"),
    )
    assert [(each.knows, each.keeps) for each in found] == [
        (True, True), (True, False), (True, True), (False, False), (False, False),
    ]  # fmt: skip
    introduced = Rotation(Phase.INTRODUCED, NEW, (NEW,), tuple(found))
    assert len(introduced.unready()) == 2
    assert len(dataclasses.replace(introduced, phase=Phase.SWITCHED).unready()) == 3
    assert [each.text for each in found[1:2] + found[3:]] == [
        "k1 of alpha (its settings do not name it)",
        "k1 of alpha (it was not told yet)",
        "alpha:n1 on n1 of alpha (REFUSED: old)",
    ]


async def test_others_have_their_turn_while_a_fleet_is_gone_through(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ClusterIndex()
    for number in range(120):
        found._by_name[f"c{number:03}"] = Cluster(f"c{number:03}", f"u{number}", {}, 0.0, "x")
    monkeypatch.setattr(slices, "SLICE_S", 0.0)
    args = found, AgentKeyIndex(), lambda uid: (Seen(credential_id=uid),), NEW, ()
    turns, standing = await turns_of(standings(*args))
    assert turns >= 119  # one for each, as others see it
    assert [each.agent for each in standing] == [f"u{number}" for number in range(120)]


def test_there_is_something_to_tell_with_two_cas_or_after_one_was_given_up() -> None:
    one, both = pem(ONE), pem(ONE, FOREIGN)
    assert lesson(b"", [NAMED], is_over=True) is None
    assert lesson(one, [NAMED], is_over=False) is None
    assert lesson(one, [NAMED], is_over=True) == Lesson(one, (*pins_of_pem(one), NAMED))
    assert lesson(both, [], is_over=False) == Lesson(both, tuple(pins_of_pem(both)), is_between=True)
    noted = "# Prüfstelle Köln\n".encode() + pem(ONE) + b"Subject: CN = \xff\n" + pem(FOREIGN)
    assert lesson(noted, [], is_over=False) == lesson(both, [], is_over=False)
    first, second = Lesson(one, ()), Lesson(both, ())
    assert first.digest != second.digest
