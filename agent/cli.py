"""Flags and environment of `riata-agent`. The only place of the agent that reads the environment."""

import argparse
import ipaddress
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NoReturn

from agent.config import (
    AGENT_TOKEN_FILE,
    COMPRESSION_BYTES,
    DRAIN_GRACE,
    DRAIN_GRACE_MAX,
    HEALTH_LISTEN,
    METRICS_LISTEN,
    SERVICE_ACCOUNT,
    HubSettings,
    KubeSettings,
    LogSettings,
    ServeSettings,
    Settings,
)
from agent.errors import ConfigError
from proto.aio import busypoll
from proto.pins import PinError, parse_pin
from proto.versions import PRODUCT_VERSION

EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130
PREFIX: Final = "RIATA_AGENT_"

FLAGS: Final[tuple[tuple[str, str, str], ...]] = (
    ("--hub-url", "URL", "address of the hub, https://HOST[:PORT][/prefix]"),
    ("--hub-ca-file", "FILE", "the hub's CA (PEM); fetched from the hub and checked against the pin when not given"),
    (
        "--hub-ca-pin",
        "PIN",
        "sha256:<64 hex digits> of the hub CA's public key; two, separated by a comma, in rotation",
    ),
    (
        "--token-file",
        "FILE",
        f"file with the agent token, or with the node's projected token (default {AGENT_TOKEN_FILE})",
    ),
    (
        "--key-file",
        "FILE",
        "file (0600) for this agent's own key, made when missing: it enrols with a join token",
    ),
    ("--key-secret", "NAMESPACE/NAME", "the Secret for the key instead of a file; the agent may get and update it"),
    ("--join-token-file", "FILE", "file with the join token, needed until the hub knows the key"),
    ("--kube-url", "URL", "address of the kube-apiserver (default: the pod's KUBERNETES_SERVICE_HOST and _PORT)"),
    ("--kube-ca-file", "FILE", f"the API server's CA (default {SERVICE_ACCOUNT / 'ca.crt'})"),
    (
        "--kube-token-file",
        "FILE",
        f"the ServiceAccount token, re-read when it changes (default {SERVICE_ACCOUNT / 'token'})",
    ),
    (
        "--kube-endpoints-file",
        "FILE",
        "the API servers' own addresses, one ADDRESS:PORT a line, for when --kube-url does not answer",
    ),
    (
        "--host-ip",
        "ADDRESS",
        "mode node: the node's address; one that is in --kube-endpoints-file is of the control plane, tried first",
    ),
    ("--kubeconfig", "FILE", "use this kubeconfig's cluster and credentials instead of the three --kube flags"),
    ("--context", "NAME", "context of the kubeconfig (default: its current one)"),
    (
        "--fallback-lease",
        "NAMESPACE/NAME",
        "choose the fallback nodes while this Lease is held; NAME-endpoints is the ConfigMap for the endpoints",
    ),
    ("--policy-file", "FILE", "TOML with users and groups that need not begin with riata:"),
    (
        "--compression-bytes",
        "BYTES",
        f"memory for compressing answers on the tunnel, 16 KiB each (default {COMPRESSION_BYTES}, 0: off)",
    ),
    (
        "--busy-poll-share",
        "SHARE",
        f"share of a core, 0 to 1, for staying awake for answers about to come (default {busypoll.SHARE:g}, 0: never)",
    ),
    (
        "--drain-grace",
        "SECONDS",
        f"what requests under way get after SIGTERM (default {DRAIN_GRACE:g}); keep it below the pod's grace period",
    ),
    (
        "--health-listen",
        "HOST:PORT",
        "/livez and /readyz (default 127.0.0.1:8081, empty: off; *:PORT: on every address)",
    ),
    ("--metrics-listen", "HOST:PORT", "/metrics (default 127.0.0.1:9081, empty: off)"),
    ("--ready-file", "FILE", "gets one JSON object once the agent listens"),
    ("--log-format", "FORMAT", "json or console (default json)"),
    ("--log-level", "LEVEL", "debug, info, warning or error (default info)"),
)
MODES: Final = {
    "cluster": "serve the hub's requests on this cluster's kube-apiserver",
    "node": "keep this node's own tunnel to the hub, proven by its pod's ServiceAccount token",
}
DOCTOR: Final = "doctor"
_DOCTOR_HELP: Final = "check the way to the hub, the credential, the API server and the agent's rights there"
CLUSTER_ONLY: Final = frozenset({"--key-file", "--key-secret", "--join-token-file", "--fallback-lease"})
SWITCHES: Final[tuple[tuple[str, str], ...]] = (
    (
        "--hub-legacy-ca",
        "accept a hub CA that Python 3.13's strict X.509 form rules refuse; chain and name stay verified",
    ),
    ("--kube-legacy-ca", "the same for the API server's CA"),
    ("--fallback", "mode node: serve requests while no cluster agent answers; its ServiceAccount may impersonate then"),
)
NODE_ONLY: Final = frozenset({"--fallback", "--host-ip"})
PROXY_VARIABLES: Final = ("https_proxy", "socks_proxy", "all_proxy", "no_proxy")
_TRUE: Final = frozenset(("1", "true", "yes", "on"))
_FALSE: Final = frozenset(("", "0", "false", "no", "off"))


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are ours: one exit code, one form."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def variable(flag: str) -> str:
    """The environment variable of a flag."""
    return PREFIX + flag.removeprefix("--").replace("-", "_").upper()


def parser() -> argparse.ArgumentParser:
    """The command line, a mode each for the Deployment and the DaemonSet."""
    top = _Parser(prog="riata-agent", description="Connects a Kubernetes cluster to a riata hub.")
    top.add_argument("--version", action="version", version=f"riata-agent {PRODUCT_VERSION}")
    modes = top.add_subparsers(dest="command", metavar="MODE", required=True)
    for mode, what in MODES.items():
        one = modes.add_parser(
            mode,
            help=what,
            description="Each flag may be given as an environment variable: --hub-url is RIATA_AGENT_HUB_URL.",
            allow_abbrev=False,
        )
        _add_flags(one, mode)
    doctor = modes.add_parser(
        DOCTOR,
        help=_DOCTOR_HELP,
        description="Takes the flags and variables of the agent it is to examine, and changes nothing.",
        allow_abbrev=False,
    )
    doctor.add_argument("--mode", choices=tuple(MODES), default="cluster", help="which agent (default cluster)")
    doctor.add_argument("-o", "--output", choices=("table", "json"), default="table", help="a line a check, or JSON")
    _add_flags(doctor, DOCTOR)
    return top


def _add_flags(one: argparse.ArgumentParser, mode: str) -> None:
    """Those of a mode; the doctor takes all, because it examines either."""
    for flag, metavar, text in FLAGS:
        if flag not in {"node": CLUSTER_ONLY, "cluster": NODE_ONLY}.get(mode, ()):
            one.add_argument(flag, metavar=metavar, help=text)
    for flag, text in SWITCHES:
        if mode != "cluster" or flag not in NODE_ONLY:
            one.add_argument(flag, action="store_true", default=None, help=text)


def settings(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Flags over environment over defaults. Raises ConfigError; SystemExit for --help and --version."""
    return _settings(vars(parser().parse_args(argv)), environ)


def _settings(values: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    mode: Literal["cluster", "node"] = values.get("mode") or values["command"]
    given: dict[str, str] = {}
    for flag, _, _ in FLAGS:
        if flag in (CLUSTER_ONLY if mode != "cluster" else NODE_ONLY):
            continue
        value = values[flag.removeprefix("--").replace("-", "_")]
        if value is None:
            value = environ.get(variable(flag))
        if value is not None:
            given[flag] = value
    is_node = mode == "node"
    switches = {flag: _switch(flag, values, environ) for flag, _ in SWITCHES if is_node or flag not in NODE_ONLY}
    return Settings(
        mode=mode,
        hub=_hub(given, allow_legacy_ca=switches["--hub-legacy-ca"]),
        kube=_kube(given, environ, allow_legacy_ca=switches["--kube-legacy-ca"]),
        fallback=switches.get("--fallback", False),
        fallback_lease=given.get("--fallback-lease", ""),
        host_ip=_address(given, "--host-ip"),
        policy_file=_path(given, "--policy-file"),
        compression_bytes=_bytes(given, "--compression-bytes", COMPRESSION_BYTES),
        busy_poll_share=_share(given, "--busy-poll-share", busypoll.SHARE),
        drain_grace=_seconds(given, "--drain-grace", DRAIN_GRACE, DRAIN_GRACE_MAX),
        serve=ServeSettings(
            health_listen=given.get("--health-listen", HEALTH_LISTEN),
            metrics_listen=given.get("--metrics-listen", METRICS_LISTEN),
            ready_file=_path(given, "--ready-file"),
        ),
        log=_log(given),
        proxy_environment=_proxies(environ),
    )


def _switch(flag: str, values: Mapping[str, object], environ: Mapping[str, str]) -> bool:
    if values[flag.removeprefix("--").replace("-", "_")]:
        return True
    text = environ.get(variable(flag), "").lower()
    if text not in _TRUE | _FALSE:
        raise ConfigError(f"{variable(flag)}={text!r}: give true or false")
    return text in _TRUE


def _hub(given: Mapping[str, str], *, allow_legacy_ca: bool) -> HubSettings:
    if not given.get("--hub-url"):
        raise ConfigError(f"--hub-url is missing: give the hub's address (or set {variable('--hub-url')})")
    try:
        pins = tuple(parse_pin(pin) for pin in given.get("--hub-ca-pin", "").split(",") if pin.strip())
    except PinError as exc:
        raise ConfigError(f"--hub-ca-pin: {exc}") from exc
    return HubSettings(
        url=given["--hub-url"],
        ca_pins=pins,
        ca_file=_path(given, "--hub-ca-file"),
        token_file=_path(given, "--token-file") or AGENT_TOKEN_FILE,
        key_file=_path(given, "--key-file"),
        key_secret=given.get("--key-secret", ""),
        join_token_file=_path(given, "--join-token-file"),
        allow_legacy_ca=allow_legacy_ca,
    )


def _kube(given: Mapping[str, str], environ: Mapping[str, str], *, allow_legacy_ca: bool) -> KubeSettings:
    if given.get("--kubeconfig"):
        return KubeSettings(
            kubeconfig=_path(given, "--kubeconfig"),
            context=given.get("--context", ""),
            url=given.get("--kube-url", ""),
            ca_file=_path(given, "--kube-ca-file"),
            token_file=_path(given, "--kube-token-file"),
            endpoints_file=_path(given, "--kube-endpoints-file"),
            allow_legacy_ca=allow_legacy_ca,
        )
    host = environ.get("KUBERNETES_SERVICE_HOST", "")
    in_pod = SERVICE_ACCOUNT if host else None
    return KubeSettings(
        url=given.get("--kube-url") or _pod_url(host, environ.get("KUBERNETES_SERVICE_PORT", "443")),
        ca_file=_path(given, "--kube-ca-file") or (in_pod / "ca.crt" if in_pod else None),
        token_file=_path(given, "--kube-token-file") or (in_pod / "token" if in_pod else None),
        endpoints_file=_path(given, "--kube-endpoints-file"),
        context=given.get("--context", ""),
        allow_legacy_ca=allow_legacy_ca,
    )


def _pod_url(host: str, port: str) -> str:
    if not host:
        return ""
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _log(given: Mapping[str, str]) -> LogSettings:
    log_format = given.get("--log-format", "json")
    level = given.get("--log-level", "info")
    if level not in {"debug", "info", "warning", "error"}:
        raise ConfigError(f"--log-level {level!r}: give debug, info, warning or error")
    if log_format == "json":
        return LogSettings(format="json", level=level)
    if log_format == "console":
        return LogSettings(format="console", level=level)
    raise ConfigError(f"--log-format {log_format!r}: give json or console")


def _bytes(given: Mapping[str, str], flag: str, default: int) -> int:
    text = given.get(flag, str(default))
    if not re.fullmatch(r"[0-9]{1,12}", text):
        raise ConfigError(f"{flag} {text!r}: give a number of bytes, 0 or more")
    return int(text)


def _share(given: Mapping[str, str], flag: str, default: float) -> float:
    text = given.get(flag, f"{default:g}")
    if not re.fullmatch(r"(0|1|0?\.[0-9]{1,3}|1\.0{1,3})", text):
        raise ConfigError(f"{flag} {text!r}: give a share, 0 to 1")
    return float(text)


def _seconds(given: Mapping[str, str], flag: str, default: float, most: float) -> float:
    text = given.get(flag, f"{default:g}")
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,3})?", text) or float(text) > most:
        raise ConfigError(f"{flag} {text!r}: give seconds, 0 to {most:g}")
    return float(text)


def _address(given: Mapping[str, str], flag: str) -> str:
    text = given.get(flag, "")
    try:
        return str(ipaddress.ip_address(text)) if text else ""
    except ValueError as exc:
        raise ConfigError(f"{flag} {text!r}: give an IPv4 or IPv6 address") from exc


def _path(given: Mapping[str, str], flag: str) -> Path | None:
    return Path(given[flag]) if given.get(flag) else None


def _proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """The proxy variables under their lower-case names; the lower-case spelling wins, as in curl."""
    found = {}
    for name in PROXY_VARIABLES:
        value = environ.get(name) or environ.get(name.upper()) or ""
        if value:
            found[name] = value
    return found


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the agent, or examine it; returns the exit code."""
    try:
        values = vars(parser().parse_args(argv))
        # After the arguments: --help and a wrong flag need not load the whole program.
        if values["command"] == DOCTOR:
            from agent.doctor import report

            return report.run(lambda: _settings(values, environ), values["output"])
        from agent import app

        return app.run(_settings(values, environ))
    except ConfigError as exc:
        print(f"riata-agent: {exc}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:  # of who will not wait for the doctor; a running agent takes it as SIGTERM
        return EXIT_INTERRUPTED
