"""The encryption keys of a running hub: read, checked against the store, followed when the file changes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

from hub import escrow, ownership, tls
from hub.store import keyfile
from hub.store.interface import Store
from hub.store.keyfile import EncryptionKey, KeyFileError, KeyRing
from hub.store.model import Resource, StoreError
from hub.store.resealing import CHECK, CHECK_FIELD, CHECK_VALUE, keys_in_use, reseal
from hub.store.sealed import Sealer, Unsealable, key_id_of

logger = logging.getLogger(__name__)

FILE_NAME: Final = "encryption.key"
"""In the data directory, where no other place is set."""
FILE_BYTES_MAX: Final = 64 * 1024
SWEEP_S: Final = 30.0
"""How soon a changed key file is noticed."""
SETTLE_S: Final = 60.0
"""Between the last value that was sealed anew and the look that has to find none: whoever still had the old key is done
by then."""


class KeysUnusable(StoreError):
    """The encryption keys are not there, are no keys, or are another store's; or the CA is another hub's, or gone. The
    text names the file and the cure."""


class Keeper:
    """The keys of one hub. `unlock` first; `keep` goes on for ever."""

    def __init__(
        self,
        data: Path,
        named: Path | None,
        store: Store,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`named`: the setting `encryption_key_file`."""
        self._file = place(data, named)
        self._tls = data / tls.DIRECTORY
        self._is_ours = named is None
        self._store = store
        self._sleep = sleep
        self._content = b""
        self._absent = 0
        """Looks in a row at which the file was not there."""
        self._said = ""
        """What was said since it could be read last: that it is "closed", "gone", or nothing."""
        self._sealer: Sealer | None = None

    @property
    def sealer(self) -> Sealer:
        """For whoever keeps a secret in the store (name its field in hub.store.resealing.FIELDS)."""
        assert self._sealer is not None
        return self._sealer

    async def unlock(self) -> None:
        """Read the keys and prove them; the first time, seal the check. Raises KeysUnusable, StoreError."""
        check = await self._store.get(CHECK)
        if check is None and self._is_ours and not self._file.exists():
            tls.write_private(self._file, keyfile.render([EncryptionKey.new()]), is_new=True)
        self._content, ring = read(self._file, is_sealed=check is not None)
        self._sealer = Sealer(ring)
        if check is None:
            await self._put_check(None)
        else:
            _prove(self._sealer, check, self._file)
        await self._restore_ca()
        await escrow.keep_copy(self._tls, self._store, self._sealer)

    async def keep(self) -> None:
        """Follow the file; bring everything under its first key. For ever."""
        while True:
            try:
                self.reload_if_changed(await self._store.get(CHECK))
                await escrow.keep_copy(self._tls, self._store, self.sealer)
                await self.advance()
            except StoreError:
                logger.warning("sealed values could not be looked at")
            await self._sleep(SWEEP_S)

    async def _restore_ca(self) -> None:
        """Raises KeysUnusable, StoreError."""
        if await escrow.is_foreign(self._tls, self._store):
            raise KeysUnusable(
                f"{self._tls} holds the CA of another hub, as `riata-hub init` makes one: agents would refuse this hub."
                " Remove that directory, and the hub writes its own CA from the database"
            )
        try:
            await escrow.restore(self._tls, self._store, self.sealer)
        except Unsealable as exc:
            raise KeysUnusable(f"the hub's CA is gone from {self._tls}, and its copy does not open: {exc}") from exc

    def reload_if_changed(self, check: Resource | None) -> bool:
        """Take the keys of a changed file. One that does not fit is logged once, and the old keys stay."""
        try:
            content = _content(self._file)
            self._absent, self._said = 0, ""
        except OSError as exc:
            self._miss(exc)
            return False
        if content == self._content:
            return False
        self._content = content
        try:
            ring = keyfile.parse(content)
            if check is not None:
                _prove(Sealer(ring), check, self._file)
        except (KeyFileError, KeysUnusable) as exc:
            logger.error("new encryption keys refused, the old ones stay", extra={"reason": str(exc)})
            return False
        self.sealer.ring = ring
        logger.info("encryption keys loaded", extra={"current": ring.current.id, "keys": [key.id for key in ring.keys]})
        return True

    def _miss(self, fault: OSError) -> None:
        """Told when it is another fault: what is in memory goes on, but only until the next start. A file that is
        absent may be in the middle of its replacement, so it is looked at again before."""
        is_closed = isinstance(fault, PermissionError)
        kind = "closed" if is_closed else "gone"
        self._absent = 0 if is_closed else self._absent + 1
        if kind == self._said or self._absent == 1:
            return
        self._said = kind
        gone = f"{fault.strerror}; put your copy back while the hub runs, nothing else opens what is sealed"
        reason = f"{self._file}: {ownership.closed(self._file) if is_closed else gone}"
        logger.error("encryption keys cannot be read, the ones in memory stay", extra={"reason": reason})

    async def advance(self) -> None:
        """Seal anew what an older key has sealed, the check last. Raises StoreError."""
        check = await self._store.get(CHECK)
        if check is None or self.sealer.is_current(check.spec.get(CHECK_FIELD)):
            return
        ring = self.sealer.ring
        progress = await reseal(self._store, self.sealer)
        logger.info("sealed anew", extra={**dataclasses.asdict(progress), "key": ring.current.id})
        if progress.left:
            return
        await self._sleep(SETTLE_S)
        late = await reseal(self._store, self.sealer)
        if late.resealed or late.left or self.sealer.ring is not ring:
            return
        await self._put_check(check)
        logger.info("every sealed value is under the new key", extra={"key": ring.current.id, "total": progress.total})

    async def _put_check(self, before: Resource | None) -> None:
        spec = {CHECK_FIELD: self.sealer.seal(CHECK, CHECK_FIELD, CHECK_VALUE)}
        await self._store.put(Resource(CHECK, spec) if before is None else dataclasses.replace(before, spec=spec))


def place(data: Path, named: Path | None) -> Path:
    """Where the keys are."""
    return named or data / FILE_NAME


def read(file: Path, *, is_sealed: bool = True) -> tuple[bytes, KeyRing]:
    """Content and keys of a file. Raises KeysUnusable."""
    try:
        content = _content(file)
        return content, keyfile.parse(content)
    except PermissionError as exc:
        raise KeysUnusable(f"{file}, the encryption key file: {ownership.closed(file)}") from exc
    except OSError as exc:
        cure = "restore it from your copy, nothing else opens what is sealed" if is_sealed else keyfile.CURE
        raise KeysUnusable(f"{file}, the encryption key file, cannot be read: {exc.strerror}; {cure}") from exc
    except KeyFileError as exc:
        raise KeysUnusable(f"{file}, the encryption key file, {exc}") from exc


def rotate(file: Path) -> KeyRing:
    """Put a new key first; a symbolic link to the file stays one. Raises KeysUnusable, OSError."""
    with _locked(file):
        _, ring = read(file)
        rotated = KeyRing((EncryptionKey.new(), *ring.keys))
        if len(rotated.keys) > keyfile.KEYS_MAX:
            raise KeysUnusable(f"{file} has {keyfile.KEYS_MAX} keys: run `riata-hub keys retire` first")
        tls.write_private(file.resolve(), keyfile.render(rotated.keys), keeps_group=True)
    return rotated


def retire(file: Path, stored: list[Resource]) -> list[str]:
    """Remove every key but the first, if nothing is sealed with them; their ids. Raises KeysUnusable, OSError."""
    with _locked(file):
        _, ring = read(file)
        used = keys_in_use(stored)
        check = next((item for item in stored if item.key == CHECK), None)
        if check is None or key_id_of(check.spec.get(CHECK_FIELD)) != ring.current.id or set(used) - {ring.current.id}:
            left = sum(count for key_id, count in used.items() if key_id != ring.current.id)
            raise KeysUnusable(
                f"{left} values are still sealed with an older key: the running hub brings them under the new one"
                " within some minutes, see `riata-hub keys list`"
            )
        tls.write_private(file.resolve(), keyfile.render(ring.keys[:1]), keeps_group=True)
    return [key.id for key in ring.keys[1:]]


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    """One change at a time, of any process: of two at once the later would write over the key of the earlier, and the
    hub may have sealed with that by then. The directory is locked, since the file is replaced. Raises OSError."""
    descriptor = os.open(file.resolve().parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _content(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(FILE_BYTES_MAX)


def _prove(sealer: Sealer, check: Resource, file: Path) -> None:
    """Raises KeysUnusable unless these keys are the store's."""
    try:
        is_right = sealer.open(CHECK, CHECK_FIELD, check.spec.get(CHECK_FIELD)) == CHECK_VALUE
    except Unsealable:
        is_right = False
    if not is_right:
        key_id = key_id_of(check.spec.get(CHECK_FIELD))
        raise KeysUnusable(
            f"{file}, the encryption key file, is not this database's: it is sealed with key {key_id:.16}, and the file"
            f" has {', '.join(key.id for key in sealer.ring.keys)}; restore the right file from your copy"
        )
