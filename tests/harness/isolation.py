"""What a full cluster's first process does to its own namespaces: mounts, cgroups, addresses, firewall.

Everything here is private to the namespaces and ends with them; nothing of it is seen outside.
"""

import os
import subprocess
from pathlib import Path
from typing import Final

from tests.harness import cgroups
from tests.harness.control_plane import SERVICE_ADDRESS
from tests.harness.node import BRIDGE, NODE_ADDRESS, POD_RANGE

UPLINK: Final = "uplink"
TABLE: Final = "riata"


def _run(*command: str, text: str | None = None) -> None:
    subprocess.run(command, input=text, text=True, timeout=20, check=True)


def private_directories(directory: Path) -> None:
    """Let containerd, kubelet and CNI write below /var and /run without the machine's ever seeing it."""
    layers = directory / "layers"
    layers.mkdir()
    _run("mount", "-t", "tmpfs", "-o", "mode=0755,size=256m", "tmpfs", str(layers))
    for name in ("var", "run"):
        upper, work = layers / name / "upper", layers / name / "work"
        upper.mkdir(parents=True)
        work.mkdir()
        options = f"lowerdir=/{name},upperdir={upper},workdir={work}"
        _run("mount", "-t", "overlay", "-o", options, "overlay", f"/{name}")


def private_cgroups() -> None:
    """Mount every hierarchy anew, so that its top is this cluster's own group."""
    found = cgroups.hierarchies()
    for hierarchy in found:
        options = ["-o", hierarchy.options] if hierarchy.options else []
        _run("umount", str(hierarchy.mount))
        _run("mount", "-t", hierarchy.kind, *options, hierarchy.kind, str(hierarchy.mount))
    if len(found) == 1 and found[0].kind == "cgroup2":
        _leave_top(found[0].mount)


def _leave_top(mount: Path) -> None:
    # v2: a group with processes of its own cannot hand controllers to its children.
    own = mount / "init"
    own.mkdir()
    for pid in (mount / "cgroup.procs").read_text().split():
        (own / "cgroup.procs").write_text(pid)
    controllers = (mount / "cgroup.controllers").read_text().split()
    (mount / "cgroup.subtree_control").write_text(" ".join(f"+{each}" for each in controllers))


def network(*, address: str, hub_host: str, api_port: int) -> None:
    """Addresses, routes and rules: out to the hub's chosen ports only, in from nowhere.

    `address` is our end of the uplink with its prefix length. The hub's ports are added later to the set `hub`.
    """
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "address", "add", f"{NODE_ADDRESS}/32", "dev", "lo")
    _run("ip", "address", "add", address, "dev", UPLINK)
    _run("ip", "link", "set", UPLINK, "up")
    _run("ip", "route", "add", "default", "via", hub_host)  # a pod's packet to nowhere meets the rules, not an error
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    _run("nft", "-f", "-", text=_rules(hub_host, api_port))


def _rules(hub_host: str, api_port: int) -> str:
    return f"""
table inet {TABLE} {{
  set hub {{ type inet_service; }}
  chain input {{
    type filter hook input priority 0; policy drop;
    iifname {{ "lo", "{BRIDGE}" }} accept
    ct state established,related accept
  }}
  chain output {{
    type filter hook output priority 0; policy drop;
    oifname {{ "lo", "{BRIDGE}" }} accept
    ct state established,related accept
    ip daddr {hub_host} tcp dport @hub accept
  }}
  chain forward {{
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname "{BRIDGE}" oifname "{BRIDGE}" accept
    iifname "{BRIDGE}" ip daddr {hub_host} tcp dport @hub accept
  }}
}}
table ip {TABLE}-nat {{
  chain prerouting {{
    type nat hook prerouting priority -100;
    ip daddr {SERVICE_ADDRESS} tcp dport 443 dnat to {NODE_ADDRESS}:{api_port}
  }}
  chain output {{
    type nat hook output priority -100;
    ip daddr {SERVICE_ADDRESS} tcp dport 443 dnat to {NODE_ADDRESS}:{api_port}
  }}
  chain postrouting {{
    type nat hook postrouting priority 100;
    ip saddr {POD_RANGE} oifname "{UPLINK}" masquerade
  }}
}}
"""


def namespace(kind: str, pid: int) -> str:
    """The namespace `kind` (net, pid, mnt, cgroup) of a process, as the kernel names it."""
    return os.readlink(f"/proc/{pid}/ns/{kind}")
