"""Which credential by which settings, and that the others' modules stay unread."""

import contextlib
import subprocess
import sys

import pytest

from agent import cli, proof
from agent.uplink.credentials import AgentTokenFile
from agent.uplink.enrolment import Enrolment
from agent.uplink.nodetoken import NodeTokenFile

PIN = "sha256:" + "a" * 64
COMMON = ["--hub-url", "https://hub.test", "--hub-ca-pin", PIN, "--kube-url", "https://kube.test"]
FILES = ["--kube-ca-file", "/c", "--kube-token-file", "/d"]


@pytest.mark.parametrize(
    ("mode", "more", "kind", "duties"),
    [
        ("cluster", [], AgentTokenFile, 0),
        ("cluster", ["--key-file", "/k", "--join-token-file", "/j"], Enrolment, 0),
        ("cluster", ["--key-secret", "a/b"], Enrolment, 2),
        ("cluster", ["--key-secret", "a/b", "--fallback-lease", "a/c"], Enrolment, 3),
        ("node", [], NodeTokenFile, 0),
    ],
)
async def test_each_way_has_its_credential(mode, more, kind, duties):
    settings = cli.settings([mode, *COMMON, *FILES, *more], {})
    async with contextlib.AsyncExitStack() as stack:
        credential, found = proof.choose(settings, None, stack)
        assert (type(credential), len(found)) == (kind, duties)
    assert settings.mode == mode


def test_a_node_agent_loads_neither_signatures_nor_a_kubernetes_client():
    code = (
        "import sys, contextlib; from agent import app, cli, proof;"
        f" proof.choose(cli.settings({['node', *COMMON, *FILES]!r}, {{}}), None, contextlib.AsyncExitStack());"
        " print({'kubernetes_asyncio', 'aiohttp', 'agent.kube', 'agent.keys', 'cryptography'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "set()"
