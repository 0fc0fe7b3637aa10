"""The hub that is measured: started, ended and started again on one port, so that its agents find it."""

import asyncio
import dataclasses
import json
import socket
import time
from pathlib import Path
from typing import Any, Final, Self

from tests.bench import processes, rig
from tests.harness import ports

SETTINGS: Final = {
    "RIATA_HUB_EDGE_CONNECTIONS_MAX": "17500",
    "RIATA_HUB_PROXY_LONG_PER_USER": "20000",
}
"""5,000 tunnels, 10,000 watches and those who administer are a little more than the 15,000 connections of the default;
and the bench holds all its watches as one user, who may have 2,000."""
START_MAX_S: Final = 60.0


@dataclasses.dataclass
class Hub:
    """A hub in a directory of its own. Make it with `create`."""

    directory: Path
    admin: Path
    kept: socket.socket
    """Its port, also while it does not run."""
    process: asyncio.subprocess.Process | None = None
    ready: dict[str, Any] = dataclasses.field(default_factory=dict)
    listens_at: float = 0.0
    """Since when, on the monotonic clock."""
    has_core: bool = False
    """A core is for it alone, the agents have the others."""

    @classmethod
    async def create(cls, directory: Path) -> Self:
        return cls(directory, await rig.init_hub(directory), ports.keep("127.0.0.1"))

    @property
    def data(self) -> Path:
        """Where it keeps what it knows."""
        return self.directory / "hub"

    @property
    def url(self) -> str:
        return str(self.ready["url"])

    @property
    def ca(self) -> Path:
        return Path(self.ready["ca_file"])

    @property
    def metrics_url(self) -> str:
        return str(self.ready["metrics_url"])

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def command(self, listen: str) -> list[str]:
        """How it is run."""
        return rig.hub_command(self.directory, listen)

    async def start(self) -> float:
        """Start it; the seconds until it listens."""
        began = time.monotonic()
        log = self.directory / "hub.log"
        self.process = await rig.launch(log, self.command(ports.address(self.kept)), **SETTINGS)
        if self.has_core:
            processes.share_cores([self.process.pid])
        file = self.directory / rig.HUB_READY
        while not file.exists():
            if self.process.returncode is not None or time.monotonic() - began > START_MAX_S:
                raise RuntimeError(f"the hub did not start; see {log}: {log.read_text()[-400:]}")
            await asyncio.sleep(0.005)
        self.ready = json.loads(file.read_text())
        self.listens_at = time.monotonic()
        return self.listens_at - began

    async def kill(self) -> None:
        """End it as a power failure does."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()
        (self.directory / rig.HUB_READY).unlink(missing_ok=True)

    async def stop(self) -> None:
        """End it in order: watches end, agents are told to come back."""
        if self.process is not None:
            await rig.stop(self.process)
        self.kept.close()

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return await rig.call(self.url, self.ca, self.admin, method, path, body)

    def mebibytes(self) -> float:
        return processes.rss_bytes(self.pid) / 2**20
