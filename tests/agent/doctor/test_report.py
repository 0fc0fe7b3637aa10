"""`riata-agent doctor` as a whole: settings, both sides, output and exit code."""

import json

import pytest

from agent import cli
from agent.config import KubeSettings, ServeSettings, Settings
from agent.doctor import report
from proto.causes import Level
from tests.agent.apiserver import Pki, api_server
from tests.agent.doctor import test_cluster
from tests.agent.doctor.hub import Hub
from tests.agent.doctor.test_way import free_port
from tests.agent.uplink.hub import settings as hub_settings

CHECKS = [
    "settings", "agent", "proxy", "dns", "tcp", "tls", "pin", "http", "websocket", "session", "clock", "credential",
    "kube", "kube-token", "rbac",
]  # fmt: skip
PIN = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("flags", "cause", "words"),
    [
        (["--hub-url", "https://hub.test", "--hub-ca-pin", "sha256:ab"], "settings-pin", "64 hex digits"),
        (["--hub-url", "https://hub.test"], "settings-pin", "riata-hub init"),
        (["--hub-url", "http://hub.test", "--hub-ca-pin", PIN], "settings-wrong", "https"),
    ],
)
def test_wrong_settings_are_a_finding_and_nothing_else_is_run(capsys, flags, cause, words):
    code = cli.main(["doctor", *flags, "--kube-url", "https://k.test", "-o", "json"], {})
    found = json.loads(capsys.readouterr().out)
    assert (code, found["ok"]) == (1, False)
    assert [finding["check"] for finding in found["findings"]] == CHECKS
    first, *others = found["findings"]
    assert (first["level"], first["cause"], words in first["what"] + first["cure"]) == ("fail", cause, True)
    assert {(finding["level"], finding["what"]) for finding in others} == {("not-run", "not run: settings failed")}


def test_a_wrong_flag_of_the_doctor_itself_is_a_usage_error(capsys):
    assert cli.main(["doctor", "--mode", "hub"], {}) == 2
    assert "--mode" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["cluster", "node"])
def test_it_reads_the_agents_own_variables(mode):
    environ = {
        "RIATA_AGENT_HUB_URL": "https://env.test",
        "RIATA_AGENT_HUB_CA_PIN": PIN,
        "KUBERNETES_SERVICE_HOST": "::1",
    }
    values = vars(cli.parser().parse_args(["doctor", "--mode", mode]))
    settings = cli._settings(values, environ)
    assert (settings.mode, settings.hub.url) == (mode, "https://env.test")


async def test_the_api_servers_endpoints_are_known_here_too(tmp_path):
    pki, file = Pki(tmp_path), tmp_path / "endpoints"
    (tmp_path / "kube-token").write_text(test_cluster.token("system:serviceaccount:ns:agent"))
    async with api_server(pki, test_cluster.Api()) as (_, port):
        file.write_text(f"127.0.0.1:{port}\n")
        kube = KubeSettings(
            url=f"https://localhost:{free_port()}",
            ca_file=pki.ca_file,
            token_file=tmp_path / "kube-token",
            endpoints_file=file,
        )
        hub = hub_settings(pki, free_port(), tmp_path)
        settings = Settings(hub=hub, kube=kube, serve=ServeSettings(health_listen=""))
        found = {finding.check: finding for finding in await report.examine(lambda: settings)}
    assert (found["kube"].cause, found["kube-token"].level) == ("kube-around", Level.OK)


async def test_a_cluster_that_is_well(tmp_path):
    pki = Pki(tmp_path)
    async with Hub().listening(pki) as hub_port, api_server(pki, test_cluster.Api()) as (_, port):
        (tmp_path / "kube-token").write_text(test_cluster.token("system:serviceaccount:ns:agent"))
        kube = KubeSettings(url=f"https://localhost:{port}", ca_file=pki.ca_file, token_file=tmp_path / "kube-token")
        serve = ServeSettings(health_listen="")
        settings = Settings(hub=hub_settings(pki, hub_port, tmp_path), kube=kube, serve=serve)
        found = await report.examine(lambda: settings)
    assert [finding.check for finding in found] == CHECKS
    bad = {finding.check for finding in found if finding.level is Level.FAIL}
    assert bad == {"clock", "rbac"}, "the script's hub has a clock of its own, its API server grants nothing"
