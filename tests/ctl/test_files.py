"""Secret files: whole or not at all, private, through symbolic links, under kubectl's lock."""

import os
import pathlib
import stat

import pytest
import trustme

from ctl import errors, files, logins, trust
from proto import pins


def test_a_new_file_is_private_and_so_is_its_directory(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "new" / "f"
    files.write_secret(path, "x")
    assert path.read_text() == "x"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [p.name for p in path.parent.iterdir()] == ["f"]


def test_an_open_file_becomes_private(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    path.chmod(0o644)
    files.write_secret(path, "x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_stays_a_link(tmp_path: pathlib.Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    files.write_secret(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_a_failure_leaves_the_old_file_and_no_rest(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_secret(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_file_is_left_alone(tmp_path: pathlib.Path) -> None:
    """KUBECONFIG=/dev/null is usual; root's replacing it would break the machine."""
    os.mkfifo(tmp_path / "f")
    with pytest.raises(OSError, match="not a regular file"):
        files.write_secret(tmp_path / "f", "x")
    assert (tmp_path / "f").is_fifo()


def test_a_new_secret_takes_the_place_of_nothing(tmp_path: pathlib.Path) -> None:
    """Not even of a link that leads nowhere: its target would be made where somebody else chose."""
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "trap").symlink_to("elsewhere")
    for name in ("file", "link", "trap"):
        with pytest.raises(FileExistsError):
            files.create_secret(tmp_path / name, "x")
    assert (tmp_path / "file").read_text() == "old"
    assert not (tmp_path / "elsewhere").exists()
    files.create_secret(tmp_path / "a" / "new", "x")
    assert (tmp_path / "a" / "new").read_text() == "x"
    assert stat.S_IMODE((tmp_path / "a" / "new").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700


def test_a_new_secret_that_cannot_be_written_leaves_no_part(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.create_secret(tmp_path / "f", "x")
    assert list(tmp_path.iterdir()) == []


def test_a_path_at_which_we_may_not_look_is_a_usage_error(tmp_path: pathlib.Path) -> None:
    assert files.is_there(tmp_path, what="file")
    (tmp_path / "f").touch()
    assert not files.is_there(tmp_path / "f" / "g", what="file")
    with pytest.raises(errors.UsageError, match="cannot read the file"):
        files.is_there(tmp_path / ("x" * 300), what="file")  # to root no directory is closed; no name is so long


def test_the_lock_is_kubectls_and_goes_away(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "config"
    with files.locked(path):
        assert (tmp_path / "config.lock").exists()
        with pytest.raises(errors.CommandError) as caught, files.locked(path, wait_s=0):
            pass
        assert "config.lock" in caught.value.cure
        assert (tmp_path / "config.lock").exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "two words", "ü", "a\nb"])
def test_what_is_no_token(tmp_path: pathlib.Path, text: str) -> None:
    (tmp_path / "t").write_text(text)
    with pytest.raises(errors.UsageError):
        files.read_token(str(tmp_path / "t"))


def test_an_empty_ca_file_never_means_the_systems_cas(tmp_path: pathlib.Path) -> None:
    (tmp_path / "ca").write_text("\n")
    with pytest.raises(errors.UsageError, match="holds no PEM certificate"):
        files.read_ca(str(tmp_path / "ca"))


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-8-sig"])
def test_a_ca_file_may_have_notes_in_any_encoding(tmp_path: pathlib.Path, encoding: str) -> None:
    """The hub gives the operator's file out as it is (GET /v1/ca)."""
    pem = trustme.CA().cert_pem.bytes().decode()
    (tmp_path / "ca").write_bytes(f"# Prüfstelle Köln\n{pem}".encode(encoding))
    ca = files.read_ca(str(tmp_path / "ca"))
    assert len(trust.context(logins.Login(hub="https://h", ca=ca)).get_ca_certs()) == 1


def test_a_companys_bundle_is_a_ca_file(tmp_path: pathlib.Path) -> None:
    """What machines trust has some 220 KB without any CA of one's own, and more with notes."""
    ours, others = trustme.CA(), [trustme.CA().cert_pem.bytes() for _ in range(4)]
    notes = b"# what it is for\n" * 1024
    bundle = b"".join(notes + each for each in (*others * 120, ours.cert_pem.bytes()))
    (tmp_path / "ca").write_bytes(bundle)
    ca = files.read_ca(str(tmp_path / "ca"))
    assert len(ca) > pins.PEM_BYTES_MAX
    (pin,) = pins.pins_of_pem(ours.cert_pem.bytes())
    assert trust.pins_of(ca)[-1] == pin
    assert trust.pinned(ca, pin) == (ours.cert_pem.bytes().decode(), pin)


def test_a_private_key_beside_the_certificate_goes_no_further(tmp_path: pathlib.Path) -> None:
    """One file for both is usual in front of a hub, and what is read goes into kubeconfigs for others."""
    certificate = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
    key = "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"
    (tmp_path / "hub.pem").write_text(f"{key}subject=CN=a\n{certificate}{key}{certificate}")
    assert files.read_ca(str(tmp_path / "hub.pem")) == certificate * 2


def test_a_file_that_is_missing_binary_or_too_large(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_BYTES", 4)
    (tmp_path / "binary").write_bytes(b"\xff")
    (tmp_path / "large").write_bytes(b"12345")
    for name in ("missing", "binary", "large"):
        with pytest.raises(errors.UsageError):
            files.read_text(str(tmp_path / name), what="file")
