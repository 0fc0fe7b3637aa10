"""The cluster's own policy: what the hub may ask for, decided here whatever the hub says (design D1, P1).

Kubernetes RBAC cannot match a prefix, so that every impersonated name begins with `riata:` is this module's promise.
More is allowed only by a file that belongs to the cluster's administrators and that the hub has no way to change.
"""

import functools
import logging
import os
import string
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.errors import ConfigError, Refused
from proto import headers, target
from proto.messages import Headers, HttpRequest

logger = logging.getLogger(__name__)

PREFIX: Final = b"riata:"
METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
UPGRADES: Final = frozenset(("websocket", "SPDY/3.1"))
GROUPS_MAX: Final = 256
NAME_BYTES_MAX: Final = 512
POLICY_BYTES_MAX: Final = 256 * 1024
CHECK_INTERVAL: Final = 1.0
"""Seconds between two looks at the policy file."""

_SINGLE: Final = frozenset((b"content-length", b"impersonate-extra-riata.io%2frequest-id"))
"""Fields that may stand once, and whose values have a form."""
_LENGTH_DIGITS_MAX: Final = 18
_SHORT: Final = 512
_REQUEST_ID_CHARS: Final = string.ascii_letters.encode() + string.digits.encode() + b"._:-"
_REQUEST_ID_BYTES_MAX: Final = 128
_NEVER: Final = frozenset((b"host", b"expect", b"content-transfer-encoding"))
_PASSED_ON: Final = frozenset(
    (
        b"accept accept-charset accept-encoding accept-language audit-id cache-control content-disposition"
        b" content-encoding content-language content-md5 content-range content-type date"
        b" dpop etag from if-match if-modified-since if-none-match if-range if-unmodified-since"
        b" kubectl-command kubectl-session last-modified origin pragma prefer priority range referer"
        b" sec-websocket-extensions sec-websocket-key sec-websocket-protocol sec-websocket-version"
        b" traceparent tracestate user-agent via warning x-kubernetes-pf-flowschema-uid"
        b" x-request-id x-requested-with x-stream-protocol-version"
    ).split()
)
"""What reaches the API server. A header that a later hub adds and that is not here is left out, which is safe; one that
proves an identity is refused, because only a broken or hostile hub would send it."""


@dataclass(frozen=True, slots=True)
class Exceptions:
    """Names without the prefix that this cluster's administrators allow."""

    users: frozenset[bytes] = frozenset()
    groups: frozenset[bytes] = frozenset()

    @classmethod
    def from_toml(cls, raw: bytes) -> "Exceptions":
        """Two lists of strings, `users` and `groups`, each optional. Raises ConfigError for anything else."""
        try:
            document = tomllib.loads(raw.decode())
        except (ValueError, RecursionError) as exc:
            raise ConfigError(f"the policy file is not TOML: {exc}") from exc
        if unknown := set(document) - {"users", "groups"}:
            raise ConfigError(f"the policy file has unknown keys: {', '.join(sorted(unknown))}")
        return cls(users=_names(document, "users"), groups=_names(document, "groups"))


def _names(document: dict[str, object], key: str) -> frozenset[bytes]:
    names = document.get(key, [])
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"the policy file's {key!r} must be a list of names")
    return frozenset(str(name).encode() for name in names)


class Policy:
    """Checks requests; follows the policy file. Without a file only prefixed names pass."""

    def __init__(self, path: Path | None = None) -> None:
        """Reads the file. Raises ConfigError when it is missing or wrong: a policy that was asked for must be there."""
        self._path = path
        self._exceptions = Exceptions()
        self._mark: tuple[int, int, int] | None = None
        self._checked_at = float("-inf")
        if path is not None:
            self._exceptions, self._mark = _read(path)

    def admit(self, request: HttpRequest, now: float) -> Headers:
        """The headers to send on, the identity among them. Raises Refused. `now`: the loop's time."""
        if self._path is not None and now - self._checked_at >= CHECK_INTERVAL:
            self._checked_at = now
            self._follow(self._path)
        if request.method not in METHODS:
            raise Refused("method", "the method is not allowed by this cluster's agent")
        if not _is_target(request.path):
            raise Refused("target", "the request target is not allowed by this cluster's agent")
        passed, user, groups = _sort(request.headers)
        if fault := headers.values_fault([value for _, value in passed]):
            raise Refused("header", fault)
        self._check_identity(user, groups)
        if request.upgrade:
            _check_upgrade(request, passed)
        return tuple(passed)

    def _check_identity(self, user: list[bytes], groups: list[bytes]) -> None:
        allowed = self._exceptions
        if len(user) != 1:
            raise Refused("identity", "the request names no user, or several: the agent serves no request as itself")
        if len(groups) > GROUPS_MAX:
            raise Refused("identity", "the request names too many groups")
        if not _is_ours(user[0]) and user[0] not in allowed.users:
            raise Refused(
                "identity", "the user does not begin with 'riata:' and this cluster's policy does not name it"
            )
        for group in groups:
            if not _is_ours(group) and group not in allowed.groups:
                raise Refused(
                    "identity", "a group does not begin with 'riata:' and this cluster's policy does not name it"
                )

    def _follow(self, path: Path) -> None:
        """Take over a changed file. One that cannot be read or understood allows nothing beyond the prefix."""
        try:
            stat = os.stat(path)
            if (stat.st_mtime_ns, stat.st_ino, stat.st_size) == self._mark:
                return
            self._exceptions, self._mark = _read(path)
            logger.info("policy changed", extra={"path": str(path)})
        except (OSError, ConfigError) as exc:
            if self._mark is not None:
                logger.error("policy unusable: only riata: identities pass", extra={"error": str(exc)})
            self._exceptions, self._mark = Exceptions(), None


def _sort(fields: Headers) -> tuple[list[tuple[bytes, bytes]], list[bytes], list[bytes]]:
    """What is passed on, the impersonated users, the impersonated groups."""
    passed: list[tuple[bytes, bytes]] = []
    user: list[bytes] = []
    groups: list[bytes] = []
    single: set[bytes] = set()
    for field in fields:
        name, value = field
        if name == b"impersonate-group":
            groups.append(value)
        elif name == b"impersonate-user":
            user.append(value)
        elif name in _SINGLE:
            if name in single or not _is_well_formed(name, value):
                raise Refused("header", f"the header {name.decode()!r} is ambiguous or malformed")
            single.add(name)
        elif name not in _PASSED_ON:
            if not headers.valid_name(name):
                raise Refused("header", "a header name is empty or has an illegal character")
            if headers.is_identity(name) or headers.is_hop_by_hop(name) or name in _NEVER:
                raise Refused("header", f"the header {name.decode()[:64]!r} is not the hub's to set")
            continue
        passed.append(field)
    return passed, user, groups


def _is_target(path: bytes) -> bool:
    """As `target.is_valid`. Remembered for short ones, since clients ask for the same again; not with a query, which
    may hold a secret and is seldom the same."""
    return _remembered(path) if len(path) <= _SHORT and path.find(b"?") < 0 else target.is_valid(path)


_remembered = functools.lru_cache(maxsize=1024)(target.is_valid)


def _is_well_formed(name: bytes, value: bytes) -> bool:
    """Whether the value of one of `_SINGLE` has its form."""
    if name == b"content-length":
        return value.isdigit() and len(value) <= _LENGTH_DIGITS_MAX
    return 0 < len(value) <= _REQUEST_ID_BYTES_MAX and not value.translate(None, _REQUEST_ID_CHARS)


def _is_ours(name: bytes) -> bool:
    return name.startswith(PREFIX) and len(PREFIX) < len(name) <= NAME_BYTES_MAX


def _check_upgrade(request: HttpRequest, passed: list[tuple[bytes, bytes]]) -> None:
    if request.upgrade not in UPGRADES:
        raise Refused("upgrade", "only websocket and SPDY/3.1 upgrades are allowed")
    if request.method not in {"GET", "POST"} or any(
        name == b"content-length" and value != b"0" for name, value in passed
    ):
        raise Refused("upgrade", "an upgrade carries no body")


def _read(path: Path) -> tuple[Exceptions, tuple[int, int, int]]:
    try:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            raw = file.read(POLICY_BYTES_MAX + 1)
    except OSError as exc:
        raise ConfigError(f"--policy-file {path}: {exc.strerror}: mount it, or leave the flag out") from exc
    if len(raw) > POLICY_BYTES_MAX:
        raise ConfigError(f"--policy-file {path} is bigger than {POLICY_BYTES_MAX} bytes")
    return Exceptions.from_toml(raw), (stat.st_mtime_ns, stat.st_ino, stat.st_size)
