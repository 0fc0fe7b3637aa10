"""The main process looks at a rotation: audit events once, a metric, and a file that the command reads."""

from __future__ import annotations

import datetime
import errno
import logging
import threading
from pathlib import Path

import pytest

from hub import carotation, cawatch, config, tls
from hub.auth.agentkeys import AgentKeyIndex
from hub.carotation import Phase
from hub.catrust import Rotation
from hub.cawatch import CaView, RotationWatch, Sessions
from hub.metrics import Metrics
from proto.pins import pins_of_pem
from tests.hub.store.conformance import SettableClock
from tests.hub.test_catrust import Seen, index

NOW = datetime.datetime.now(datetime.UTC)
NAMED = "sha256:" + "2" * 64


class World:
    def __init__(self, data: Path, **settings: object) -> None:
        self.directory = data / tls.DIRECTORY
        if not self.directory.exists():
            tls.make_ca(self.directory, "h", NOW)
        self.seen: list[Seen] = []
        self.asked = 0
        self.clock = SettableClock()
        self.metrics = Metrics()
        self.view = CaView(config.Settings(data=data, **settings), index(), AgentKeyIndex())  # type: ignore[arg-type]
        self.watch = RotationWatch(self.directory, self.view, self.metrics, self.sessions, self.clock)

    async def sessions(self) -> Sessions:
        self.asked += 1
        return lambda uid: self.seen

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if getattr(record, "audit", False)]


async def test_each_phase_is_an_event_once_also_over_restarts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "riata.audit")
    world = World(tmp_path)
    await world.watch.look()
    assert events(caplog) == []
    carotation.begin(world.directory, NOW)
    world.seen = [Seen()]
    await world.watch.look()
    assert (world.metric("riata_hub_ca_rotation"), world.metric("riata_hub_ca_unready_agents")) == (1.0, 1.0)
    world = World(tmp_path)  # the hub restarts
    await world.watch.look()
    assert events(caplog) == ["ca-introduced"]
    carotation.switch(world.directory)
    await world.watch.look()
    carotation.retire(world.directory)
    await world.watch.look()
    carotation.begin(world.directory, NOW)
    await world.watch.look()
    carotation.abort(world.directory)
    await world.watch.look()
    assert events(caplog) == ["ca-introduced", "ca-switched", "ca-retired", "ca-introduced", "ca-taken-back"]
    assert world.metric("riata_hub_ca_rotation") == 0.0


async def test_the_end_of_the_ca_that_signs_is_told(tmp_path: Path) -> None:
    name, soon = "riata_hub_certificate_end_timestamp_seconds", NOW - tls.CA_LIFETIME + datetime.timedelta(days=30)
    tls.make_ca(tmp_path / tls.DIRECTORY, "h", soon)
    world = World(tmp_path)
    await world.watch.look()
    near = (soon + tls.CA_LIFETIME).timestamp()
    assert world.metric(name, of="ca") == pytest.approx(near, abs=1)
    carotation.begin(world.directory, NOW)
    await world.watch.look()
    assert world.metric(name, of="ca") == pytest.approx(near, abs=1)  # until the next one signs
    carotation.switch(world.directory)
    await world.watch.look()
    assert world.metric(name, of="ca") == pytest.approx((NOW + tls.CA_LIFETIME).timestamp(), abs=1)


async def test_of_certificates_of_ones_own_no_ca_is_watched(tmp_path: Path) -> None:
    tls.make_ca(tmp_path / "a", "h", NOW)
    ca = tmp_path / "a" / tls.CA_CERT
    world = World(tmp_path, tls_cert=tmp_path / "c", tls_key=tmp_path / "k", tls_ca=ca)
    await world.watch.look()
    assert world.metric("riata_hub_certificate_end_timestamp_seconds", of="ca") is None
    assert world.metric("riata_hub_ca_rotation") == 0.0


async def test_a_damaged_ca_is_told_as_such(tmp_path: Path) -> None:
    world = World(tmp_path)
    (world.directory / tls.CA_CERT).write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(tls.TlsError, match="Restore it from a backup"):
        world.view.own_end()


async def test_steps_taken_one_behind_the_other_are_all_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As a stolen key asks for: between two looks there may be any number of steps."""
    caplog.set_level(logging.INFO, "riata.audit")
    world = World(tmp_path)
    await world.watch.look()
    carotation.begin(world.directory, NOW)
    await world.watch.look()
    carotation.switch(world.directory)
    carotation.retire(world.directory)
    world.seen = [Seen()]
    await world.watch.look()
    assert events(caplog) == ["ca-introduced", "ca-switched", "ca-retired"]
    assert caplog.records[-1].unready == ["k1"]  # type: ignore[attr-defined] # who was left behind
    caplog.clear()
    carotation.begin(world.directory, NOW)
    carotation.switch(world.directory)
    await world.watch.look()
    assert events(caplog) == ["ca-introduced", "ca-switched"]
    carotation.retire(world.directory)
    await world.watch.look()
    caplog.clear()
    carotation.begin(world.directory, NOW)
    await world.watch.look()
    carotation.abort(world.directory)
    carotation.begin(world.directory, NOW)
    await world.watch.look()
    assert events(caplog) == ["ca-introduced", "ca-taken-back", "ca-introduced"]


async def test_a_ca_that_is_replaced_between_two_looks_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "riata.audit")
    world = World(tmp_path)
    await world.watch.look()
    carotation.begin(world.directory, NOW)
    carotation.switch(world.directory)
    carotation.retire(world.directory)
    await World(tmp_path).watch.look()  # also by the next process
    assert events(caplog) == ["ca-switched", "ca-retired"]


async def test_a_look_in_the_middle_of_a_step_takes_nothing_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path)
    carotation.begin(world.directory, NOW)
    await world.watch.look()
    (world.directory / carotation.OLD).write_bytes((world.directory / tls.CA_CERT).read_bytes())  # decides
    await world.watch.look()
    with carotation.locked(world.directory):  # and is finished
        pass
    await world.watch.look()
    assert events(caplog) == ["ca-introduced", "ca-switched"]


async def test_the_file_is_fresh_while_a_rotation_is_under_way(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.seen = [Seen()]
    await world.watch.look()
    assert cawatch.read(world.directory)["agents"] == []  # nobody asks in between
    pin = carotation.begin(world.directory, NOW)
    await world.watch.look()
    first = cawatch.read(world.directory)
    known = cawatch.of_document(first)
    assert known is not None
    assert (known.phase, known.pin, [each.knows for each in known.agents]) == (Phase.INTRODUCED, pin, [False])
    world.clock.now += cawatch.REWRITE_S
    await world.watch.look()
    assert cawatch.read(world.directory)["at"] == first["at"] + cawatch.REWRITE_S
    world.seen[0] = Seen(trusts=(pin,), keeps_trust=True)
    await world.watch.look()
    again = cawatch.of_document(cawatch.read(world.directory))
    assert again is not None
    assert again.unready() == []
    assert cawatch.when(first).endswith("Z")


async def test_the_file_of_a_fleet_is_made_and_written_beside_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, here = World(tmp_path), threading.get_ident()
    there: list[int] = []
    carotation.begin(world.directory, NOW)
    content = cawatch._content

    def noted(at: float, rotation: Rotation) -> bytes:
        there.append(threading.get_ident())
        return content(at, rotation)

    monkeypatch.setattr(cawatch, "_content", noted)
    await world.watch.look()
    assert there
    assert here not in there


async def test_a_clock_that_is_set_back_does_not_make_the_hub_seem_dead(tmp_path: Path) -> None:
    world = World(tmp_path)
    carotation.begin(world.directory, NOW)
    await world.watch.look()
    world.clock.now -= 3600.0
    await world.watch.look()
    assert cawatch.read(world.directory)["at"] == world.clock.now


async def test_agents_that_come_and_go_cost_no_write_while_nothing_is_rotated(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.watch.look()
    file = world.directory / cawatch.FILE
    before = file.stat().st_ino
    world.seen = [Seen()]
    await world.watch.look()
    assert file.stat().st_ino == before


async def test_while_nothing_is_rotated_nobody_looks_who_is_connected(tmp_path: Path) -> None:
    """Thousands of agents take the loop, and every worker, a long turn each time."""
    world = World(tmp_path)
    await world.watch.look()
    assert world.asked == 0
    carotation.begin(world.directory, NOW)
    await world.watch.look()
    assert world.asked == 1


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"agents": 1}', b'{"agents":[{}],"phase":"x"}', b"\xff"])
def test_a_damaged_file_says_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / cawatch.FILE).write_bytes(content)
    assert cawatch.of_document(cawatch.read(tmp_path)) is None
    assert cawatch.read(tmp_path / "none") == {}


def test_what_new_agents_are_given(tmp_path: Path) -> None:
    world = World(tmp_path)
    (old,) = pins_of_pem((world.directory / tls.CA_CERT).read_bytes())
    assert world.view.joining_pins() == (old,)
    assert world.view.lesson() is None
    new = carotation.begin(world.directory, NOW)
    assert world.view.joining_pins() == (old, new)
    lesson = world.view.lesson()
    assert lesson is not None
    assert lesson.pins == (old, new)
    carotation.switch(world.directory)
    assert world.view.joining_pins() == (new,)
    carotation.retire(world.directory)
    lesson = world.view.lesson()  # who comes back is told to forget the old one
    assert lesson is not None
    assert lesson.pins == (new,)
    assert World(tmp_path, agent_pins=(NAMED,)).view.joining_pins() == (NAMED, new)


def test_the_ca_of_a_terminator_is_given_out_beside_the_hubs_own(tmp_path: Path) -> None:
    world, file = World(tmp_path), tmp_path / "front.crt"
    own = (world.directory / tls.CA_CERT).read_bytes()
    assert world.view.joining_ca() == world.view.given_out() == own
    tls.make_ca(tmp_path / "front", "f", NOW)
    made = tmp_path / "front" / tls.CA_CERT
    file.write_bytes(b"Caf\xe9, whose line does not end\n" + made.read_bytes().strip())
    (pin,) = pins_of_pem(made.read_bytes())
    front = World(tmp_path, agent_pins=(pin,), agent_ca=file)
    assert front.view.joining_pins() == (pin, *pins_of_pem(own))
    assert pins_of_pem(front.view.joining_ca()) == [pin]
    assert front.view.given_out() == made.read_bytes() + own
    plain = World(tmp_path, agent_pins=(pin,), agent_ca=file, plain_http=True)
    assert plain.view.given_out() == made.read_bytes()
    file.write_bytes(own)  # the front's is now the hub's own
    assert front.view.given_out() == own


async def test_a_ca_that_was_taken_back_is_forgotten_by_those_who_were_told(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.watch.look()
    assert world.view.lesson() is None
    carotation.begin(world.directory, NOW)
    await world.watch.look()
    carotation.abort(world.directory)
    await world.watch.look()
    lesson = world.view.lesson()
    assert lesson is not None
    assert lesson.pins == tuple(pins_of_pem((world.directory / tls.CA_CERT).read_bytes()))


async def test_certificates_of_ones_own_rotate_by_their_ca_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "riata.audit")
    tls.make_ca(tmp_path / "a", "h", NOW)
    tls.make_ca(tmp_path / "b", "h", NOW)
    one, two = ((tmp_path / name / tls.CA_CERT).read_bytes() for name in "ab")
    file = tmp_path / "ca.pem"
    file.write_bytes(one)
    world = World(tmp_path, tls_cert=tmp_path / "c", tls_key=tmp_path / "k", tls_ca=file)
    assert (await world.view.rotation(lambda uid: ())).phase is Phase.STEADY
    assert world.view.lesson() is None
    file.write_bytes(one + two)
    found = await world.view.rotation(lambda uid: ())
    assert (found.phase, found.pin) == (Phase.INTRODUCED, pins_of_pem(two)[0])
    lesson = world.view.lesson()
    assert lesson is not None
    assert lesson.is_between
    await world.watch.look()
    file.write_bytes(two)  # the old one is taken out
    world = World(tmp_path, tls_cert=tmp_path / "c", tls_key=tmp_path / "k", tls_ca=file)  # over a restart as well
    await world.watch.look()
    lesson = world.view.lesson()
    assert lesson is not None
    assert (lesson.pins, lesson.is_between) == (tuple(pins_of_pem(two)), False)
    assert events(caplog) == ["ca-introduced", "ca-switched", "ca-retired"]
    file.unlink()
    assert world.view.lesson() is None
    assert World(tmp_path, plain_http=True).view.lesson() is None


async def test_an_event_is_told_once_though_the_file_cannot_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator's CA lies on another disk than the hub's own files, which is full."""
    tls.make_ca(tmp_path / "a", "h", NOW)
    tls.make_ca(tmp_path / "b", "h", NOW)
    one, two = ((tmp_path / name / tls.CA_CERT).read_bytes() for name in "ab")
    file = tmp_path / "ca.pem"
    file.write_bytes(one)
    world = World(tmp_path, tls_cert=tmp_path / "c", tls_key=tmp_path / "k", tls_ca=file)
    await world.watch.look()
    caplog.set_level(logging.INFO, "riata.audit")

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    file.write_bytes(one + two)
    with monkeypatch.context() as patched:
        patched.setattr(tls, "write_private", full)
        for _ in range(3):
            with pytest.raises(OSError, match="No space left"):
                await world.watch.look()
    await world.watch.look()
    assert events(caplog) == ["ca-introduced"]
    known = cawatch.of_document(cawatch.read(world.directory))
    assert known is not None
    assert known.phase is Phase.INTRODUCED
