"""The hub's settings: frozen, checked once, with their unit and reason next to them.

Precedence: flags, then environment (`RIATA_HUB_…`), then the TOML file, then the defaults below. Unknown keys are
errors: a limit that was misspelt must not silently be no limit. Secrets are never settings, only paths of files that
hold them.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import math
import sys
import tomllib
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_type_hints

import pydantic

from hub.edge.limits import EdgeLimits
from hub.proxy.limits import ProxyLimits
from hub.tunnel.limits import NODE_TUNNELS_MAX
from proto import pins
from proto.aio import busypoll
from proto.limits import Limits
from proto.versions import PRODUCT_VERSION

ENV_PREFIX: Final = "RIATA_HUB_"
FILE_NAME: Final = "hub.toml"
"""Read from the data directory when no `--config` is given; `init` writes it."""
WORKERS_MAX: Final = 64
_MAY_BE_ZERO: Final = frozenset(
    {"buffer_bytes", "busy_poll_share", "compression_bytes", "drain_delay_s", "drain_grace_s"}
)
_CONFIG: Final = "RIATA_HUB_CONFIG"
_ENV_ONLY: Final = frozenset({_CONFIG})


class ConfigError(Exception):
    """A setting is unknown or wrong. The text names where it was set and what is expected. Exit status 2."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """Bounds of the management API. Durations in seconds, sizes in bytes."""

    body_bytes_max: int = 512 * 1024
    """A request body above this is 413; management requests are a few KiB (facts/security.md K5)."""
    request_timeout_s: float = 30.0
    """From the head of a request to its answer, body included; then 504."""
    token_lifetime_max_s: float = 400 * 86_400.0
    """Longest life of a user token; a token for a year of automation fits."""
    join_token_lifetime_s: float = 900.0
    """How long a join token is valid unless its maker says otherwise; at most 24 h."""
    agent_image: str = f"riata-agent:{PRODUCT_VERSION}"
    """Image of the agent in the manifests that the hub gives out."""
    tokens_per_user_max: int = 500
    """Tokens with which a user who is no administrator may make no more; a bound on the store. Expired ones count
    until they are removed: a week after, or earlier when a new one needs the room."""

    def __post_init__(self) -> None:
        _need(self.body_bytes_max >= 1024, "body_bytes_max is at least 1024")
        _need(0 < self.request_timeout_s <= 3600, "request_timeout_s is over 0 and at most 3600")
        _need(self.token_lifetime_max_s >= 60, "token_lifetime_max_s is at least 60")
        _need(60 <= self.join_token_lifetime_s <= 86_400, "join_token_lifetime_s is 60 to 86400 (24 h)")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """The store."""

    log_keep: int = 10_000
    """Changes kept for watchers that fell behind, and no more than 64 MiB of them; a watcher further behind lists
    anew."""

    def __post_init__(self) -> None:
        _need(self.log_keep >= 100, "log_keep is at least 100")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that an operator may set. Groups are sections of the TOML file and infixes of the environment."""

    data: Path
    """Directory (0700) with the database, keys and certificates of this hub."""
    workers: int = 1
    """Processes that serve, on Linux: about one a core, so that throughput grows with the machine. 1: one process does
    everything. Limits of `edge` and `proxy` count for each worker by itself, but for those of one cluster
    (`proxy.per_cluster`, `per_user_and_cluster`, the same of long requests, `cancelled_burst`, `cancelled_per_s`): of
    these each worker has its share and a fifth more, for connections spread unevenly."""
    listen: tuple[str, ...] = ("127.0.0.1:8443",)
    """HOST:PORT of the main listener, repeatable; `*:PORT` is every address of IPv4 and IPv6, port 0 takes a free one.
    Loopback until an operator says otherwise."""
    metrics_listen: str = "127.0.0.1:9443"
    """HOST:PORT of /metrics and /livez, on its own socket without authentication: keep it away from the public. Empty:
    off."""
    public_url: str = ""
    """URL under which users and agents reach the hub, for kubeconfigs and manifests. Empty: the first listener's."""
    tls_cert: Path | None = None
    """PEM file with the hub's own certificate and its chain, re-read when it changes. None: the hub makes a CA."""
    tls_key: Path | None = None
    """PEM file with the private key of `tls_cert`."""
    tls_ca: Path | None = None
    """PEM file with the CA of `tls_cert`, given out at /v1/ca and pinned by agents; two while it is replaced, the new
    one last. None: /v1/ca answers 404, and agents with keys are refused unless `agent_pins` names the CA."""
    encryption_key_file: Path | None = None
    """File with the keys that encrypt secrets in the store, one a line (`openssl rand -base64 32`), the first one
    encrypts; re-read when it changes. Keep it, and its copy, apart from the database. None: `encryption.key` in the
    data directory, which `init` makes."""
    tls_names: tuple[str, ...] = ()
    """More DNS names and addresses for the certificate that the hub makes itself."""
    host_names: tuple[str, ...] = ()
    """Names and addresses that a client's Host header may carry, without port; another one is 400, but for `/livez` and
    `/readyz`, which are asked by a pod's address. None: any well-formed one, for nothing depends on it."""
    agent_pins: tuple[str, ...] = ()
    """Pins (sha256:<64 hex digits>) under which agents know this hub, beside those of its own CA: those of a TLS
    terminator in front of it."""
    agent_ca: Path | None = None
    """PEM file with the CA of the first pin of `agent_pins`, read anew at each question: part of all by which agents
    join, and given out at /v1/ca. None: the hub's own is, and no manifest is made while another pin is the first."""
    node_tunnels_max: int = NODE_TUNNELS_MAX
    """Tunnels that the node agents of one cluster may have together, over all workers: the bound of what a cluster that
    invents nodes costs, about 40 KiB each."""
    plain_http: bool = False
    """Serve without TLS; refused unless every listener is a loopback address. For tests, or a TLS proxy on this
    host."""
    ready_file: Path | None = None
    """File that gets a JSON object with addresses and pins once the hub listens, for scripts."""
    log_format: Literal["json", "console"] = "json"
    """`json` for machines, `console` for people."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is logged. Audit events are written at every level; the access log is of level `info`."""
    buffer_bytes: int = 0
    """Bytes that all tunnels and unread answers may hold before slow readers are cut at 80 % of it. 0: a quarter of the
    memory limit of the container, or of the machine."""
    compression_bytes: int = 256 * 1024 * 1024
    """Memory for decoding compressed answers, 16 KiB for each that is under way, watches above all; what finds no room
    is asked for uncompressed; `workers` share it. 0: agents compress nothing."""
    busy_poll_share: float = busypoll.SHARE
    """Share of a core (0 to 1) that each process may spend on staying awake for answers that are about to come, which
    makes a lone small request up to two fifths faster. 0: never; nor where there is no core more than `workers`, or a
    CPU limit below one core for each."""
    drain_delay_s: float = 0.0
    """After SIGTERM the hub goes on for this many seconds with /readyz failing, so that load balancers leave first."""
    drain_grace_s: float = 25.0
    """After SIGTERM requests may end within this many seconds: below the 30 s after which Kubernetes kills."""
    api: ApiSettings = dataclasses.field(default_factory=ApiSettings)
    """Management API."""
    edge: EdgeLimits = dataclasses.field(default_factory=EdgeLimits)
    """Main listener."""
    proxy: ProxyLimits = dataclasses.field(default_factory=ProxyLimits)
    """Requests to clusters."""
    tunnel: Limits = dataclasses.field(default_factory=Limits)
    """Sessions with agents."""
    store: StoreSettings = dataclasses.field(default_factory=StoreSettings)
    """Database."""

    def __post_init__(self) -> None:
        _need(self.buffer_bytes == 0 or self.buffer_bytes >= 1024 * 1024, "buffer_bytes is 0 or at least 1048576")
        _need(self.busy_poll_share <= 1.0, "busy_poll_share is a share of a core, 0 to 1")
        _need(self.workers <= WORKERS_MAX, f"workers is at most {WORKERS_MAX}")
        _need(self.workers == 1 or sys.platform == "linux", "workers is 1 on this platform: more need Linux")
        _need(bool(self.listen), "listen needs at least one HOST:PORT")
        for address in (*self.listen, *([self.metrics_listen] if self.metrics_listen else [])):
            host_and_port(address)
        _need(self.tls_ca is None or self.tls_cert is not None, "tls_ca belongs to tls_cert: the hub's own CA is made")
        _need((self.tls_cert is None) == (self.tls_key is None), "tls_cert and tls_key belong together")
        _need(not (self.plain_http and self.tls_cert), "plain_http and tls_cert exclude each other")
        for pin in self.agent_pins:
            pins.parse_pin(pin)
        _need(self.agent_ca is None or bool(self.agent_pins), "agent_ca belongs to agent_pins: name the CA's pin there")
        if self.plain_http:
            for address in self.listen:
                _need(
                    is_loopback(host_and_port(address)[0]),
                    f"plain_http is only allowed on loopback addresses, and {address} is none: "
                    "tokens would cross the network in the clear. Drop plain_http, TLS needs no set-up",
                )
        if self.public_url:
            _check_public_url(self.public_url, is_plain=self.plain_http)


GROUPS: Final = ("api", "edge", "proxy", "tunnel", "store")
"""Fields of Settings that are groups of settings."""
_LISTS: Final = ("listen", "tls_names", "host_names", "agent_pins")
"""Separated by commas in the environment."""


def load(flags: Mapping[str, object], environment: Mapping[str, str], file: Path | None) -> Settings:
    """Settings from all sources. `flags` holds top-level settings, None where not given; `file` overrides where the
    TOML is looked for, and so does RIATA_HUB_CONFIG. Raises ConfigError. Reads the file; nothing else is touched."""
    given = {name: (value, f"--{name.replace('_', '-')}") for name, value in flags.items() if value is not None}
    from_environment = _environment(environment)
    merged: dict[str, tuple[object, str]] = {**from_environment, **given}
    data = merged.get("data")
    if file is None and (named := environment.get(_CONFIG)):
        file = Path(named)
    if file is None and data is not None and (Path(str(data[0])) / FILE_NAME).is_file():
        file = Path(str(data[0])) / FILE_NAME
    return build({**_toml(file), **merged} if file is not None else merged)


def build(values: Mapping[str, tuple[object, str]]) -> Settings:
    """Settings from `name` or `group.name` → (value, where it was set). Raises ConfigError."""
    top: dict[str, Any] = {}
    grouped: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}
    types = {name: kind for name, kind in fields()}
    for name, (value, source) in values.items():
        if name not in types:
            raise ConfigError(f"{source}: there is no setting {name!r}")
        checked = _convert(name, types[name], value, source)
        group, _, field = name.rpartition(".")
        (grouped[group] if group else top)[field] = checked
    if "data" not in top:
        raise ConfigError("--data (or RIATA_HUB_DATA): the hub's data directory is needed")
    hints = get_type_hints(Settings)
    made = {group: _group(group, hints[group], grouped[group]) for group in GROUPS}
    try:
        return Settings(**top, **made)
    except ValueError as exc:
        raise ConfigError(str(exc)) from exc


def _group(name: str, kind: Callable[..., object], values: Mapping[str, object]) -> Any:
    try:
        return kind(**values)
    except ValueError as exc:
        raise ConfigError(f"{name}: {exc}") from exc


def fields() -> list[tuple[str, Any]]:
    """(`name` or `group.name`, type) of every setting."""
    hints = get_type_hints(Settings)
    result: list[tuple[str, Any]] = []
    for field in dataclasses.fields(Settings):
        if field.name in GROUPS:
            inner = get_type_hints(hints[field.name])
            result += [
                (f"{field.name}.{item.name}", inner[item.name]) for item in dataclasses.fields(hints[field.name])
            ]
        else:
            result.append((field.name, hints[field.name]))
    return result


def environment_name(name: str) -> str:
    """`api.body_bytes_max` → `RIATA_HUB_API_BODY_BYTES_MAX`."""
    return ENV_PREFIX + name.replace(".", "_").upper()


def effective(settings: Settings) -> dict[str, object]:
    """Every setting as plain values, grouped, for `config show`. Settings hold no secrets; URLs lose their user
    part."""
    values: dict[str, object] = {}
    for name, _ in fields():
        group, _, field = name.rpartition(".")
        value = getattr(getattr(settings, group) if group else settings, field)
        if isinstance(value, Path):
            value = str(value)
        if group:
            values.setdefault(group, {})
            inner = values[group]
            assert isinstance(inner, dict)
            inner[field] = value
        else:
            values[field] = list(value) if isinstance(value, tuple) else value
    return values


def host_and_port(address: str) -> tuple[str, int]:
    """`HOST:PORT`, `[V6]:PORT` → (host, port); `*:PORT` → ("", port), every address. Raises ValueError."""
    host, separator, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{address!r} is no HOST:PORT, for example 10.0.0.7:8443 or *:8443")
    if ":" in host and not address.startswith("["):
        raise ValueError(f"{address!r}: write an IPv6 address in brackets, [::1]:8443")
    return "" if host == "*" else host, int(port)


def is_loopback(host: str) -> bool:
    """Whether a listener on this host is reachable from this machine only. Names other than localhost are not
    trusted."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_public_url(url: str, *, is_plain: bool) -> None:
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"public_url {url!r} is no URL") from None
    schemes = ("http", "https") if is_plain else ("https",)
    _need(parts.scheme in schemes and bool(host), f"public_url has the form {schemes[-1]}://HOST[:PORT]")
    _need(url.isascii(), "public_url is ASCII: write the host as xn--…")
    _need(url.isprintable() and not set(' "<>\\^`{|}') & set(url), "public_url has a character that a URL may not have")
    _need(not parts.username and not parts.password, "public_url holds no user and no password")
    _need(not parts.query and not parts.fragment, "public_url has no query and no fragment")


def _need(condition: bool, text: str) -> None:
    if not condition:
        raise ValueError(text)


def _environment(environment: Mapping[str, str]) -> dict[str, tuple[object, str]]:
    names = {environment_name(name): name for name, _ in fields()}
    values: dict[str, tuple[object, str]] = {}
    for variable, text in environment.items():
        if not variable.startswith(ENV_PREFIX) or variable in _ENV_ONLY:
            continue
        if variable not in names:
            raise ConfigError(f"{variable}: there is no such setting")
        name = names[variable]
        values[name] = (_listed(text) if name in _LISTS else text, variable)
    return values


def _listed(text: str) -> list[str]:
    """`a, b` → a and b; an empty variable is an empty list, as an empty path is none."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _toml(file: Path) -> dict[str, tuple[object, str]]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{file}: cannot be read: {exc}") from exc
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{file}: is no TOML: {exc}") from exc
    values: dict[str, tuple[object, str]] = {}
    for name, value in document.items():
        if name in GROUPS and isinstance(value, dict):
            values |= {f"{name}.{key}": (inner, f"{file}: [{name}] {key}") for key, inner in value.items()}
        else:
            values[name] = (value, f"{file}: {name}")
    return values


def _convert(name: str, kind: Any, value: object, source: str) -> Any:
    """Text becomes a number or a flag where one is needed; anything that does not fit is an error with its source."""
    if value == "" and kind == (Path | None):
        return None
    try:
        checked = pydantic.TypeAdapter(kind).validate_python(value)
    except pydantic.ValidationError as exc:
        problem = exc.errors(include_url=False, include_input=False)[0]["msg"]
        raise ConfigError(f"{source}: {problem[:1].lower()}{problem[1:]}") from exc
    if kind in (int, float) and not _is_bound(name, checked):
        raise ConfigError(f"{source}: needs a finite number above 0: a bound cannot be turned off")
    return checked


def _is_bound(name: str, number: float) -> bool:
    return math.isfinite(number) and (number > 0 or (number == 0 and name in _MAY_BE_ZERO))
