"""Flags and environment."""

import pytest

from agent import cli
from agent.doctor import report
from agent.errors import ConfigError

PIN = "sha256:" + "a" * 64
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "6443"}
HUB = ("--hub-url", "https://hub.test", "--hub-ca-pin", PIN)


def settings(*flags, **environ):
    return cli.settings(["cluster", *flags], environ)


def test_a_pod_needs_only_url_and_pin():
    result = settings(*HUB, **POD)
    assert result.hub.tunnel_url == "wss://hub.test/v1/tunnel"
    assert str(result.hub.token_file) == "/var/run/secrets/riata/token"
    assert result.hub.ca_file is None
    assert result.kube.url == "https://10.0.0.1:6443"
    assert str(result.kube.ca_file) == "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
    assert str(result.kube.token_file) == "/var/run/secrets/kubernetes.io/serviceaccount/token"
    assert (result.serve.health_listen, result.serve.metrics_listen) == ("127.0.0.1:8081", "127.0.0.1:9081")
    assert not result.hub.allow_legacy_ca
    assert not result.kube.allow_legacy_ca


def test_an_empty_variable_is_none():
    assert settings(*HUB, **POD, RIATA_AGENT_KUBECONFIG="").kube.url == "https://10.0.0.1:6443"


def test_a_doctor_that_is_not_waited_for_ends_without_a_traceback(monkeypatch, capsys):
    def interrupted(read, output):
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "run", interrupted)
    assert cli.main(["doctor", *HUB], POD) == cli.EXIT_INTERRUPTED == 130
    assert capsys.readouterr().err == ""


def test_ipv6_pods():
    assert settings(*HUB, KUBERNETES_SERVICE_HOST="fd00::1").kube.url == "https://[fd00::1]:443"


def test_every_flag_is_an_environment_variable_and_flags_win():
    environ = {
        **POD,
        "RIATA_AGENT_HUB_URL": "https://env.test",
        "RIATA_AGENT_HUB_CA_PIN": PIN,
        "RIATA_AGENT_HUB_CA_FILE": "/a",
        "RIATA_AGENT_TOKEN_FILE": "/b",
        "RIATA_AGENT_KUBE_URL": "https://kube.test",
        "RIATA_AGENT_KUBE_CA_FILE": "/c",
        "RIATA_AGENT_KUBE_TOKEN_FILE": "/d",
        "RIATA_AGENT_POLICY_FILE": "/e",
        "RIATA_AGENT_COMPRESSION_BYTES": "0",
        "RIATA_AGENT_BUSY_POLL_SHARE": "0.5",
        "RIATA_AGENT_HEALTH_LISTEN": "",
        "RIATA_AGENT_METRICS_LISTEN": "[::]:0",
        "RIATA_AGENT_READY_FILE": "/f",
        "RIATA_AGENT_LOG_FORMAT": "console",
        "RIATA_AGENT_LOG_LEVEL": "debug",
        "RIATA_AGENT_KUBE_LEGACY_CA": "true",
    }
    result = settings("--hub-url", "https://flag.test", **environ)
    assert result.hub.url == "https://flag.test"
    assert (str(result.hub.ca_file), str(result.hub.token_file)) == ("/a", "/b")
    assert (result.kube.url, str(result.kube.ca_file), str(result.kube.token_file)) == ("https://kube.test", "/c", "/d")
    assert result.compression_bytes == 0
    assert result.busy_poll_share == 0.5
    assert (str(result.policy_file), str(result.serve.ready_file)) == ("/e", "/f")
    assert (result.serve.health_listen, result.serve.metrics_listen) == ("", "[::]:0")
    assert (result.log.format, result.log.level) == ("console", "debug")
    assert (result.hub.allow_legacy_ca, result.kube.allow_legacy_ca) == (False, True)


def test_a_kubeconfig_instead_of_the_pod():
    result = settings(*HUB, "--kubeconfig", "/k", "--context", "kind", **POD)
    assert (str(result.kube.kubeconfig), result.kube.context, result.kube.url) == ("/k", "kind", "")


def test_two_pins():
    other = "SHA256:" + "B" * 64
    assert settings(*HUB[:2], "--hub-ca-pin", f"{PIN}, {other}", **POD).hub.ca_pins == (PIN, other.lower())


def test_proxy_variables_are_taken_in_either_spelling():
    result = settings(*HUB, HTTPS_PROXY="http://a", https_proxy="http://b", NO_PROXY="x", HTTP_PROXY="http://c", **POD)
    assert result.proxy_environment == {"https_proxy": "http://b", "no_proxy": "x"}
    assert "http://b" not in repr(result)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "--hub-url is missing"),
        (("--hub-url", "https://h"), "--hub-ca-pin is missing"),
        (("--hub-url", "https://h", "--hub-ca-pin", ""), "--hub-ca-pin is missing"),
        (("--hub-url", "https://h", "--hub-ca-pin", ","), "--hub-ca-pin is missing"),
        (("--hub-url", "https://h", "--hub-ca-pin", "sha256:abcd"), "--hub-ca-pin"),
        (("--hub-url", "https://h", "--hub-ca-pin", ",".join([PIN] * 3)), "--hub-ca-pin"),
        (("--hub-url", "http://h", "--hub-ca-pin", PIN), "https"),
        (("--hub-url", "hub.test", "--hub-ca-pin", PIN), "https"),
        (("--hub-url", "https://u:p@h", "--hub-ca-pin", PIN), "--hub-url"),
        (("--hub-url", "https://h?x", "--hub-ca-pin", PIN), "--hub-url"),
        (("--hub-url", "https://h:x", "--hub-ca-pin", PIN), "--hub-url"),
        (("--hub-url", "https://h/a b", "--hub-ca-pin", PIN), "--hub-url"),
        ((*HUB, "--kubeconfig", "/k", "--kube-url", "https://x"), "--kubeconfig"),
        ((*HUB, "--context", "c"), "--kubeconfig"),
        ((*HUB, "--health-listen", "8081"), "--health-listen"),
        ((*HUB, "--metrics-listen", "h:99999"), "--metrics-listen"),
        ((*HUB, "--log-level", "loud"), "--log-level"),
        ((*HUB, "--fallback-lease", "riata-agent"), "--fallback-lease"),
        ((*HUB, "--log-format", "xml"), "--log-format"),
        ((*HUB, "--insecure"), "--insecure"),
        ((*HUB, "--hub-ca", "x"), "--hub-ca"),
    ],
)
def test_what_is_wrong_is_named_with_its_cure(flags, words):
    with pytest.raises(ConfigError, match=words):
        settings(*flags, **POD)


def test_outside_a_pod_the_api_server_must_be_named():
    with pytest.raises(ConfigError, match="--kube-url"):
        settings(*HUB)
    with pytest.raises(ConfigError, match="--kube-url"):
        settings(*HUB, "--kube-url", "https://x", "--kube-ca-file", "/c")


def test_switches_take_words_in_the_environment():
    assert settings(*HUB, "--hub-legacy-ca", **POD).hub.allow_legacy_ca
    with pytest.raises(ConfigError, match="RIATA_AGENT_HUB_LEGACY_CA"):
        settings(*HUB, RIATA_AGENT_HUB_LEGACY_CA="perhaps", **POD)


@pytest.mark.parametrize(
    ("mode", "flags", "environ", "serves"),
    [
        ("cluster", (), {}, True),
        ("node", (), {}, False),
        ("node", ("--fallback",), {}, True),
        ("node", (), {"RIATA_AGENT_FALLBACK": "true"}, True),
        ("node", (), {"RIATA_AGENT_FALLBACK": ""}, False),
    ],
)
def test_a_node_agent_serves_only_if_it_is_told_to(mode, flags, environ, serves):
    assert cli.settings([mode, *HUB, *flags], {**POD, **environ}).serves is serves


def test_the_address_of_the_node():
    assert cli.settings(["node", *HUB, "--host-ip", "FD00:0::1"], POD).host_ip == "fd00::1"
    assert cli.settings(["node", *HUB], {**POD, "RIATA_AGENT_HOST_IP": "10.0.0.7"}).host_ip == "10.0.0.7"
    assert settings(*HUB, **POD, RIATA_AGENT_HOST_IP="10.0.0.7").host_ip == ""
    with pytest.raises(ConfigError, match="--host-ip 'localhost'"):
        cli.settings(["node", *HUB, "--host-ip", "localhost"], POD)


def test_a_cluster_agent_is_no_fallback():
    assert not settings(*HUB, **POD, RIATA_AGENT_FALLBACK="true").fallback
    with pytest.raises(ConfigError, match="--fallback"):
        settings(*HUB, "--fallback", **POD)


@pytest.mark.parametrize("argv", [[], ["node"], ["authn"], ["cluster", "extra"]])
def test_other_modes_are_not_offered(argv):
    with pytest.raises(ConfigError):
        cli.settings(argv, {})


def test_exit_codes(capsys):
    assert cli.main(["cluster"], {}) == cli.EXIT_USAGE
    assert capsys.readouterr().err.startswith("riata-agent: --hub-url is missing")
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"], {})
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("riata-agent 0.")


def test_no_flag_takes_a_secret():
    words = " ".join(flag for flag, _, _ in cli.FLAGS)
    assert "password" not in words
    for flag, _, _ in cli.FLAGS:
        assert "token" not in flag or flag.endswith("-file")


def test_a_share_of_a_core_is_between_none_and_all_of_it():
    assert settings(*HUB, **POD).busy_poll_share == 0.25
    assert settings(*HUB, "--busy-poll-share", "0", **POD).busy_poll_share == 0.0
    assert settings(*HUB, "--busy-poll-share", "1", **POD).busy_poll_share == 1.0
    for wrong in ("-0.1", "1.1", "25%", "", "nan", "1e-3"):
        with pytest.raises(ConfigError, match="--busy-poll-share"):
            settings(*HUB, "--busy-poll-share", wrong, **POD)


def test_compression_is_on_unless_told_otherwise_and_bounded():
    assert settings(*HUB, **POD).compression_bytes == 16 * 1024 * 1024
    for wrong in ("-1", "16Mi", "", "1e6"):
        with pytest.raises(ConfigError, match="--compression-bytes"):
            settings(*HUB, "--compression-bytes", wrong, **POD)
