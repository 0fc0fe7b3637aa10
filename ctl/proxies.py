"""Which HTTP proxy a request to the hub takes: the rules of kubectl (Go's http.ProxyFromEnvironment).

Not aiohttp's `trust_env`: that reads ~/.netrc, asks for proxies also on loopback, and ignores CIDRs in NO_PROXY.
"""

import urllib.parse
from collections.abc import Mapping

from ctl import errors, logins
from proto import noproxy


def choose(url: str, env: Mapping[str, str]) -> str | None:
    """URL of the proxy for `url`, or None. UsageError for a proxy that we cannot use."""
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    name = f"{parts.scheme}_proxy".upper()
    proxy = env.get(name) or env.get(name.lower()) or ""
    direct = env.get("NO_PROXY") or env.get("no_proxy") or ""
    if not proxy or logins.is_loopback(host) or noproxy.bypasses(direct, host, _port(parts)):
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    if not _is_usable(proxy):
        raise errors.UsageError(
            f"{name} names no HTTP proxy",
            means="riata goes through no proxy of another kind, SOCKS among them",
            cure="set it to http://HOST:PORT, or add the hub's host to NO_PROXY",
        )
    return proxy


def _is_usable(proxy: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(proxy)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(host)


def _port(parts: urllib.parse.SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)
