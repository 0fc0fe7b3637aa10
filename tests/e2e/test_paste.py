"""What `riata clusters create` prints, pasted: a real shell, a real curl, a real kubectl, a real API server."""

import os
import shutil
from pathlib import Path

import pytest

from tests import harness
from tests.e2e.line import Line
from tests.harness import tools
from tests.harness.commands import execute

pytestmark = [pytest.mark.light, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

_LOOK = """#!/bin/sh
# What everybody on this machine sees of us and of the shell above, then the program itself.
for pid in $$ $PPID; do tr '\\0' '\\n' </proc/$pid/cmdline; tr '\\0' '\\n' </proc/$pid/environ; done >>"{seen}"
exec {program} "$@"
"""


def looked_at(directory: Path, **programs: str) -> Path:
    """A directory with programs that write down their own and their shell's command line and environment."""
    (directory / "bin").mkdir()
    for name, program in programs.items():
        file = directory / "bin" / name
        file.write_text(_LOOK.format(seen=directory / "seen", program=program))
        file.chmod(0o755)
    return directory / "bin"


@pytest.mark.parametrize("shell", ["sh", "bash"])
async def test_pasted_it_brings_the_agent_in_and_shows_no_secret(hub_line: Line, tmp_path: Path, shell: str) -> None:
    cluster, hub = hub_line.light, hub_line.hub
    name = f"pasted-{shell}"
    # Other tests left the key of their agents there, and applying the manifest would keep it.
    await cluster.kubectl("delete", "secret", "riata-agent-key", "-n", "riata-system", "--ignore-not-found")
    made = await hub.api.call("POST", "/v1/clusters", {"name": name, "manifest": {}})
    text = str(made["manifest"]["shell"])
    token = next(line.split()[-1] for line in text.splitlines() if line.startswith("Authorization:"))
    curl = shutil.which("curl")
    assert curl, "curl is needed"
    path = looked_at(tmp_path, curl=curl, kubectl=str(tools.kube("kubectl")))
    (tmp_path / ".curlrc").write_text("insecure\nproxy = http://127.0.0.1:9\n")
    (tmp_path / "tmp").mkdir()
    environment = {
        "PATH": f"{path}:{os.environ['PATH']}", "HOME": str(tmp_path), "TMPDIR": str(tmp_path / "tmp"),
        "KUBECONFIG": str(cluster.admin_kubeconfig),
    }  # fmt: skip
    try:
        for _ in range(2):  # pasted again it is the same
            done = (await execute([shell], stdin=text, env=environment, timeout=60)).check()
            assert "deployment.apps/riata-agent" in done.stdout
        assert list((tmp_path / "tmp").iterdir()) == []
        seen = (tmp_path / "seen").read_text()
        assert "--cacert" in seen
        assert "apply" in seen
        assert token.rpartition("_")[2] not in seen
        assert token.rpartition("_")[2] not in hub.log.read_text()
        async with harness.applied_agent(hub, cluster, name=name, apply=False) as agent:
            (listed,) = (await hub_line.api.must("GET", f"/v1/clusters/{name}/join-tokens"))["items"]
            assert listed["usedAt"] is not None
            assert token not in agent.log.read_text()
    finally:
        # The key stays otherwise, and the next agent here would be the same one.
        mine = (
            "deployment,secret,configmap,poddisruptionbudget,networkpolicy",
            "-l",
            "app.kubernetes.io/part-of=riata",
        )
        (await cluster.kubectl("delete", *mine, "--namespace=riata-system")).check()
        await hub.api.call("DELETE", f"/v1/clusters/{name}")


async def test_the_wrong_hub_gets_no_token(hub_line: Line, tmp_path: Path) -> None:
    """Another CA in the here-document: curl ends before anything is sent."""
    made = await hub_line.hub.api.call("POST", "/v1/clusters", {"name": "pasted-wrong", "manifest": {}})
    text = str(made["manifest"]["shell"])
    head, _, rest = text.partition("-----BEGIN")
    _, _, tail = rest.partition("CA_END\n")
    other = hub_line.light.ca_file.read_text().strip()
    fetches = len([line for line in hub_line.hub.log.read_text().splitlines() if "/v1/manifest" in line])
    done = await execute(["sh"], stdin=f"{head}{other}\nCA_END\n{tail}", env={"HOME": str(tmp_path)}, timeout=30)
    assert done.rc != 0
    assert "certificate" in done.stderr
    after = len([line for line in hub_line.hub.log.read_text().splitlines() if "/v1/manifest" in line])
    assert after == fetches
    await hub_line.hub.api.call("DELETE", "/v1/clusters/pasted-wrong")
