"""Replacing the hub's own CA without an agent noticing (docs/adr/0018-ca-rotation.md).

    steady -> begin -> introduced -> switch -> switched -> retire -> steady

*introduced*: the next CA is given out beside the current one, which still signs. *switched*: the next one has become
the current one; the old one is still accepted, and whoever knows nothing but it is led to the new one by a certificate
that the old one signed for it (RFC 4210 §4.4, "new with old"). *retire* ends that.

The phase is which files are there, so that every step has one write that decides it; what a crash leaves in front of
that write is thrown away, what it leaves behind is finished by `recover`, which hub and command call first.
"""

from __future__ import annotations

import contextlib
import datetime
import enum
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from hub import ownership, tls
from proto import pins

NEXT_CERT: Final = "ca-next.crt"
"""Its being there is the phase *introduced*."""
NEXT_KEY: Final = "ca-next.key"
CROSS: Final = "ca-cross.crt"
"""The key of the next CA, certified by the current one."""
OLD: Final = "ca-old.crt"
"""Its being there is the phase *switched*."""
RETIRED: Final = "ca-retired.crt"
"""The CA that was given up last: agents that come back are still told to forget it."""
_LOCK: Final = ".rotation.lock"
_DRAFT: Final = re.compile(r"\.(ca|hub)[a-z-]*\.(crt|key)\.[0-9a-f]{8}")
"""A file whose writing was cut off (tls.write_private)."""


class Phase(enum.StrEnum):
    """Where a rotation is."""

    STEADY = "steady"
    INTRODUCED = "introduced"
    SWITCHED = "switched"


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """One change at a time, of any process; what an earlier one has left half done is finished. Raises TlsError,
    OSError."""
    descriptor = ownership.open_private(directory / _LOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        _recover(directory)
        yield
    finally:
        os.close(descriptor)


def phase(directory: Path) -> Phase:
    if (directory / OLD).exists():
        return Phase.SWITCHED
    return Phase.INTRODUCED if (directory / NEXT_CERT).exists() else Phase.STEADY


def begin(directory: Path, now: datetime.datetime) -> str:
    """Make the next CA and give it out; its pin. However little is left of the current one: without a rotation whoever
    knows only that is lost at its end in any case. Raises TlsError when it has ended, OSError."""
    with locked(directory):
        _need(directory, Phase.STEADY)
        ca, ca_key = tls.load_ca(directory)
        tls.require_valid(directory, ca, now)
        key, made = tls.new_ca(ca.subject, now)
        lifetime = ca.not_valid_after_utc - now
        cross = tls.ca_certificate(ca.subject, ca, key.public_key(), now, lifetime).sign(ca_key, hashes.SHA256())
        tls.write_private(directory / NEXT_KEY, tls.key_pem(key))
        tls.write_private(directory / CROSS, cross.public_bytes(Encoding.PEM))
        tls.write_private(directory / NEXT_CERT, made.public_bytes(Encoding.PEM))  # decides
        return pins.spki_pin(made.public_bytes(Encoding.DER))


def switch(directory: Path) -> None:
    """Have the next CA sign from now on. The old one's key is gone afterwards. Raises TlsError, OSError."""
    with locked(directory):
        _need(directory, Phase.INTRODUCED)
        _switch(directory)


def switch_if_overdue(directory: Path, now: datetime.datetime) -> bool:
    """What `switch` does, if `is_overdue`; the lock is held. True if so. Raises TlsError, OSError."""
    if not is_overdue(directory, now):
        return False
    _switch(directory)
    return True


def is_overdue(directory: Path, now: datetime.datetime) -> bool:
    """Whether there is nothing left to wait for before the switch: the CA that signs has ended, its introduced
    successor has not. Raises TlsError, OSError.

    By a clock that is wrong, too: the switch gives nothing up. Who knows the current CA alone is led to the next one
    until the end that is written in it, by the clocks of those who verify.
    """
    if phase(directory) is not Phase.INTRODUCED:
        return False
    return end_of(directory / tls.CA_CERT) <= now < end_of(directory / NEXT_CERT)


def end_of(path: Path) -> datetime.datetime:
    """When the CA of this file ends. Raises TlsError, OSError."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    except PermissionError as exc:
        raise tls.TlsError(f"{path}: {ownership.closed(path, path.parent)}") from exc
    except ValueError as exc:
        raise tls.TlsError(f"{path}: the CA's certificate is damaged. Restore it from a backup") from exc


def retire(directory: Path) -> None:
    """Accept the old CA no longer. Raises TlsError, OSError."""
    with locked(directory):
        _need(directory, Phase.SWITCHED)
        (directory / OLD).replace(directory / RETIRED)  # decides
        tls.sync_directory(directory)
        _recover(directory)


def abort(directory: Path) -> None:
    """Take an introduced CA back. Raises TlsError, OSError."""
    with locked(directory):
        _need(directory, Phase.INTRODUCED)
        _unlink(directory, NEXT_CERT)  # decides
        _recover(directory)


def chain(directory: Path) -> bytes:
    """What the hub's leaf is followed by, PEM: while two CAs are accepted, the one's word for the other."""
    return (directory / CROSS).read_bytes() if phase(directory) is Phase.SWITCHED else b""


def convinces_go(directory: Path) -> bool:
    """Whether clients written in Go (kubectl) that hold only the CA in use would follow it to its successor: they count
    the certificate between, which CAs of earlier versions do not allow. Raises TlsError."""
    ca, _ = tls.load_ca(directory)
    length = ca.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    return length is None or length > 0


def ends_soon(directory: Path, now: datetime.datetime) -> datetime.datetime | None:
    """When the CA in use ends, if a rotation has to hurry. Raises TlsError, OSError."""
    end = end_of(directory / tls.CA_CERT)
    return end if end - now < tls.LEAF_RENEWAL else None


def accepted(directory: Path) -> tuple[Path, ...]:
    """Files of CAs that agents may know the hub by, beside the one that signs."""
    return directory / NEXT_CERT, directory / OLD


def _switch(directory: Path) -> None:
    """The lock is held, the phase is *introduced*."""
    tls.write_private(directory / OLD, (directory / tls.CA_CERT).read_bytes())  # decides
    _recover(directory)


def _recover(directory: Path) -> None:
    """Finish or throw away what was cut off; the lock is held."""
    for path in directory.iterdir():
        if _DRAFT.fullmatch(path.name):
            path.unlink(missing_ok=True)
    has_next, has_old = (directory / NEXT_CERT).exists(), (directory / OLD).exists()
    if has_next and has_old:
        key = directory / NEXT_KEY
        if key.exists():
            tls.write_private(directory / tls.CA_KEY, key.read_bytes())
        tls.write_private(directory / tls.CA_CERT, (directory / NEXT_CERT).read_bytes())
        _unlink(directory, NEXT_CERT)
        has_next = False
    if not has_next:
        _unlink(directory, NEXT_KEY)
        if not has_old:
            _unlink(directory, CROSS)


def _unlink(directory: Path, name: str) -> None:
    path = directory / name
    if path.exists():
        path.unlink()
        tls.sync_directory(directory)


def _need(directory: Path, wanted: Phase) -> None:
    """Raises TlsError that says what is possible instead."""
    found = phase(directory)
    if found is wanted:
        return
    texts = {
        Phase.STEADY: "no rotation is under way: begin one with `riata-hub ca rotate`",
        Phase.INTRODUCED: (
            "a new CA is introduced already: `riata-hub ca rotate --finish` switches to it, --abort takes it back"
        ),
        Phase.SWITCHED: "the hub has switched to its new CA: `riata-hub ca rotate --retire` gives the old one up",
    }
    raise tls.TlsError(texts[found])
