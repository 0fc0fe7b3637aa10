"""The hub's management API as a test uses it: tokens, grants, clusters, and an Entry for an identity."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.e2e.entry import Entry, kubeconfig_text
from tests.e2e.kubectl import Kubectl


@dataclass(frozen=True)
class Made:
    """A token as shown once: its id (to revoke it) and its secret."""

    id: str
    token: str


@dataclass
class HubApi:
    """One caller of `/v1/…`.

    `directory` takes the kubeconfigs that are made; `made` remembers every secret, for the check of the logs.
    """

    url: str
    ca_file: Path
    token: str
    program: Path
    directory: Path
    made: list[str]

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and decoded JSON; a JSON `null` when there is no body."""
        context = ssl.create_default_context(cafile=str(self.ca_file))
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
            session.request(
                method, self.url + path, json=body, headers={"Authorization": f"Bearer {self.token}"}
            ) as answer,
        ):
            raw = await answer.read()
            return answer.status, await answer.json() if raw else None

    async def must(self, method: str, path: str, body: object = None) -> Any:
        """The JSON of a call that has to succeed."""
        status, answer = await self.call(method, path, body)
        assert status in {200, 201, 204}, f"{method} {path}: {status} {answer}"
        return answer

    async def mint(
        self,
        name: str,
        *,
        user: str,
        groups: Sequence[str] = (),
        clusters: Sequence[str] | None = None,
        seconds: int = 3600,
    ) -> Made:
        """Make a token for `user`; `clusters` None means no narrower scope than the user's grants."""
        body: dict[str, object] = {"name": name, "user": user, "groups": list(groups), "expiresInSeconds": seconds}
        if clusters is not None:
            body["clusters"] = list(clusters)
        answer = await self.must("POST", "/v1/tokens", body)
        self.made.append(answer["token"])
        return Made(answer["id"], answer["token"])

    async def grant(
        self,
        name: str,
        *,
        cluster: str,
        role: str,
        user: str = "",
        group: str = "",
        impersonate: dict[str, list[str]] | None = None,
    ) -> None:
        subject = {"user": user} if user else {"group": group}
        body: dict[str, object] = {"name": name, **subject, "cluster": cluster, "role": role}
        if impersonate is not None:
            body["impersonate"] = impersonate
        await self.must("POST", "/v1/grants", body)

    def entry(self, cluster: str, token: str) -> Entry:
        """The way into `cluster` with `token`, with a kubeconfig and a kubectl home of its own."""
        home = self.directory / f"home-{len(list(self.directory.iterdir()))}"
        home.mkdir(parents=True)
        url = f"{self.url}/k8s/clusters/{cluster}"
        kubeconfig = home / "kubeconfig"
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_text(kubeconfig_text(url, self.ca_file, token))
        return Entry(url, self.ca_file, token, Kubectl(self.program, kubeconfig, home))
