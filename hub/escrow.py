"""A copy of the hub's own CA in the store, its private key sealed: whoever has the database and the key file has the
whole hub. Without the CA no agent would ever trust a restored hub again; its pins are in every cluster."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from hub import ownership, tls
from hub.store.interface import Store
from hub.store.model import Key, Resource, RevisionConflict
from hub.store.sealed import Sealer, Unsealable
from proto import pins

logger = logging.getLogger(__name__)

PLACE: Final = Key("hub-secret", "", "ca")
FIELD: Final = "value"
HUB: Final = Key("hub", "", "self")
"""The hub's own record, which hub.bootstrap makes: `id` is in the name of its CA."""


async def keep_copy(directory: Path, store: Store, sealer: Sealer) -> bool:
    """Bring the copy up to the files in `directory`; whether it changed. Nothing is done while they are absent or do
    not belong together, as in the middle of their replacement, nor for those of another hub. Raises StoreError."""
    files = await asyncio.to_thread(_read, directory)
    if files is None:
        return False
    certificate, key = files
    found = await store.get(PLACE)
    if found is not None and (
        _is_copy(found, certificate, key, sealer) or await _is_other_hubs(store, certificate, found)
    ):
        return False
    spec = {"certificate": certificate.decode("ascii"), FIELD: sealer.seal(PLACE, FIELD, key)}
    try:
        await store.put(Resource(PLACE, spec) if found is None else dataclasses.replace(found, spec=spec))
    except RevisionConflict:  # sealed anew this moment; the next look comes
        return False
    return True


async def is_foreign(directory: Path, store: Store) -> bool:
    """Whether the CA in `directory` was made for another hub than the store's, as a database is restored behind the
    `init` of a new hub: to follow it would lose the only CA that the agents trust. Raises StoreError."""
    try:
        certificate = (directory / tls.CA_CERT).read_bytes()
    except OSError:
        return False
    found = await store.get(PLACE)
    if found is None or str(found.spec.get("certificate")).encode() == certificate:  # as `restore` writes it
        return False
    return await _is_other_hubs(store, certificate, found)


async def restore(directory: Path, store: Store, sealer: Sealer) -> bool:
    """Write the CA's files from the copy if both are gone, or only the certificate, as a restore leaves them that was
    cut off; whether that was done. Raises Unsealable, StoreError, OSError."""
    found = await store.get(PLACE)
    if found is None or (directory / tls.CA_CERT).exists():
        return False
    key = sealer.open(PLACE, FIELD, found.spec.get(FIELD))
    if not await asyncio.to_thread(_may_write, directory, key):
        return False
    await asyncio.to_thread(_write, directory, str(found.spec["certificate"]).encode("ascii"), key)
    logger.warning("the hub's CA was restored from the database", extra={"directory": str(directory)})
    return True


def _may_write(directory: Path, key: bytes) -> bool:
    """Whether there is no key, or this one: another one is somebody's work."""
    try:
        return (directory / tls.CA_KEY).read_bytes() == key
    except FileNotFoundError:
        return True


def _write(directory: Path, certificate: bytes, key: bytes) -> None:
    """The certificate last: it is what tells that there is a CA."""
    ownership.make_directory(directory)
    tls.write_private(directory / tls.CA_KEY, key)
    tls.write_private(directory / tls.CA_CERT, certificate)


def _read(directory: Path) -> tuple[bytes, bytes] | None:
    """Certificate and key, if they are one CA. Without what an operator wrote around the PEM, in whatever encoding."""
    try:
        text, key = (directory / tls.CA_CERT).read_bytes(), (directory / tls.CA_KEY).read_bytes()
        certificate = pins.pem_of(pins.certificates_of_pem(text))
        public = x509.load_pem_x509_certificate(certificate).public_key()
        return (certificate, key) if load_pem_private_key(key, None).public_key() == public else None
    except (OSError, ValueError, TypeError):
        return None


async def _is_other_hubs(store: Store, certificate: bytes, copy: Resource) -> bool:
    """A CA of the operator's own making is nobody's: it may take the place of any. One that was made for another hub is
    this hub's where its predecessor was, which the agents know: a rotation keeps the name. Raises StoreError."""
    hub = _hub_of(certificate)
    this = await store.get(HUB)
    if not hub or this is None:
        return False
    return hub not in {this.spec.get("id"), _hub_of(str(copy.spec.get("certificate")).encode())}


def _hub_of(certificate: bytes) -> str:
    try:
        return tls.hub_of(certificate)
    except ValueError:
        return ""


def _is_copy(found: Resource, certificate: bytes, key: bytes, sealer: Sealer) -> bool:
    try:
        kept = sealer.open(PLACE, FIELD, found.spec.get(FIELD))
    except Unsealable:
        return False
    return kept == key and found.spec.get("certificate") == certificate.decode("ascii")
