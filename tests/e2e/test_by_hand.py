"""docs/operate/by-hand.md is a script, and it works."""

import os
import pathlib
import re
import socket

import pytest

from tests import harness
from tests.harness import Cluster, tools

PAGE = tools.REPOSITORY / "docs" / "operate" / "by-hand.md"
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _script() -> str:
    """The page's blocks in their order; whatever happens, what they started is ended."""
    blocks = _BLOCK.findall(PAGE.read_text())
    assert len(blocks) >= 6
    return "set -eu\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n" + "\n".join(blocks)


@pytest.mark.light
async def test_the_page_as_a_script(light_cluster: Cluster, tmp_path: pathlib.Path) -> None:
    hub, metrics, agent_health, agent_metrics = _free_ports(4)
    programs = [str(pathlib.Path(tools.console_script(n, p)[0]).parent) for n, p in (("riata", "ctl"),)]
    environment = {
        "PATH": os.pathsep.join([*programs, str(pathlib.Path(tools.kube("kubectl")).parent), os.environ["PATH"]]),
        "HOME": str(tmp_path),
        "KUBECONFIG": str(light_cluster.admin_kubeconfig),
        "DIR": str(tmp_path / "by-hand"),
        "HUB_LISTEN": f"127.0.0.1:{hub}",
        "HUB_URL": f"https://127.0.0.1:{hub}",
        "HUB_METRICS": f"127.0.0.1:{metrics}",
        "AGENT_HEALTH": f"127.0.0.1:{agent_health}",
        "AGENT_METRICS": f"127.0.0.1:{agent_metrics}",
        "CLUSTER": "by-hand",
        "KUBE_URL": light_cluster.url,
        "KUBE_CA_FILE": str(light_cluster.ca_file),
        "DEPLOY": str(tools.REPOSITORY / "deploy" / "agent"),
    }
    done = await harness.execute(["bash", "-c", _script()], env=environment, timeout=120)
    assert done.rc == 0, done.stdout + done.stderr
    assert "riata:admin" in done.stdout
    assert "kube-system" in done.stdout
    assert all((tmp_path / "by-hand" / name).stat().st_mode & 0o077 == 0 for name in ("admin.token", "kubeconfig"))
