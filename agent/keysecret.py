"""The agent's key in its own Secret: shipped empty by the manifest, replaced by compare-and-swap on `resourceVersion`.

The agent may get and update this one Secret, by name; it cannot make it.
"""

import base64
import binascii
from typing import Any, Final

from agent import keys
from agent.keys import BYTES_MAX, Kept, KeyConflict, KeyState, KeyUnusable
from agent.kube import KubeApi, KubeError

ENTRY: Final = "agent.json"
"""The Secret's entry that holds the key."""


class KeySecret:
    """Implements agent.keys.KeyStore. `secret`: NAMESPACE/NAME."""

    def __init__(self, api: KubeApi, secret: str) -> None:
        namespace, _, name = secret.partition("/")
        self.place = f"Secret {secret}"
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/secrets/{name}"
        self._document: dict[str, Any] = {}
        """The Secret as last read: what is not ours in it stays as it is."""

    async def load(self) -> Kept:
        return self._kept(await self._ask(self._api.get(self._path)))

    async def save(self, state: KeyState, version: str) -> Kept:
        if not self._document or self._document["metadata"].get("resourceVersion") != version:
            raise KeyConflict(f"{self.place} was changed")
        content = base64.b64encode(keys.encode(state)).decode("ascii")
        document = {**self._document, "data": {**(self._document.get("data") or {}), ENTRY: content}}
        return self._kept(await self._ask(self._api.put(self._path, document)))

    async def _ask(self, call: Any) -> Any:
        try:
            return await call
        except KubeError as exc:
            if exc.status == 409:
                raise KeyConflict(f"{self.place} was changed") from exc
            cures = {
                404: "apply the agent's manifest, which ships it empty",
                403: "the agent's Role must allow get and update on it",
            }
            cure = cures.get(exc.status)
            text = f"{self.place}: {exc}" + (f": {cure}" if cure else "")
            raise KeyUnusable(text, may_pass=exc.may_pass) from exc

    def _kept(self, document: Any) -> Kept:
        try:
            version = document["metadata"]["resourceVersion"]
            encoded = (document.get("data") or {}).get(ENTRY, "")
            if not isinstance(version, str) or not isinstance(encoded, str) or len(encoded) > 2 * BYTES_MAX:
                raise TypeError
            content = base64.b64decode(encoded, validate=True)
        except (KeyError, TypeError, AttributeError, binascii.Error):
            raise KeyUnusable(f"{self.place} does not look like a Secret with an agent's key") from None
        self._document = document
        return Kept(keys.decode(content, self.place) if content else None, version)
