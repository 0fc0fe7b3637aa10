"""Settings of the agent: frozen, checked when they are made, taken from flags and environment by `agent.cli` only.

Secrets are never values here, only paths of files.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from agent.errors import ConfigError
from proto.aio import busypoll

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds `token` and `ca.crt`."""
HEALTH_LISTEN: Final = "127.0.0.1:8081"
METRICS_LISTEN: Final = "127.0.0.1:9081"
AGENT_TOKEN_FILE: Final = Path("/var/run/secrets/riata/token")
EVERYWHERE: Final = "*"
"""Host of a listen address: every address, of IPv4 and of IPv6."""
DRAIN_GRACE: Final = 25.0
DRAIN_GRACE_MAX: Final = 3600.0
COMPRESSION_BYTES: Final = 16 * 1024 * 1024
"""1,024 compressed answers at once, of 16 KiB each."""
PINS_MAX: Final = 2
"""One pin, or two while the hub's CA is being replaced."""

_HOST: Final = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_][a-z0-9_-]{0,62})*\.?|[0-9a-f:.]+(?:%\w+)?"
)
"""A name of labels of up to 63 characters (RFC 1123; underscores are seen in practice), or an IPv6 address."""
_OBJECT: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
_LISTEN: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:\[\]/]+):([0-9]{1,5})")


def _is_host(host: str) -> bool:
    return _HOST.fullmatch(host.lower()) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSettings:
    """The hub and how to know it."""

    url: str
    """`https://HOST[:PORT][/prefix]`; the tunnel is at `<url>/v1/tunnel`."""
    ca_pins: tuple[str, ...]
    """One or two `sha256:<64 hex>`; mandatory, because trust on first use is none."""
    ca_file: Path | None = None
    """PEM bundle. Without it the agent fetches `<url>/v1/ca` and keeps what matches the pins (design P8)."""
    token_file: Path = AGENT_TOKEN_FILE
    """File with the cluster's agent token, read at each connect."""
    key_file: Path | None = None
    """File (0600) with this agent's own key: it enrols instead of showing an agent token."""
    key_secret: str = ""
    """`NAMESPACE/NAME` of the Secret that holds the key instead; the agent may read and update it."""
    join_token_file: Path | None = None
    """File with the join token that enrols the key, needed until the hub knows it."""
    allow_legacy_ca: bool = False
    """Accept CAs that break RFC 5280's form rules (no key identifiers …), which Python ≥ 3.13 refuses. Chain, dates and
    names stay verified."""

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            port = parts.port
        except ValueError as exc:
            raise ConfigError(f"--hub-url {self.url!r} is not a URL: give https://HOST[:PORT]") from exc
        if parts.scheme != "https":
            raise ConfigError(
                f"--hub-url {self.url!r}: the agent talks to its hub over https only: give https://HOST[:PORT]"
            )
        if not parts.hostname or parts.username or parts.query or parts.fragment or port == 0:
            raise ConfigError(f"--hub-url {self.url!r}: give https://HOST[:PORT][/prefix], without user, ? and #")
        if not self.url.isascii() or not self.url.isprintable() or " " in self.url:
            raise ConfigError(f"--hub-url {self.url!r} has characters that a URL may not have")
        if not _is_host(parts.hostname):
            raise ConfigError(f"--hub-url {self.url!r}: {parts.hostname!r} is no host name and no address")
        if self.key_file is not None and self.key_secret:
            raise ConfigError("--key-file and --key-secret exclude each other: the agent has one key")
        if self.key_secret and not _OBJECT.fullmatch(self.key_secret):
            raise ConfigError(f"--key-secret {self.key_secret!r}: give NAMESPACE/NAME")
        if self.join_token_file is not None and not self.has_key:
            raise ConfigError("--join-token-file enrols a key: give --key-file or --key-secret too")
        if not 1 <= len(self.ca_pins) <= PINS_MAX:
            raise ConfigError(
                "--hub-ca-pin is missing: give the pin that `riata-hub init` printed, sha256:<64 hex digits>"
                " (two, separated by a comma, while the CA is replaced)"
            )

    @property
    def has_key(self) -> bool:
        """The agent has a key of its own and enrols; otherwise it shows an agent token."""
        return self.key_file is not None or bool(self.key_secret)

    @property
    def host(self) -> str:
        """Name or address, without brackets."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """TCP port; 443 unless given."""
        return urlsplit(self.url).port or 443

    @property
    def prefix(self) -> str:
        """Path in front of `/v1/…`, without a slash at its end."""
        return urlsplit(self.url).path.rstrip("/")

    @property
    def tunnel_url(self) -> str:
        """The WebSocket's URL."""
        return f"wss://{urlsplit(self.url).netloc}{self.prefix}/v1/tunnel"


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeSettings:
    """The kube-apiserver, given piece by piece or by a kubeconfig."""

    url: str = ""
    ca_file: Path | None = None
    token_file: Path | None = None
    kubeconfig: Path | None = None
    """Use this file's credentials instead; for a local process beside a cluster one already has."""
    context: str = ""
    """Context of the kubeconfig; its current one when empty."""
    endpoints_file: Path | None = None
    """File with the API servers' own addresses, for when `url`, the Service, is no way to them."""
    allow_legacy_ca: bool = False
    """As HubSettings.allow_legacy_ca."""

    def __post_init__(self) -> None:
        if self.kubeconfig is not None:
            if self.url or self.ca_file or self.token_file or self.endpoints_file:
                raise ConfigError("--kubeconfig stands for all --kube flags but --kube-legacy-ca: give it alone")
        elif self.context:
            raise ConfigError("--context names a context of a kubeconfig: give --kubeconfig too")
        elif not self.url or self.ca_file is None or self.token_file is None:
            raise ConfigError(
                "no API server: outside a pod give --kube-url, --kube-ca-file and --kube-token-file, or --kubeconfig"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """What the agent itself listens on."""

    health_listen: str = HEALTH_LISTEN
    """`/livez` and `/readyz`; empty = off."""
    metrics_listen: str = METRICS_LISTEN
    """`/metrics`; empty = off."""
    ready_file: Path | None = None
    """Gets one JSON object once the listeners are up."""

    def __post_init__(self) -> None:
        for flag, value in (("--health-listen", self.health_listen), ("--metrics-listen", self.metrics_listen)):
            if value:
                split_listen(flag, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """How the agent writes its log (stderr)."""

    format: Literal["json", "console"] = "json"
    level: str = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything, each part for its component."""

    hub: HubSettings
    kube: KubeSettings
    mode: Literal["cluster", "node"] = "cluster"
    """What the agent is."""
    fallback: bool = False
    """Mode node: this agent serves requests when no cluster agent answers, and its ServiceAccount may."""
    host_ip: str = ""
    """Mode node: the node's address, as an API server on it would have in the endpoints file."""
    fallback_lease: str = ""
    """`NAMESPACE/NAME` of the Lease whose holder chooses the fallback nodes; empty: they are not looked after."""
    policy_file: Path | None = None
    """TOML: `users` and `groups` that need not begin with `riata:`."""
    compression_bytes: int = COMPRESSION_BYTES
    """Memory for compressing answers on the tunnel; what finds no room goes uncompressed. 0 = off."""
    busy_poll_share: float = busypoll.SHARE
    """Share of a core that may be spent on staying awake for answers that are about to come. 0 = never."""
    drain_grace: float = DRAIN_GRACE
    """Seconds that requests under way get after SIGTERM; what lives longer (exec, logs -f) is cut then. Watches are
    ended by the hub between two events."""
    serve: ServeSettings = field(default_factory=ServeSettings)
    log: LogSettings = field(default_factory=LogSettings)
    proxy_environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The proxy variables of the environment; their values may hold passwords."""

    @property
    def serves(self) -> bool:
        """Requests are executed; fail closed, so a mode that is not known here executes none."""
        return self.mode == "cluster" or (self.mode == "node" and self.fallback)

    def __post_init__(self) -> None:
        if self.fallback_lease and not _OBJECT.fullmatch(self.fallback_lease):
            raise ConfigError(f"--fallback-lease {self.fallback_lease!r}: give NAMESPACE/NAME")


def split_listen(flag: str, value: str) -> tuple[str, int]:
    """`HOST:PORT` in its parts. Raises ConfigError that names `flag`."""
    match = _LISTEN.fullmatch(value)
    if match is None or int(match[2]) > 65535:
        raise ConfigError(f"{flag} {value!r}: give HOST:PORT, for instance 127.0.0.1:8081 (port 0 picks a free one)")
    return match[1].strip("[]"), int(match[2])
