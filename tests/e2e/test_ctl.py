"""The command `riata` against a real hub, as a process of its own: what the fake hub of tests/ctl cannot prove."""

import json
import pathlib
from collections.abc import Awaitable, Callable

import pytest
import yaml

from tests import harness
from tests.harness import Hub, Result, tools

Riata = Callable[..., Awaitable[Result]]


def _riata(home: pathlib.Path) -> Riata:
    environment = {"HOME": str(home), "KUBECONFIG": "", "XDG_CONFIG_HOME": ""}

    async def run(*arguments: str, rc: int = 0) -> Result:
        done = await harness.execute([*tools.console_script("riata", "ctl"), *arguments], env=environment, timeout=60)
        assert done.rc == rc, done.stderr
        return done

    return run


async def _login(riata: Riata, hub: Hub, token_file: pathlib.Path, rc: int = 0) -> Result:
    options = ("--hub", hub.url, "--ca-file", str(hub.ca_file), "--ca-pin", hub.ca_pin, "--token-file", str(token_file))
    return await riata("login", *options, rc=rc)


@pytest.mark.timeout(180)
async def test_an_operators_day(tmp_path: pathlib.Path) -> None:
    riata = _riata(tmp_path)
    async with harness.hub() as hub:
        await _login(riata, hub, hub.admin_token_file)
        assert json.loads((await riata("version", "-o", "json")).stdout).keys() == {"riata", "hub"}
        await _clusters(riata)
        await _agent_tokens(riata)
        await _kubeconfigs(riata, tmp_path)
        await _somebody_else(riata, hub, tmp_path)
        deleted = await riata("clusters", "delete", "a", "--yes")
        assert "no agent of the cluster was connected" in deleted.stderr
        assert "riata.io/cluster-uid=" in (await riata("clusters", "show", "a")).stderr
        assert "pending" in (await riata("clusters", "list", "--all")).stdout
        await riata("clusters", "forget", "a")
        await riata("clusters", "show", "a", rc=4)
    unreachable = await riata("clusters", "list", rc=5)
    assert "refused the connection" in unreachable.stderr


async def _clusters(riata: Riata) -> None:
    await riata("clusters", "create", "a", "--label", "tier=prod")
    again = await riata("clusters", "create", "a", "--label", "tier=prod")
    assert "sh <<'RIATA_END'\n" in again.stdout
    await riata("clusters", "create", "a", "--label", "tier=test", rc=7)
    await riata("clusters", "create", "b")
    await riata("clusters", "create", "Not-A-Name", rc=1)
    assert (await riata("clusters", "list", "-o", "name")).stdout == "a\nb\n"
    shown = json.loads((await riata("clusters", "show", "a", "-o", "json")).stdout)
    assert (shown["labels"], shown["connected"]) == ({"tier": "prod"}, False)
    await riata("clusters", "wait", "a", "--timeout", "1s", rc=1)


async def _agent_tokens(riata: Riata) -> None:
    made = json.loads((await riata("agent-tokens", "create", "a", "-o", "json")).stdout)
    assert made["token"].startswith(f"riataagent_{made['id']}_")
    assert (await riata("agent-tokens", "list", "a", "-o", "name")).stdout == made["id"] + "\n"
    await riata("agent-tokens", "revoke", "a", made["id"])
    await riata("agent-tokens", "revoke", "a", made["id"], rc=4)


async def _kubeconfigs(riata: Riata, home: pathlib.Path) -> None:
    """Merging again leaves one token at the hub: the one in the file."""
    for _ in range(2):
        await riata("kubeconfig", "--all", "--merge", "--token-name", "laptop")
    loaded = yaml.safe_load((home / ".kube" / "config").read_text())
    assert [c["name"] for c in loaded["contexts"]] == ["riata-a", "riata-b"]
    tokens = json.loads((await riata("tokens", "list", "-o", "json")).stdout)["items"]
    (laptop,) = [t for t in tokens if t["name"] == "laptop"]
    assert laptop["clusters"] == ["a", "b"]
    assert loaded["users"][0]["user"]["token"].startswith(f"riata_{laptop['id']}_")


async def _somebody_else(riata: Riata, hub: Hub, home: pathlib.Path) -> None:
    """A user with one grant sees one cluster, and makes kubeconfigs for nothing else."""
    await riata("grants", "create", "ann-a", "--user", "ann", "--cluster", "a")
    await riata("tokens", "create", "ann", "--user", "ann", "--write-token", str(home / "ann.token"))
    ann_home = home / "ann"
    ann_home.mkdir()
    ann = _riata(ann_home)
    await _login(ann, hub, home / "ann.token")
    assert (await ann("clusters", "list", "-o", "name")).stdout == "a\n"
    assert "riata-a" in (await ann("kubeconfig", "a")).stdout
    await ann("kubeconfig", "b", rc=6)
    await ann("clusters", "create", "c", rc=6)
    assert (await ann("grants", "list", "-o", "name")).stdout == "ann-a\n"
    token_id = (home / "ann.token").read_text().split("_")[1]
    await riata("tokens", "revoke", token_id)
    await ann("whoami", rc=3)
    await _login(ann, hub, home / "ann.token", rc=3)
    await riata("grants", "delete", "ann-a", "--yes")
