"""Logins: which hub, what we trust, and the token; kept in one file of mode 0600, overridden by the environment.

current: default
hubs:
  default:
    hub: https://hub.example.com
    ca: |            # PEM; absent: the system's trust store
    ca-pin: sha256:…
    token: riata_…
"""

import functools
import ipaddress
import pathlib
import re
import urllib.parse
from collections.abc import Callable, Mapping

import msgspec
import yaml

from ctl import errors, files

_PROFILE = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class Login(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab", omit_defaults=True):
    """One hub, as a command uses it."""

    hub: str
    """Base URL without a slash at its end."""
    ca: str = ""
    """PEM of the only CAs we trust; empty: the system's trust store."""
    ca_pin: str = ""
    """SPKI pin that `ca` was checked against at login."""
    token: str = ""
    """Bearer token. Never printed, logged or put into argv."""

    def __repr__(self) -> str:
        return f"Login(hub={self.hub!r})"


class LoginFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The configuration file."""

    current: str = ""
    hubs: dict[str, Login] = {}


def path(env: Mapping[str, str]) -> pathlib.Path:
    """Where the file lives: RIATA_CONFIG, else ${XDG_CONFIG_HOME:-~/.config}/riata/config.yaml."""
    if env.get("RIATA_CONFIG"):
        return pathlib.Path(env["RIATA_CONFIG"])
    base = env.get("XDG_CONFIG_HOME", "")
    root = pathlib.Path(base) if base.startswith("/") else pathlib.Path(env.get("HOME", "/")) / ".config"
    return root / "riata" / "config.yaml"


def load(file: pathlib.Path) -> LoginFile:
    """The stored logins; none when the file is absent."""
    if not files.is_there(file, what="configuration file"):
        return LoginFile()
    text = files.read_text(str(file), what="configuration file")
    try:
        return msgspec.convert(yaml.safe_load(text) or {}, LoginFile)
    except (yaml.YAMLError, msgspec.ValidationError, RecursionError) as exc:
        detail = str(exc) if isinstance(exc, msgspec.ValidationError) else "not valid YAML"
        raise errors.UsageError(
            f"the configuration file {file} is not understood: {detail}",
            cure="repair it, or remove it and run `riata login` again",
        ) from exc


def save(file: pathlib.Path, logins: LoginFile) -> None:
    try:
        files.write_secret(file, yaml.dump(msgspec.to_builtins(logins), Dumper=_Dumper, sort_keys=False))
    except OSError as exc:
        raise _unwritable(file, exc) from exc


def change(file: pathlib.Path, how: Callable[[LoginFile], LoginFile]) -> LoginFile:
    """Save what `how` makes of the stored logins, and return it. Another riata that changes them waits for us, so `how`
    must not wait for anything."""
    try:
        with files.locked(file):
            changed = how(load(file))
            save(file, changed)
    except OSError as exc:
        raise _unwritable(file, exc) from exc
    return changed


def _unwritable(file: pathlib.Path, exc: OSError) -> errors.CommandError:
    return errors.CommandError(f"cannot write {file}: {exc.strerror}", cure="check the directory")


class _Dumper(yaml.SafeDumper):
    """PEM as a literal block, so that the file can be read."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def profile_name(name: str) -> str:
    if not _PROFILE.fullmatch(name):
        raise errors.UsageError(
            f"{name!r} is not a profile name", cure="use lower-case letters, digits, dots and dashes, at most 63"
        )
    return name


def hub_url(text: str) -> str:
    """`text` as a base URL. UsageError for anything but https, or http to loopback (a hub with --plain-http)."""
    cure = "write it like https://hub.example.com:8443"
    try:
        parts = urllib.parse.urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as exc:
        raise errors.UsageError(f"{text!r} is not a URL", cure=cure) from exc
    if parts.username is not None or parts.query or parts.fragment or not host or not text.isascii():
        raise errors.UsageError(f"{_shown(parts)!r} is not the URL of a hub", cure=cure)
    if parts.scheme == "http" and not is_loopback(host):
        raise errors.UsageError(
            f"{text!r} would send the token in clear text", means="plain HTTP is for loopback only", cure=cure
        )
    if parts.scheme not in {"http", "https"}:
        raise errors.UsageError(f"{text!r} is not the URL of a hub", cure=cure)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


def _shown(parts: urllib.parse.SplitResult) -> str:
    """The URL without what may be a password in it."""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def resolve(env: Mapping[str, str], profile: str = "") -> Login:
    """The login a command uses: RIATA_HUB, RIATA_CA_FILE and RIATA_TOKEN_FILE over the chosen profile.

    A profile's CA and token belong to its hub: when RIATA_HUB names another one, they are not used, so that a token
    is never sent to a hub it was not made for.

    UsageError where `profile`, which is typed, names another hub than RIATA_HUB: neither is silently the stronger one;
    and where no header can carry the token.
    """
    stored = _stored(env, profile)
    if env.get("RIATA_HUB"):
        url = hub_url(env["RIATA_HUB"])
        if profile and stored is not None and stored.hub != url:
            raise errors.UsageError(
                f"profile {profile!r} is a login for {stored.hub}, and RIATA_HUB names {url}",
                cure="leave --profile out, or unset RIATA_HUB",
            )
        login = stored if stored is not None and stored.hub == url else Login(hub=url)
    elif stored is not None:
        login = msgspec.structs.replace(stored, hub=hub_url(stored.hub))
    else:
        raise errors.CommandError(
            "you are not logged in to a hub",
            cure="riata login --hub https://HOST:PORT --ca-file FILE --token-file FILE",
            exit_code=errors.Exit.UNAUTHORIZED,
        )
    if env.get("RIATA_CA_FILE"):
        login = msgspec.structs.replace(login, ca=files.read_ca(env["RIATA_CA_FILE"]), ca_pin="")
    if env.get("RIATA_TOKEN_FILE"):
        login = msgspec.structs.replace(login, token=files.read_token(env["RIATA_TOKEN_FILE"]))
    return sendable(login)


def sendable(login: Login) -> Login:
    """`login`, looked at where it is used, since a bad one must not stop the others of its file. UsageError where no
    header can carry its token, as with the line end that `token: |` gives it."""
    if not files.is_token(login.token):
        raise errors.UsageError(
            f"the stored token for {login.hub} is not one line of ASCII",
            means="the line end of a block (`token: |`) in the configuration file counts",
            cure="riata login again, with its --profile",
        )
    return login


def _stored(env: Mapping[str, str], profile: str) -> Login | None:
    logins = load(path(env))
    name = profile or env.get("RIATA_PROFILE", "") or logins.current
    if name and name not in logins.hubs and (profile or env.get("RIATA_PROFILE")):
        known = ", ".join(sorted(logins.hubs)) or "none"
        raise errors.UsageError(f"there is no profile {name!r}", means=f"known profiles: {known}")
    return logins.hubs.get(name)


def keep_ca(env: Mapping[str, str], login: Login, ca: str) -> bool:
    """Keep new CAs of a hub with every stored login that has those of `login`; False where none has. Raises
    CommandError."""
    file = path(env)
    how = functools.partial(_with_ca, login, ca)
    if how(stored := load(file)) == stored:  # the file may be one that nobody can write
        return False
    change(file, how)
    return True


def _with_ca(login: Login, ca: str, stored: LoginFile) -> LoginFile:
    hubs = {
        name: msgspec.structs.replace(each, ca=ca, ca_pin="") if (each.hub, each.ca) == (login.hub, login.ca) else each
        for name, each in stored.hubs.items()
    }
    return msgspec.structs.replace(stored, hubs=hubs)
