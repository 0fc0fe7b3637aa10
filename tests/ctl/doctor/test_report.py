"""The whole examination: what is there without a login, and what is left out when the hub is not reached."""

import pathlib

import pytest
import yaml

from ctl import logins
from ctl.doctor import report, way
from ctl.kubeconfig import entries
from proto.causes import Level
from tests.ctl.fakehub import ADMIN, FakeHub

CHECKS = ["login", *way.CHECKS, "clusters", "kubeconfig"]


async def _examine(**env: str) -> list[tuple[str, str, str]]:
    found = await report.examine("", (), 0.0, env)
    assert [finding.check for finding in found] == CHECKS
    return [(finding.check, finding.level.value, finding.cause) for finding in found]


async def test_without_a_login_nothing_else_is_run(home: pathlib.Path) -> None:
    first, *others = await _examine(HOME=str(home))
    assert first == ("login", "fail", "login-none")
    assert {level for _, level, _ in others} == {Level.NOT_RUN.value}


@pytest.mark.parametrize("text", ["{", "hubs: 3\n"])
async def test_a_configuration_file_that_is_broken(home: pathlib.Path, text: str) -> None:
    (home / "config").write_text(text)
    assert (await _examine(RIATA_CONFIG=str(home / "config")))[0] == ("login", "fail", "login-unusable")


async def test_a_ca_file_that_is_none(home: pathlib.Path) -> None:
    (home / "ca").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (home / "token").write_text("riata_x")
    found = await _examine(
        RIATA_HUB="https://h.test", RIATA_CA_FILE=str(home / "ca"), RIATA_TOKEN_FILE=str(home / "token")
    )
    assert found[0] == ("login", "fail", "login-unusable")


async def test_a_login_without_a_token(home: pathlib.Path) -> None:
    assert (await _examine(RIATA_HUB="https://h.test"))[0] == ("login", "fail", "login-none")


async def test_behind_a_hub_that_refuses_nothing_is_run(hub: str, fake: FakeHub, home: pathlib.Path) -> None:
    (home / "other").write_text("riata_other")
    found = await _examine(RIATA_HUB=hub, RIATA_TOKEN_FILE=str(home / "other"), HOME=str(home))
    assert found[-2:] == [("clusters", "not-run", ""), ("kubeconfig", "not-run", "")]


async def test_a_list_that_fails_is_a_finding_beside_the_others(hub: str, fake: FakeHub, home: pathlib.Path) -> None:
    """Whoever asked had nothing of what was found, but a sentence about one answer."""
    fake.busy = ["/v1/clusters"]
    found = await _examine(RIATA_HUB=hub, RIATA_TOKEN_FILE=str(home / "token"), HOME=str(home))
    assert found[0] == ("login", "ok", "")
    assert found[-2:] == [("clusters", "fail", "clusters-unknown"), ("kubeconfig", "not-run", "")]


async def test_to_the_end(hub: str, fake: FakeHub, home: pathlib.Path) -> None:
    found = await _examine(RIATA_HUB=hub, RIATA_TOKEN_FILE=str(home / "token"), HOME=str(home))
    assert found[-2:] == [("clusters", "ok", ""), ("kubeconfig", "warn", "kubeconfig-none")]
    assert [path for _, path, _ in fake.calls].count("/v1/clusters") == 1


async def test_cures_are_for_the_profile_that_was_typed(hub: str, fake: FakeHub, home: pathlib.Path) -> None:
    """`riata login` without it would put this hub in the place of another one's login."""
    file = home / "config.yaml"
    logins.save(file, logins.LoginFile(hubs={"staging": logins.Login(hub=hub, token=ADMIN)}))
    fake.clusters["new"] = {"name": "new", "connected": False, "tunnels": []}
    env = {"RIATA_CONFIG": str(file), "HOME": str(home)}
    cures = {each.cause: each.cure for each in await report.examine("staging", (), 0.0, env)}
    assert cures["kubeconfig-none"] == "riata kubeconfig --profile staging --all --merge"
    assert cures["cluster-new"].startswith("riata clusters manifest --profile staging new | kubectl apply -f -")
    fake.busy = ["/v1/clusters"]
    (cure,) = [each.cure for each in await report.examine("staging", (), 0.0, env) if each.cause == "clusters-unknown"]
    assert "riata doctor --profile staging CLUSTER…; riata clusters list --profile staging asks" in cure
    unprofiled = {
        each.cause: each.cure for each in await report.examine("", (), 0.0, env | {"RIATA_PROFILE": "staging"})
    }
    assert unprofiled["kubeconfig-none"] == "riata kubeconfig --all --merge"


async def test_what_an_administrator_is_to_type_has_no_profile_of_this_user(
    hub: str, fake: FakeHub, home: pathlib.Path
) -> None:
    file = home / "config.yaml"
    logins.save(file, logins.LoginFile(hubs={"staging": logins.Login(hub=hub, token=ADMIN)}))
    fake.ends, fake.is_admins = "1970-01-01T00:10:00Z", False
    found = await report.examine("staging", (), 0.0, {"RIATA_CONFIG": str(file), "HOME": str(home)})
    (cure,) = [each.cure for each in found if each.cause == "token-ends-user"]
    assert "administrator: riata tokens create NAME --user" in cure
    assert cure.endswith("riata login --profile staging with it")


async def test_what_is_for_another_login_has_that_ones_profile(hub: str, fake: FakeHub, home: pathlib.Path) -> None:
    file = home / "config.yaml"
    logins.save(file, logins.LoginFile(hubs={"staging": logins.Login(hub=hub, token=ADMIN)}))
    ended = entries.build(hub, "", "riata_other00000_" + "b" * 64, ["a"], "riata")
    (home / "kubeconfig").write_text(yaml.safe_dump(entries.document(ended, "")))
    env = {"RIATA_CONFIG": str(file), "KUBECONFIG": str(home / "kubeconfig")}
    (cure,) = [each.cure for each in await report.examine("staging", (), 0.0, env) if each.check == "kubeconfig"]
    assert "another login's: riata kubeconfig a --merge, with that one's --profile; else" in cure


async def test_who_named_clusters_is_not_told_to_name_some(hub: str, fake: FakeHub, home: pathlib.Path) -> None:
    fake.clusters["a"] = {"name": "a", "connected": True}
    fake.busy = ["/v1/clusters"]
    env = {"RIATA_HUB": hub, "RIATA_TOKEN_FILE": str(home / "token"), "HOME": str(home)}
    (cure,) = [each.cure for each in await report.examine("", ("a",), 0.0, env) if each.cause.startswith("clusters-")]
    assert "riata clusters list asks the hub the same" in cure
    assert "riata doctor" not in cure
