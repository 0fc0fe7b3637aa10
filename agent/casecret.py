"""What the hub says of its CAs, in the Secret that holds the agent's key: an entry of its own, by compare-and-swap."""

import base64
import binascii
from typing import Any, Final

from agent import hubca
from agent.hubca import BYTES_MAX, ENTRY, CaUnusable, HubCa
from agent.kube import KubeApi, KubeError

_TRIES: Final = 8
"""Against replicas that learn the same at the same time, and rotations of the key."""


class CaSecret:
    """Implements agent.hubca.CaStore. `secret`: NAMESPACE/NAME."""

    def __init__(self, api: KubeApi, secret: str) -> None:
        namespace, _, name = secret.partition("/")
        self._place = f"Secret {secret}"
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/secrets/{name}"

    async def load(self) -> HubCa | None:
        return self._known(await self._get())

    async def save(self, known: HubCa) -> None:
        for _ in range(_TRIES):
            document = await self._get()
            if self._known(document) == known:
                return
            content = base64.b64encode(hubca.encode(known)).decode("ascii")
            changed = {**document, "data": {**(document.get("data") or {}), ENTRY: content}}
            try:
                await self._api.put(self._path, changed)
            except KubeError as exc:
                if exc.status == 409:
                    continue
                raise CaUnusable(f"{self._place}: {exc}", may_pass=exc.may_pass) from exc
            return
        raise CaUnusable(f"{self._place} is changed by others all the time")

    async def _get(self) -> Any:
        try:
            return await self._api.get(self._path)
        except KubeError as exc:
            raise CaUnusable(f"{self._place}: {exc}", may_pass=exc.may_pass) from exc

    def _known(self, document: Any) -> HubCa | None:
        try:
            encoded = (document.get("data") or {}).get(ENTRY, "")
            if not isinstance(encoded, str) or len(encoded) > 2 * BYTES_MAX:
                raise TypeError
            content = base64.b64decode(encoded, validate=True)
        except (AttributeError, TypeError, binascii.Error):
            raise CaUnusable(f"{self._place}: its entry {ENTRY} is not what an agent keeps there") from None
        return hubca.decode(content, f"{self._place}, entry {ENTRY}") if content else None
