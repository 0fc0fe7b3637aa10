"""One join token, many keys at once, over the wire: one winner, with one process of the hub and with two."""

import asyncio
import secrets
from pathlib import Path

import pytest

from agent.config import HubSettings
from agent.keys import Kept, KeyState
from agent.proof import wall_clock
from agent.uplink.diagnose import ConnectFailed
from agent.uplink.enrolment import Enrolment
from agent.uplink.keyring import Keyring
from agent.uplink.rotation import KeyRotation
from agent.uplink.session import Identity, Opener
from agent.uplink.trust import HubTrust
from tests import harness
from tests.faults import figures
from tests.harness import Hub

pytestmark = [pytest.mark.timeout(120)]

JOINS = int(figures.number("JOINS", 200))
AT_ONCE = 150
"""Below the 200 that may be between upgrade and WELCOME: who is sent away there never shows its token."""


class Memory:
    """Implements agent.keys.KeyStore."""

    place = "memory"

    def __init__(self) -> None:
        self._kept = Kept(None, "")

    async def load(self) -> Kept:
        return self._kept

    async def save(self, state: KeyState, version: str) -> Kept:
        self._kept = Kept(state, "1")
        return self._kept


async def unsaid() -> str:
    return ""


async def joined(settings: HubSettings, token_file: Path, gate: asyncio.Semaphore) -> str:
    """Its cluster, or why it was refused."""
    ring = Keyring(Memory(), wall_clock)
    opener = Opener(
        settings,
        Identity(secrets.token_bytes(16), "cluster"),
        HubTrust(settings),
        Enrolment(ring, token_file, KeyRotation(ring)),
        proxy_environment={},
        kubernetes=unsaid,
    )
    async with gate:
        try:
            opened = await opener.open()
        except ConnectFailed as failure:
            return failure.diagnosis.what
        opened.transport.abort()
        return opened.welcome.cluster


async def race(hub: Hub, token_file: Path) -> list[str]:
    await hub.api.create_cluster("raced")
    token_file.write_text(await hub.api.join_token("raced"))
    settings = HubSettings(url=hub.url, ca_pins=(hub.ca_pin,), ca_file=hub.ca_file)
    gate = asyncio.Semaphore(AT_ONCE)
    return await asyncio.gather(*(joined(settings, token_file, gate) for _ in range(JOINS)))


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_one_token_lets_one_key_in(tmp_path: Path, workers: str) -> None:
    async with harness.hub(name=f"hub-raced-{workers}", options=["--workers", workers], only_loopback=True) as hub:
        outcomes = await race(hub, tmp_path / "join.token")
        assert outcomes.count("raced") == 1, set(outcomes)
        refused = [outcome for outcome in outcomes if outcome != "raced"]
        assert all("the join token was used at" in outcome for outcome in refused), set(refused)
        (agent,) = (await hub.api.call("GET", "/v1/agents"))["items"]
        assert agent["cluster"] == "raced"
        (token,) = (await hub.api.call("GET", "/v1/clusters/raced/join-tokens"))["items"]
        assert token["usedAt"]
    print(f"\n{JOINS} joins with one token, {workers} worker(s): one winner")
