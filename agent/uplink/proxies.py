"""Which proxy leads to the hub, from the usual variables; NO_PROXY as Go programs read it.

Order: HTTPS_PROXY, SOCKS_PROXY, ALL_PROXY. HTTP_PROXY is for plain http and therefore never for us, as in curl and Go.
The way to the kube-apiserver never uses a proxy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from agent.uplink.diagnose import ConnectFailed, of_cause, unreached
from proto import causes, noproxy
from proto.aio import dial
from proto.aio.transport import address_text

_ORDER: Final = ("https_proxy", "socks_proxy", "all_proxy")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy to use."""

    url: str
    """Complete, possibly with a password: never log it."""
    scheme: str
    address: str
    """`scheme://host:port`, fit for logs."""

    @property
    def host(self) -> str:
        """Name or address, without brackets."""
        return urlsplit(self.url).hostname or ""

    def __repr__(self) -> str:
        return f"Proxy({self.address!r})"


def choose(environment: Mapping[str, str], host: str, port: int) -> Proxy | None:
    """The proxy for a TLS connection to `host`:`port`, or None. `environment` has lower-case names.

    Raises ConnectFailed for a value that names no usable proxy.
    """
    if noproxy.bypasses(environment.get("no_proxy", ""), host, port):
        return None
    for variable in _ORDER:
        value = environment.get(variable, "").strip()
        if value:
            return _parse(variable, value)
    return None


async def reached(proxy: Proxy) -> Proxy:
    """The proxy by the address that answers, where its name has several: the libraries try the first one only, or that
    for as long as there is time. Raises ProxyUnreached."""
    parts = urlsplit(proxy.url)
    assert parts.port is not None
    try:
        host = await dial.answering(proxy.host, parts.port)
    except (OSError, UnicodeError) as exc:
        raise unreached(exc) from exc
    if host == proxy.host:
        return proxy
    user, at, _ = parts.netloc.rpartition("@")
    return replace(proxy, url=f"{proxy.scheme}://{user}{at}{address_text((host, parts.port))}")


def _parse(variable: str, value: str) -> Proxy:
    if "://" not in value:
        value = f"{'socks5h' if variable == 'socks_proxy' else 'http'}://{value}"
    if value.startswith("socks://"):
        value = f"socks5h://{value.removeprefix('socks://')}"
    try:
        parts = urlsplit(value)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError:
        raise _unusable(variable) from None
    if not parts.hostname or not port or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise _unusable(variable)
    address = address_text((parts.hostname, port))
    user, at, _ = parts.netloc.rpartition("@")
    if at and ":" not in user:
        user += ":"  # a user without a password is common; the libraries want both
    return Proxy(f"{parts.scheme}://{user}{at}{address}", parts.scheme, f"{parts.scheme}://{address}")


def _unusable(variable: str) -> ConnectFailed:
    """The value itself stays unsaid: it may hold a password."""
    return ConnectFailed(of_cause(causes.PROXY_UNUSABLE, variable=variable.upper()))
