"""A new CA takes over: who trusts the old one alone, the new one alone or both gets in at every moment at which it
should, and a crash between any two writes leaves a hub that goes on."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from hub import carotation, certificate, config, tls
from hub.carotation import Phase
from proto import pins
from tests.hub.test_tls import handshake

NOW = datetime.datetime.now(datetime.UTC)


class Crash(Exception):
    """The process is gone."""


class Side:
    """One hub's directory, and what clients keep of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files = tls.TlsFiles(
            directory / tls.LEAF_CERT,
            directory / tls.LEAF_KEY,
            directory / tls.CA_CERT,
            carotation.accepted(directory),
        )

    def ensure(self) -> None:
        """What the hub does at its start and every few seconds."""
        certificate.ensure(config.Settings(data=self.directory.parent))

    def admits(self, ca: bytes) -> bool:
        """Whether a client that trusts nothing but these CAs takes this hub."""
        file = self.directory.parent / "trusted.pem"
        file.write_bytes(ca)
        try:
            handshake(tls.ServerContext(self.files).context, file, "localhost")
        except ssl.SSLCertVerificationError:
            return False
        return True

    def pins(self) -> list[str]:
        return pins.pins_of_pem(tls.read_ca(self.files))


@pytest.fixture
def side(tmp_path: Path) -> Side:
    tls.make_ca(tmp_path / "tls", "h1", NOW)
    made = Side(tmp_path / "tls")
    made.ensure()
    return made


def test_at_every_moment_whoever_may_come_in_does(side: Side) -> None:
    old = tls.read_ca(side.files)
    assert carotation.phase(side.directory) is Phase.STEADY
    pin = carotation.begin(side.directory, NOW)
    both = tls.read_ca(side.files)
    new = pins.keep_pinned(both, [pin])
    assert side.pins() == [*pins.pins_of_pem(old), pin]
    side.ensure()
    assert (side.admits(old), side.admits(both), side.admits(new)) == (True, True, False)

    carotation.switch(side.directory)
    assert carotation.phase(side.directory) is Phase.SWITCHED
    side.ensure()
    assert (side.admits(old), side.admits(both), side.admits(new)) == (True, True, True)
    assert side.pins() == [pin, *pins.pins_of_pem(old)]
    assert (side.directory / tls.CA_CERT).read_bytes() == new
    assert not (side.directory / carotation.NEXT_KEY).exists()

    carotation.retire(side.directory)
    side.ensure()
    assert carotation.phase(side.directory) is Phase.STEADY
    assert (side.admits(old), side.admits(both), side.admits(new)) == (False, True, True)
    assert side.pins() == [pin]
    carotation.begin(side.directory, NOW)
    assert len(side.pins()) == 2


def test_a_ca_that_allows_none_below_it_hands_over_all_the_same(tmp_path: Path) -> None:
    """Hubs of before have such: the successor has the same name, and what is issued to oneself does not count."""
    directory = tmp_path / "tls"
    directory.mkdir()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "riata hub x CA")])
    key, made = tls.new_ca(name, NOW)
    builder = tls.ca_certificate(name, made, key.public_key(), NOW, tls.CA_LIFETIME)  # path_length 0
    (directory / tls.CA_KEY).write_bytes(tls.key_pem(key))
    (directory / tls.CA_CERT).write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    side = Side(directory)
    side.ensure()
    old = tls.read_ca(side.files)
    assert not carotation.convinces_go(directory)
    carotation.begin(directory, NOW)
    carotation.switch(directory)
    side.ensure()
    assert side.admits(old)
    assert carotation.convinces_go(directory)


def test_a_ca_near_its_end_is_replaced_and_one_that_has_ended_is_not(tmp_path: Path) -> None:
    """Refused for its last two months, nothing but its end was left."""
    tls.make_ca(tmp_path / "tls", "h", NOW - tls.CA_LIFETIME + datetime.timedelta(hours=3))
    side = Side(tmp_path / "tls")
    side.ensure()
    old = tls.read_ca(side.files)
    assert carotation.ends_soon(side.directory, NOW)
    with pytest.raises(tls.TlsError, match=r"ended at .* clock right, or use certificates of your own"):
        carotation.begin(side.directory, NOW + datetime.timedelta(hours=4))
    assert carotation.phase(side.directory) is carotation.Phase.STEADY
    carotation.begin(side.directory, NOW)
    carotation.switch(side.directory)
    side.ensure()
    assert side.admits(old)
    assert not carotation.ends_soon(side.directory, NOW)


def ended(directory: Path) -> tuple[Side, bytes]:
    """A hub whose CA has ended with its successor introduced, and the old CA."""
    then = NOW - datetime.timedelta(hours=1)
    tls.make_ca(directory, "h", then - tls.CA_LIFETIME)
    side = Side(directory)
    carotation.begin(directory, then - datetime.timedelta(hours=1))
    return side, (directory / tls.CA_CERT).read_bytes()


def test_an_introduced_ca_takes_over_when_the_one_before_it_has_ended(tmp_path: Path) -> None:
    """The hub did not start any more, and in a pod no command can be run then."""
    side, old = ended(tmp_path / "tls")
    both = tls.read_ca(side.files)
    new = pins.keep_pinned(both, side.pins()[1:])
    side.ensure()
    assert carotation.phase(side.directory) is Phase.SWITCHED
    assert (side.admits(old), side.admits(both), side.admits(new)) == (False, True, True)
    carotation.retire(side.directory)
    side.ensure()
    assert side.admits(new)


@pytest.mark.parametrize("number", range(7))
def test_a_crash_while_an_ended_ca_is_replaced_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    side, _ = ended(tmp_path / "tls")
    new = pins.keep_pinned(tls.read_ca(side.files), side.pins()[1:])
    with monkeypatch.context() as patch:
        crashing(patch, number)
        with pytest.raises(Crash):
            side.ensure()
    side.ensure()
    assert (carotation.phase(side.directory), side.admits(new)) == (Phase.SWITCHED, True)


def test_a_switch_by_a_clock_that_is_ahead_loses_nobody(tmp_path: Path) -> None:
    made = NOW - datetime.timedelta(days=30)
    tls.make_ca(tmp_path / "tls", "h", made)
    side = Side(tmp_path / "tls")
    old = tls.read_ca(side.files)
    ahead, far_ahead = (begun + tls.CA_LIFETIME + datetime.timedelta(hours=1) for begun in (made, NOW))
    assert not carotation.switch_if_overdue(side.directory, ahead)  # nobody has begun a rotation
    carotation.begin(side.directory, NOW)
    assert not carotation.switch_if_overdue(side.directory, NOW)
    assert not carotation.switch_if_overdue(side.directory, far_ahead)  # by which both have ended
    assert carotation.switch_if_overdue(side.directory, ahead)
    side.ensure()
    assert side.admits(old)


def test_an_introduced_ca_is_taken_back(side: Side) -> None:
    before = side.pins()
    carotation.begin(side.directory, NOW)
    carotation.abort(side.directory)
    assert side.pins() == before
    assert not [path for path in side.directory.iterdir() if "next" in path.name or "cross" in path.name]


@pytest.mark.parametrize(
    ("steps", "refused", "says"),
    [
        ([], carotation.switch, "begin one"),
        ([], carotation.retire, "begin one"),
        ([], carotation.abort, "begin one"),
        (["begin"], carotation.retire, "--finish"),
        (["begin"], lambda directory: carotation.begin(directory, NOW), "introduced already"),
        (["begin", "switch"], lambda directory: carotation.begin(directory, NOW), "--retire"),
        (["begin", "switch"], carotation.abort, "--retire"),
    ],
)
def test_steps_out_of_order_say_which_one_is_next(
    side: Side, steps: list[str], refused: Callable[[Path], object], says: str
) -> None:
    for step in steps:
        carotation.begin(side.directory, NOW) if step == "begin" else carotation.switch(side.directory)
    before = sorted(path.name for path in side.directory.iterdir())
    with pytest.raises(tls.TlsError, match=says):
        refused(side.directory)
    assert sorted(path.name for path in side.directory.iterdir()) == before


STEPS: dict[str, Callable[[Path], object]] = {
    "begin": lambda directory: carotation.begin(directory, NOW),
    "switch": carotation.switch,
    "retire": carotation.retire,
}


def crashing(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """End the process in front of the change of a name in the directory with this number, from 0."""
    count = iter(range(10_000))

    def guard(original: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **more: object) -> object:
            if next(count) == number:
                raise Crash
            return original(*args, **more)

        return call

    for name in ("replace", "unlink"):
        monkeypatch.setattr(Path, name, guard(getattr(Path, name)))


@pytest.mark.parametrize("number", range(14))
def test_a_crash_at_any_write_recovers(side: Side, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    old = tls.read_ca(side.files)
    crashes = 0
    with monkeypatch.context() as patch:
        crashing(patch, number)
        for wanted in ("begin", "switch", "retire"):
            try:
                STEPS[wanted](side.directory)
                side.ensure()
            except Crash:
                crashes += 1
                break
    assert crashes == 1
    side.ensure()  # the hub, restarted or at its next look
    assert side.admits(tls.read_ca(side.files))
    phase = carotation.phase(side.directory)
    assert side.admits(old) == (set(side.pins()) >= set(pins.pins_of_pem(old)))
    assert len(side.pins()) == (1 if phase is Phase.STEADY else 2)
    if wanted == "begin" and phase is Phase.STEADY:
        STEPS["begin"](side.directory)
    if carotation.phase(side.directory) is Phase.INTRODUCED:
        STEPS["switch"](side.directory)
        side.ensure()
        assert side.admits(old)
    if carotation.phase(side.directory) is Phase.SWITCHED:
        STEPS["retire"](side.directory)
    side.ensure()
    assert side.pins() != pins.pins_of_pem(old)
    assert not side.admits(old)
    leftovers = {path.name for path in side.directory.iterdir()}
    assert leftovers == {tls.CA_CERT, tls.CA_KEY, tls.LEAF_CERT, tls.LEAF_KEY, carotation.RETIRED, ".rotation.lock"}


def test_what_a_killed_process_had_not_finished_writing_is_removed(side: Side) -> None:
    (side.directory / f".{carotation.NEXT_KEY}.0123abcd").write_bytes(b"half a key")
    side.ensure()
    assert not [path for path in side.directory.iterdir() if path.name.endswith(".0123abcd")]
