"""Every sealed value of the store, and bringing all of them under the key that encrypts now.

The work has no state but the records: what is sealed with an older key is what is left to do. So it may end at any
write and goes on from there; each record changes by compare-and-swap, and whoever else changes it wins.
"""

from __future__ import annotations

import collections
import dataclasses
import logging
from collections.abc import Iterable, Mapping
from typing import Final

from hub.store.interface import Store
from hub.store.model import Key, Resource, RevisionConflict
from hub.store.sealed import Sealer, Unsealable, key_id_of

logger = logging.getLogger(__name__)

CHECK: Final = Key("hub", "", "encryption")
"""A value that is known. Whether it opens tells whether the key file is the one that this store was sealed with; it is
sealed anew after everything else, so that its key is the one that nothing may be missing without."""
CHECK_FIELD: Final = "check"
CHECK_VALUE: Final = b"riata"

FIELDS: Final[Mapping[str, tuple[str, ...]]] = {"hub-secret": ("value",)}
"""Kind → the fields of its spec that are sealed. Whoever seals a field names it here, or it is lost with its key."""


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """One pass over the store."""

    total: int
    resealed: int
    left: int
    """Sealed with an older key still: changed by somebody else meanwhile, or unreadable."""


async def reseal(store: Store, sealer: Sealer, fields: Mapping[str, tuple[str, ...]] = FIELDS) -> Progress:
    """One pass: seal anew what an older key has sealed. Raises StoreError."""
    total = resealed = left = 0
    for kind, names in fields.items():
        for item in (await store.list(kind)).items:
            sealed = [name for name in names if key_id_of(item.spec.get(name))]
            total += len(sealed)
            old = [name for name in sealed if not sealer.is_current(item.spec[name])]
            if not old:
                continue
            try:
                fresh = {name: _again(sealer, item, name) for name in old}
                await store.put(dataclasses.replace(item, spec={**item.spec, **fresh}))
                resealed += len(old)
            except (Unsealable, RevisionConflict) as exc:
                left += len(old)
                logger.warning("sealed value left as it is", extra={"record": str(item.key), "reason": str(exc)})
    return Progress(total, resealed, left)


def _again(sealer: Sealer, item: Resource, name: str) -> object:
    return sealer.seal(item.key, name, sealer.open(item.key, name, item.spec[name]))


def keys_in_use(resources: Iterable[Resource], fields: Mapping[str, tuple[str, ...]] = FIELDS) -> dict[str, int]:
    """Key id → how many values it has sealed, the check included."""
    counts: collections.Counter[str] = collections.Counter()
    for item in resources:
        names = (CHECK_FIELD,) if item.key == CHECK else fields.get(item.key.kind, ())
        counts.update(key_id for name in names if (key_id := key_id_of(item.spec.get(name))))
    return dict(counts)
