"""Runs riata-hub as a process."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from tests.harness import kubeconfigs, ports, tools
from tests.harness.children import Child, until
from tests.harness.clusters import Cluster
from tests.harness.commands import execute
from tests.harness.failures import HarnessError
from tests.harness.hub_api import HubApi
from tests.harness.runs import Run

_READY_S: Final = 60.0
_LOOPBACK: Final = "127.0.0.1"


@dataclass
class Hub:
    """A running hub. `urls` has one entry for each listen address; `url` is the one on loopback."""

    directory: Path
    data: Path
    child: Child
    urls: list[str]
    url: str
    metrics_url: str
    ca_file: Path
    ca_pin: str
    admin_token_file: Path
    _listen: list[str] = field(repr=False)
    _options: list[str] = field(repr=False)
    _program: Sequence[str] = field(repr=False)

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def log(self) -> Path:
        return self.child.log

    @property
    def api(self) -> HubApi:
        return HubApi(self.url, self.ca_file, self.admin_token_file)

    def url_on(self, host: str) -> str:
        """The URL under which the hub is reached at `host`. Raises HarnessError when it does not listen there."""
        for url in self.urls:
            if urlsplit(url).hostname == host:
                return url
        raise HarnessError(f"the hub listens on {self.urls}, not on {host}: start it after the cluster")

    def kill(self) -> None:
        """SIGKILL."""
        self.child.kill()

    async def stop(self) -> None:
        """SIGTERM, and its end awaited."""
        await self.child.stop(15)

    async def restart(self) -> None:
        """Start it again on the same data and the same addresses."""
        await self.child.stop(15)
        self.child, _ = await _serve(self.directory, self.data, self._listen, self._options, self._program)


@asynccontextmanager
async def hub(
    *,
    listen: Sequence[str] = (),
    options: Sequence[str] = (),
    name: str = "hub",
    only_loopback: bool = False,
    program: Sequence[str] = (),
) -> AsyncIterator[Hub]:
    """A new hub with data of its own, on loopback and, unless `only_loopback`, wherever the clusters now alive look for
    it.

    `listen` adds hosts, `options` goes to `riata-hub serve` as it is; `program` stands for `riata-hub`
    there. Raises HarnessError.
    """
    directory = Run.current().subdirectory(name)
    data, token_file = directory / "data", directory / "admin.token"
    riata_hub = tools.console_script("riata-hub", "hub")
    command = [*riata_hub, "init", "--data", str(data)]
    (await execute([*command, "--admin-token-file", str(token_file), "-o", "json"], timeout=30)).check()
    hosts = dict.fromkeys([_LOOPBACK, *(cluster.hub_host for cluster in Cluster.alive if not only_loopback)])
    with ExitStack() as kept:
        addresses = [ports.address(kept.enter_context(ports.keep(host))) for host in (*hosts, *listen)]
        child, ready = await _serve(directory, data, addresses, options, program or riata_hub)
        running = Hub(
            directory=directory,
            data=data,
            child=child,
            urls=ready["urls"],
            url=next(url for url in ready["urls"] if urlsplit(url).hostname == _LOOPBACK),
            metrics_url=ready["metrics_url"],
            ca_file=Path(ready["ca_file"] or "/dev/null"),  # plain HTTP
            ca_pin=ready["ca_pin"] or "",
            admin_token_file=token_file,
            _listen=addresses,
            _options=list(options),
            _program=program or riata_hub,
        )
        try:
            yield running
        finally:
            await running.stop()


async def _serve(
    directory: Path, data: Path, listen: Sequence[str], options: Sequence[str], program: Sequence[str]
) -> tuple[Child, dict[str, Any]]:
    ready_file = directory / "ready.json"
    ready_file.unlink(missing_ok=True)
    command = [*program, "serve", "--data", str(data)]
    command += [part for address in listen for part in ("--listen", address)]
    command += ["--metrics-listen", f"{_LOOPBACK}:0", "--ready-file", str(ready_file), *options]
    child = Child.start("riata-hub", command, log=directory / "hub.log", cwd=directory)
    return child, await wait_ready_file(ready_file, child, _READY_S)


async def wait_ready_file(path: Path, child: Child, timeout_s: float) -> dict[str, Any]:
    """What a program wrote into its `--ready-file`. Raises HarnessError when it ends before, or takes too long."""
    try:
        await until(lambda: _document(path), what=f"{child.name} is not ready", timeout_s=timeout_s, alive=[child])
    except BaseException:
        await child.stop(3)
        raise
    return _document(path) or {}


def _document(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):  # not there yet, or half written
        return None
    return found


async def kubeconfig(hub: Hub, cluster: str, token: str | None = None) -> Path:
    """A kubeconfig for `cluster` through the hub; the administrator's token when none is given."""
    directory = hub.directory / "kubeconfigs"
    directory.mkdir(exist_ok=True)
    number = len(list(directory.iterdir()))
    secret = token or hub.admin_token_file.read_text().strip()
    url = f"{hub.url}/k8s/clusters/{cluster}"
    path = directory / f"{cluster}-{number}.kubeconfig"
    return kubeconfigs.with_token(path, url=url, ca=hub.ca_file, token=secret, name=cluster)
