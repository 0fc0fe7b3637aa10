"""A network of its own for agents: a cluster behind NAT, made of a namespace, a link without delay and a long way.

Needs root, `ip`, `nft`, `nsenter`, `unshare` and /dev/net/tun; `obstacle` says what is missing. It ends with its first
process, whatever happens to the test run.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.faults.proxy import Way
from tests.harness import tools
from tests.harness.children import Child, until
from tests.harness.runs import Run

NEAR: Final = "near"
"""The agents' end of the link without delay."""
FAR: Final = "far"
"""The agents' end of the long way (tests/faults/tunlink.py)."""
_TABLE: Final = "faults"


def obstacle() -> str | None:
    """What this machine lacks, None when it lacks nothing."""
    if os.geteuid() != 0:
        return "root is needed for network namespaces"
    missing = [name for name in ("ip", "nft", "nsenter", "unshare") if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed"
    return None if Path("/dev/net/tun").exists() else "no /dev/net/tun"


@dataclass
class Place:
    """`near_host` and `far_host` are the hub's addresses as agents here see them, over the one way and the other."""

    near_host: str
    far_host: str
    pid: int
    _far_address: str
    _far_link: str
    _shuttle: Child | None = None

    @property
    def hub_host(self) -> str:
        """The hub's address for agents here."""
        return self.far_host if self._shuttle is not None else self.near_host

    @property
    def prefix(self) -> list[str]:
        """Brings a command in here."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--"]

    def cut(self, port: int, *ways: Way) -> None:
        """Drop every packet to (and, or, from) this port of the hub, without a word: partition by nft."""
        rules = [f"table ip {_TABLE} {{"]
        if Way.TO_HUB in (ways or tuple(Way)):
            rules.append(f"chain o {{ type filter hook output priority 0; tcp dport {port} drop; }}")
        if Way.TO_AGENT in (ways or tuple(Way)):
            rules.append(f"chain i {{ type filter hook input priority 0; tcp sport {port} drop; }}")
        _run([*self.prefix, "nft", "-f", "-"], "\n".join([*rules, "}"]))

    def heal(self) -> None:
        """Take the rules away."""
        _run([*self.prefix, "nft", "delete", "table", "ip", _TABLE])

    async def lengthen(self, log: Path, **weather: float) -> None:
        """Give the long way its weather (tests/faults/tunlink.py): from now on `far_host` is reached."""
        command = [sys.executable, "-m", "tests.faults.tunlink", str(self.pid), self._far_link, FAR]
        self._shuttle = Child.start("tunlink", [*command, json.dumps(weather)], log=log, cwd=tools.REPOSITORY)
        ready = f"/sys/class/net/{self._far_link}"
        await until(lambda: Path(ready).exists() and "ready" in log.read_text(), what="the long way", timeout_s=10,
                    alive=[self._shuttle])  # fmt: skip
        _run(["ip", "address", "add", f"{self.far_host}/30", "dev", self._far_link])
        _run(["ip", "link", "set", self._far_link, "up"])
        _run([*self.prefix, "ip", "address", "add", f"{self._far_address}/30", "dev", FAR])
        _run([*self.prefix, "ip", "link", "set", FAR, "up"])

    async def close(self) -> None:
        if self._shuttle is not None:
            await self._shuttle.stop(3)


@contextlib.asynccontextmanager
async def place() -> AsyncIterator[Place]:
    """A new one."""
    run = Run.current()
    number = run.next_number()
    directory = run.subdirectory("place")
    holder = Child.start("place", ["unshare", "--net", "sleep", "infinity"], log=directory / "place.log")
    link = f"{run.name}-{number}"
    made: Place | None = None
    try:
        own = os.readlink("/proc/self/ns/net")
        await until(lambda: _net(holder.pid) not in {own, ""}, what="the namespace", timeout_s=10, alive=[holder])
        near, far = _subnet(run.subnets.take()), _subnet(run.subnets.take())
        made = Place(near[0], far[0], holder.pid, far[1], f"{run.name}t{number}")
        _run(["ip", "link", "add", link, "type", "veth", "peer", "name", NEAR, "netns", str(holder.pid)])
        _run(["ip", "address", "add", f"{near[0]}/30", "dev", link])
        _run(["ip", "link", "set", link, "up"])
        for command in (f"address add {near[1]}/30 dev {NEAR}", f"link set {NEAR} up", "link set lo up"):
            _run([*made.prefix, "ip", *command.split()])
        yield made
    finally:
        if made is not None:
            await made.close()
        await holder.stop(3, number=signal.SIGKILL)
        subprocess.run(["ip", "link", "delete", link], capture_output=True, timeout=10, check=False)
        await asyncio.sleep(0)


def _net(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return ""


def _subnet(number: int) -> tuple[str, str]:
    third, fourth = divmod(number * 4, 256)
    return f"10.213.{third}.{fourth + 1}", f"10.213.{third}.{fourth + 2}"


def _run(command: list[str], text: str | None = None) -> None:
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
