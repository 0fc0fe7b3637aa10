"""`riata doctor`: forms of output and exit codes."""

import json

from tests.ctl.conftest import Riata
from tests.ctl.fakehub import FakeHub


async def test_all_is_well(riata: Riata, hub: str, fake: FakeHub) -> None:
    result = await riata("doctor")
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0].split() == ["ok", "login", hub]
    assert lines[-1].startswith("warn     kubeconfig  kubeconfig-none: ")
    assert lines[-1].endswith("riata kubeconfig --all --merge")


async def test_a_failure_is_exit_code_1(riata: Riata, hub: str, fake: FakeHub) -> None:
    fake.clusters["a"] = {"name": "a", "connected": False, "lastLostAt": "2026-11-26T01:02:03Z"}
    result = await riata("doctor", "-o", "json")
    assert result.code == 1
    found = json.loads(result.out)
    assert found["ok"] is False
    (bad,) = [finding for finding in found["findings"] if finding["level"] == "fail"]
    assert (bad["check"], bad["cause"]) == ("clusters", "cluster-away")
    assert "1 of 13 checks failed" in result.err
    assert "fail cluster-away" in (await riata("doctor", "-o", "name")).out.splitlines()


async def test_a_cluster_that_is_not_there(riata: Riata, hub: str, fake: FakeHub) -> None:
    assert (await riata("doctor", "none")).code == 4


async def test_without_a_login(riata: Riata) -> None:
    result = await riata("doctor")
    assert result.code == 1
    assert "login-none: you are not logged in to a hub. riata login" in result.out
