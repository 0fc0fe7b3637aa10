"""What an agent of the harness has is what its pod would have: nothing of an administrator, in no place it can name."""

import base64
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests import harness
from tests.e2e.line import Line

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

POD_FILES = ["ca.crt", "namespace", "token"]
OWN_FILES = {"agent.log", "agent.token", "pod", "ready.json"}
FILE_OPTIONS = {"--hub-ca-file", "--token-file", "--kube-ca-file", "--kube-token-file", "--ready-file"}
VARIABLES = {"PATH", "LANG", "RIATA_HARNESS_RUN", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"}
ACCOUNT = "system:serviceaccount:riata-system:riata-agent"


def private_keys(directory: Path) -> list[bytes]:
    """Every private key below a cluster's directory: as PEM, in base64, and as the kubeconfigs carry it."""
    found: list[bytes] = []
    for path in directory.rglob("*.key"):
        found += [path.read_bytes().strip(), base64.b64encode(path.read_bytes())]
    for path in directory.glob("*.kubeconfig"):
        found += re.findall(rb'client-key-data"?: *"?([A-Za-z0-9+/=]+)', path.read_bytes())
    return found


def process_texts(pid: int) -> dict[str, bytes]:
    """What `/proc` shows of a process: its command line and its environment."""
    return {name: Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")}


def claims(token: str) -> dict[str, Any]:
    """The claims of a JWT, unverified."""
    body = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return found


@pytest.mark.parametrize(
    "size", [pytest.param("light", marks=pytest.mark.light), pytest.param("full", marks=pytest.mark.full)]
)
async def test_an_agent_has_no_credential_of_an_administrator(hub_line: Line, size: str) -> None:
    cluster = hub_line.light if size == "light" else hub_line.full
    assert cluster is not None
    agent = hub_line.agents[cluster.name]
    keys = private_keys(cluster.directory)
    assert len(keys) > 5, "the search would find nothing for want of something to look for"
    texts = process_texts(agent.pid)
    assert set(_environment(texts["environ"])) == VARIABLES
    assert _option_files(texts["cmdline"]) == FILE_OPTIONS
    for name, text in (*texts.items(), *_files(agent.directory)):
        assert str(cluster.directory).encode() not in text.replace(str(agent.directory).encode(), b""), name
        assert b"PRIVATE KEY" not in text, name
        assert not [number for number, key in enumerate(keys) if key in text], f"a key of the cluster is in {name}"
    assert {path.name for path in agent.directory.iterdir()} == OWN_FILES
    assert sorted(path.name for path in agent.pod.directory.iterdir()) == POD_FILES
    assert claims(agent.pod.token_file.read_text())["sub"] == ACCOUNT
    assert b"PRIVATE" not in agent.pod.ca_file.read_bytes()
    assert _opened_below(agent, cluster.directory) == []


def _environment(text: bytes) -> dict[str, str]:
    return dict(part.decode().split("=", 1) for part in text.split(b"\0") if part)


def _option_files(text: bytes) -> set[str]:
    return {part for part in text.decode().split("\0") if part.startswith("--") and part.endswith("-file")}


def _files(directory: Path) -> list[tuple[str, bytes]]:
    return [(str(path), path.read_bytes()) for path in sorted(directory.rglob("*")) if path.is_file()]


def _opened_below(agent: harness.Agent, directory: Path) -> list[str]:
    """Files of `directory` that the agent has open, or for its working directory."""
    links = [
        f"/proc/{agent.pid}/cwd",
        *(f"/proc/{agent.pid}/fd/{name}" for name in os.listdir(f"/proc/{agent.pid}/fd")),
    ]
    return [target for target in map(os.readlink, links) if target.startswith(f"{directory}/")]
