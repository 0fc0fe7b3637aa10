"""The hub's management API as tests and demo use it: a few calls, the administrator's token, the pinned CA."""

import ssl
from pathlib import Path
from typing import Any

import aiohttp

from tests.harness.failures import HarnessError

_TIMEOUT = aiohttp.ClientTimeout(total=20)


class HubApi:
    """Calls `/v1/…` of one hub. A session per call: the object must work in any event loop."""

    def __init__(self, url: str, ca_file: Path, token_file: Path) -> None:
        self._url = url
        self._ca_file = ca_file
        self._token_file = token_file

    async def call(self, method: str, path: str, document: dict[str, Any] | None = None) -> dict[str, Any]:
        """The JSON answer of a successful call. Raises HarnessError with the hub's words otherwise."""
        context = ssl.create_default_context(cafile=str(self._ca_file))
        headers = {"Authorization": f"Bearer {self._token_file.read_text().strip()}"}
        connector = aiohttp.TCPConnector(ssl=context)
        async with (
            aiohttp.ClientSession(connector=connector, headers=headers, timeout=_TIMEOUT) as session,
            session.request(method, f"{self._url}{path}", json=document) as answer,
        ):
            if answer.status >= 300:
                raise HarnessError(f"{method} {path}: {answer.status} {await answer.text()}")
            found: dict[str, Any] = await answer.json() if answer.content_type == "application/json" else {}
            return found

    async def create_cluster(self, name: str) -> dict[str, Any]:
        """Register a cluster; idempotent."""
        return await self.call("POST", "/v1/clusters", {"name": name, "labels": {}})

    async def connected(self, name: str) -> bool:
        """Whether an agent of the cluster is connected."""
        tunnels = (await self.call("GET", f"/v1/clusters/{name}"))["tunnels"]
        return any(tunnel["role"] == "cluster" for tunnel in tunnels)

    async def agent_token(self, cluster: str, name: str = "agent") -> str:
        """A new agent token of the cluster."""
        return str((await self.call("POST", f"/v1/clusters/{cluster}/agent-tokens", {"name": name}))["token"])

    async def join_token(self, cluster: str) -> str:
        """A new join token of the cluster, with which one agent key is enrolled."""
        return str((await self.call("POST", f"/v1/clusters/{cluster}/join-tokens", {}))["token"])

    async def user_token(self, name: str, *, user: str, groups: tuple[str, ...] = (), expires_in_s: int = 3600) -> str:
        """A new token for a user; what it may do, grants say."""
        document = {"name": name, "user": user, "groups": list(groups), "expiresInSeconds": expires_in_s}
        return str((await self.call("POST", "/v1/tokens", document))["token"])

    async def grant(self, name: str, **what: Any) -> dict[str, Any]:
        """A grant: `user` or `group`, `cluster`, `role`, `impersonate`."""
        return await self.call("POST", "/v1/grants", {"name": name, **what})
