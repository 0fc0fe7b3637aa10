"""docs/operate/by-hand.md is a script, and it works; where it cannot, it ends and says why."""

import asyncio
import contextlib
import os
import pathlib
import re
import signal
import socket

import pytest

from tests.harness import Cluster, tools
from tests.harness.children import launched
from tests.harness.runs import Run

PAGE = tools.REPOSITORY / "docs" / "operate" / "by-hand.md"
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _settings(directory: pathlib.Path) -> dict[str, str]:
    """What a user of the page would set, on ports that nobody takes before the page's programs do."""
    hub, metrics, agent_health, agent_metrics = (Run.current().ports.take() for _ in range(4))
    programs = [
        *(pathlib.Path(tools.console_script(n, p)[0]).parent for n, p in (("riata", "ctl"),)),
        pathlib.Path(tools.kube("kubectl")).parent,
    ]
    return {
        "PATH": os.pathsep.join([*map(str, programs), os.environ["PATH"]]),
        "HOME": str(directory),
        "DIR": str(directory / "by-hand"),
        "HUB_LISTEN": f"127.0.0.1:{hub}",
        "HUB_URL": f"https://127.0.0.1:{hub}",
        "HUB_METRICS": f"127.0.0.1:{metrics}",
        "AGENT_HEALTH": f"127.0.0.1:{agent_health}",
        "AGENT_METRICS": f"127.0.0.1:{agent_metrics}",
        "CLUSTER": "by-hand",
        "DEPLOY": str(tools.REPOSITORY / "deploy" / "agent"),
    }


async def _run_page(directory: pathlib.Path, settings: dict[str, str], limit_s: float) -> tuple[int, str, str]:
    """The page's blocks in their order, as they are, in a file that `sh` runs; (exit code, stdout, stderr).

    What they left running when they failed is killed: it is in the process group of the shell.
    """
    blocks = _BLOCK.findall(PAGE.read_text())
    assert len(blocks) >= 6
    script, out, err = directory / "page.sh", directory / "page.out", directory / "page.err"
    script.write_text("\n".join(blocks))
    with out.open("wb") as stdout, err.open("wb") as stderr:
        shell = await asyncio.create_subprocess_exec(
            *launched(["sh", str(script)]),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, **settings},
            start_new_session=True,
        )
    try:
        async with asyncio.timeout(limit_s):
            code = await shell.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
        await shell.wait()
    return code, out.read_text(), err.read_text()


@pytest.mark.light
async def test_the_page_as_a_script(light_cluster: Cluster, tmp_path: pathlib.Path) -> None:
    settings = _settings(tmp_path) | {
        "KUBECONFIG": str(light_cluster.admin_kubeconfig),
        "KUBE_URL": light_cluster.url,
        "KUBE_CA_FILE": str(light_cluster.ca_file),
    }
    code, out, err = await _run_page(tmp_path, settings, 120)
    assert code == 0, out + err
    assert "riata:admin" in out
    assert "kube-system" in out
    assert all((tmp_path / "by-hand" / name).stat().st_mode & 0o077 == 0 for name in ("admin.token", "kubeconfig"))


@pytest.mark.light
async def test_it_ends_and_names_the_log_when_the_hub_has_no_port(tmp_path: pathlib.Path) -> None:
    settings = _settings(tmp_path) | {"KUBE_URL": "https://127.0.0.1:1", "KUBE_CA_FILE": "/nowhere"}
    host, _, port = settings["HUB_LISTEN"].partition(":")
    with socket.create_server((host, int(port))):
        code, _, err = await _run_page(tmp_path, settings, 60)
    assert code == 1, err
    assert err.splitlines()[-1] == f"error: the hub has ended, see {tmp_path}/by-hand/hub.log"
    assert "in use" in err  # the end of the log is shown
    assert not (tmp_path / "by-hand" / "kube.token").exists()


@pytest.mark.light
async def test_it_ends_at_once_without_an_api_server_named(tmp_path: pathlib.Path) -> None:
    code, _, err = await _run_page(tmp_path, _settings(tmp_path), 60)
    assert code != 0
    assert "KUBE_URL" in err
    assert not (tmp_path / "by-hand").exists()
