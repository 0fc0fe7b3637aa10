"""Which files the hub serves with, for which names; and that its care outlives a bad moment."""

from __future__ import annotations

import asyncio
import datetime
import errno
import itertools
import os
from pathlib import Path

import pytest

from hub import carotation, certificate, config, tls
from hub.certificate import hosts
from proto import pins


def settings(data: Path, **more: object) -> config.Settings:
    return config.Settings(data=data, **more)  # type: ignore[arg-type]


def nothing_changed(*, is_asked: bool) -> None:
    assert not is_asked


def test_every_name_under_which_clients_may_call(tmp_path: Path) -> None:
    found = hosts(settings(tmp_path, public_url="https://hub.test", tls_names=("x.test",), listen=("10.0.0.1:1",)))
    assert {"hub.test", "x.test", "10.0.0.1", "localhost", "127.0.0.1", "::1"} == set(found)
    everywhere = hosts(settings(tmp_path, listen=("0.0.0.0:1",)))
    assert everywhere == hosts(settings(tmp_path, listen=("*:1",)))
    assert all(everywhere)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"tls_names": ("2001:DB8::1",), "listen": ("127.0.0.1:1",)}, "2001:db8::1"),
        ({"public_url": "https://[2001:db8:0::1]:8443", "listen": ("127.0.0.1:1",)}, "2001:db8::1"),
        ({"listen": ("[fe80::1%eth0]:8443",)}, "fe80::1"),
        ({"listen": ("[0:0::0]:8443",)}, "localhost"),
    ],
)
def test_an_address_in_any_spelling_is_in_the_certificate_which_then_stays(
    tmp_path: Path, given: dict[str, object], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was looked for as it is written and not found: a new certificate each five seconds, for ever."""
    monkeypatch.setattr(certificate, "_host_name", lambda: "localhost")
    with_address = settings(tmp_path, **given)
    assert set(hosts(with_address)) == {"localhost", "127.0.0.1", "::1", name}
    directory = tmp_path / tls.DIRECTORY
    tls.make_ca(directory, "h", datetime.datetime.now(datetime.UTC))
    made = []
    for _ in range(2):
        certificate.ensure(with_address)
        made.append((directory / tls.LEAF_CERT).read_bytes())
    assert made[0] == made[1]


def test_files_of_ones_own_have_to_cover_the_public_name_unless_a_terminator_does(tmp_path: Path) -> None:
    own = {"tls_cert": Path("c"), "tls_key": Path("k"), "public_url": "https://hub.test"}
    assert certificate.tls_files(settings(tmp_path, **own)).host == "hub.test"
    pin = "sha256:" + "a" * 64
    assert certificate.tls_files(settings(tmp_path, **own, agent_pins=(pin,))).host == ""
    assert not certificate.is_self_made(settings(tmp_path, **own))
    made = certificate.tls_files(settings(tmp_path))
    assert made.more == carotation.accepted(tmp_path / tls.DIRECTORY)
    certificate.ensure(settings(tmp_path, **own))
    certificate.ensure(settings(tmp_path, plain_http=True))
    assert not list(tmp_path.iterdir())


def test_a_ca_for_agents_that_is_not_the_pinned_one_ends_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls.make_ca(tmp_path / tls.DIRECTORY, "h", datetime.datetime.now(datetime.UTC))
    file = tmp_path / tls.DIRECTORY / tls.CA_CERT
    (pin,) = pins.pins_of_pem(file.read_bytes())
    other = "sha256:" + "a" * 64
    certificate.check_agent_ca(settings(tmp_path))
    certificate.check_agent_ca(settings(tmp_path, agent_ca=file, agent_pins=(pin.upper(), other)))
    with pytest.raises(tls.TlsError, match=f"{file}, the file of agent_ca, has {pin}: agent_pins has to name it first"):
        certificate.check_agent_ca(settings(tmp_path, agent_ca=file, agent_pins=(other, pin)))
    with pytest.raises(tls.TlsError, match="none, the file of agent_ca, cannot be read: No such file"):
        certificate.check_agent_ca(settings(tmp_path, agent_ca=tmp_path / "none", agent_pins=(pin,)))
    (tmp_path / "empty").touch()
    with pytest.raises(tls.TlsError, match="empty, the file of agent_ca: the CA file holds no PEM certificate"):
        certificate.check_agent_ca(settings(tmp_path, agent_ca=tmp_path / "empty", agent_pins=(pin,)))

    def closed(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", closed)
        with pytest.raises(tls.TlsError, match=f"{file}: .* may not open it"):
            certificate.check_agent_ca(settings(tmp_path, agent_ca=file, agent_pins=(pin,)))


async def test_a_bad_moment_does_not_end_the_care(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificate, "SWEEP_S", 0.0)
    looks = 0

    async def look() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            raise asyncio.CancelledError
        raise OSError("the disk is full")

    with pytest.raises(asyncio.CancelledError):
        await certificate.renew(settings(tmp_path, plain_http=True), nothing_changed, look)
    assert looks == 3


async def test_what_stays_wrong_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that is read-only or full, a CA that has ended: a traceback each five seconds fills another disk."""
    monkeypatch.setattr(certificate, "SWEEP_S", 0.0)
    drafts = itertools.count()

    def read_only() -> Exception:
        return OSError(errno.EROFS, "Read-only file system", f".rotation.json.{next(drafts):08x}")

    def full() -> Exception:
        return OSError(errno.ENOSPC, "No space left on device", f".rotation.json.{next(drafts):08x}")

    def ended() -> Exception:
        return tls.TlsError("ca.crt: ended")

    days = [read_only] * 3 + [full] * 3 + [ended] * 3 + [None] + [ended]

    async def look() -> None:
        if not days:
            raise asyncio.CancelledError
        if (fault := days.pop(0)) is not None:
            raise fault()

    with pytest.raises(asyncio.CancelledError):
        await certificate.renew(settings(tmp_path, plain_http=True), nothing_changed, look)
    assert [record.message for record in caplog.records] == ["hub certificate could not be renewed"] * 4


async def test_a_file_that_the_hub_may_not_read_is_said_once_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`riata-hub ca rotate` by root, of a version that left the files root's."""
    monkeypatch.setattr(certificate, "SWEEP_S", 0.0)
    directory = tmp_path / tls.DIRECTORY
    tls.make_ca(directory, "h", datetime.datetime.now(datetime.UTC))

    def closed(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    def the_ca() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(Path, "read_bytes", closed)
            tls.load_ca(directory)

    def the_next_one() -> None:
        closed(directory / carotation.NEXT_CERT)

    def nothing() -> None:
        pass

    days = [the_ca, the_ca, the_next_one, the_next_one, nothing, the_next_one]

    async def look() -> None:
        if not days:
            raise asyncio.CancelledError
        days.pop(0)()

    with pytest.raises(asyncio.CancelledError):
        await certificate.renew(settings(tmp_path, plain_http=True), nothing_changed, look)
    assert {(record.message, record.exc_info) for record in caplog.records} == {
        ("a file of the hub cannot be read", None)
    }
    said = [record.reason for record in caplog.records]
    assert [Path(text.partition(": ")[0]).name for text in said] == [tls.CA_CERT, *(carotation.NEXT_CERT,) * 2]
    assert all(f"user {os.geteuid()} may not open it" in text and "chown" in text for text in said[:1])
