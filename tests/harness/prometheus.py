"""Debian's Prometheus: one that reads a hub and minds its alerts; and promtool, which lets time pass for alerts."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import yaml

from tests.harness import ports
from tests.harness.children import Child, until
from tests.harness.commands import Result, execute

_READY_S = 30


def obstacle() -> str | None:
    """Why there is none here."""
    absent = [name for name in ("prometheus", "promtool") if shutil.which(name) is None]
    return f"{' and '.join(absent)} missing: make node-packages, or apt-get install prometheus" if absent else None


async def promtool(*arguments: str | Path) -> Result:
    """Run promtool."""
    return await execute([str(shutil.which("promtool")), *map(str, arguments)], timeout=30)


@dataclass(frozen=True)
class Prometheus:
    """One that runs."""

    url: str
    child: Child

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """What an instant query finds now. Raises AssertionError with Prometheus' words when it does not understand."""
        return list((await self._ask("query", query=expression))["result"])

    async def firing(self) -> list[dict[str, str]]:
        """Labels of the alerts that fire now."""
        alerts = (await self._ask("alerts"))["alerts"]
        return [each["labels"] for each in alerts if each["state"] == "firing"]

    async def _ask(self, what: str, **parameters: str) -> Any:
        address = f"{self.url}/api/v1/{what}"
        async with aiohttp.ClientSession() as session, session.get(address, params=parameters) as answer:
            said = await answer.json()
        assert said["status"] == "success", f"{parameters}: {said.get('error')}"
        return said["data"]


@asynccontextmanager
async def prometheus(
    directory: Path, metrics_url: str, *, job: str, labels: Mapping[str, str], rules: Mapping[str, Any]
) -> AsyncIterator[Prometheus]:
    """Read `metrics_url` twice a second as `job`, with `labels`, and mind `rules`, a rule file. Raises HarnessError."""
    target = {"targets": [urlsplit(metrics_url).netloc], "labels": dict(labels)}
    config = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
        "scrape_configs": [{"job_name": job, "static_configs": [target]}],
        "rule_files": ["rules.yml"],
    }
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    (directory / "rules.yml").write_text(yaml.safe_dump(dict(rules)))
    with ExitStack() as kept:
        address = ports.address(kept.enter_context(ports.keep("127.0.0.1")))
        command = [
            str(shutil.which("prometheus")),
            "--config.file=prometheus.yml",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address={address}",
        ]
        child = Child.start("prometheus", command, log=directory / "prometheus.log", cwd=directory)
        try:
            host, port = address.split(":")
            await until(lambda: _is_ready(child.log), what="prometheus is not ready", timeout_s=_READY_S, alive=[child])
            yield Prometheus(f"http://{host}:{port}", child)
        finally:
            await child.stop(10)
            await asyncio.to_thread(shutil.rmtree, directory / "data", ignore_errors=True)


def _is_ready(log: Path) -> bool:
    return "Server is ready to receive web requests" in log.read_text()
