"""What keeps a command from its hub, in the words of the table that the agent uses too (proto.causes)."""

import socket
import ssl
import urllib.parse
from typing import Final

import aiohttp

from ctl import logins
from ctl.doctor import causes as ours
from proto import causes
from proto.aio import reach
from proto.causes import Diagnosis

LOST: Final = (aiohttp.ClientError, TimeoutError, OSError, UnicodeError)
"""What asking a hub may raise; the last one for a name that IDNA cannot encode, such as `hub..example.org`."""


def is_unanswered(exc: BaseException) -> bool:
    """Whether the time was over behind the connection: aiohttp has a class of its own for what is before it."""
    return isinstance(exc, TimeoutError) and not isinstance(exc, aiohttp.ConnectionTimeoutError)


def explain(exc: BaseException, login: logins.Login, proxy: str | None) -> Diagnosis:
    """The row for what aiohttp or the system raised. The order matters: aiohttp's classes inherit from each other."""
    host, port = place(login.hub)
    known, through = causes.OPERATOR, address(proxy)
    if isinstance(exc, aiohttp.ClientHttpProxyError):
        return causes.PROXY_REFUSED.found(known, through=through, said=f"answered {exc.status}")
    if isinstance(exc, aiohttp.ClientProxyConnectionError):
        said = reach.cause_of(exc.os_error)[1]
        return causes.PROXY_UNREACHABLE.found(known, through=through, said=said)
    error = _system(exc)
    if error is None and through:  # the other end of what broke off is the proxy
        return causes.PROXY_REFUSED.found(known, through=through, said=f"broke off the way to {host}:{port}")
    if through and isinstance(error, socket.gaierror | UnicodeError):  # the proxy's name: the hub's is left to it
        return causes.PROXY_UNREACHABLE.found(known, through=through, said=reach.cause_of(error)[1])
    if error is None:
        return causes.TCP_BROKEN.found(known, at=f"{host}:{port}")
    found = reach.diagnose(error, host, port, through=through, names=known)
    if found.cause == causes.PIN_OTHER_CA.id and not login.ca:
        return ours.CA_MISSING.found(known)
    return found


def _system(exc: BaseException) -> OSError | UnicodeError | None:
    """The system's own error in what aiohttp raised."""
    if isinstance(exc, UnicodeError):
        return exc
    if isinstance(exc, aiohttp.ClientConnectorCertificateError):
        inner = exc.certificate_error
        return inner if isinstance(inner, ssl.SSLCertVerificationError) else None
    if isinstance(exc, TimeoutError):  # one of aiohttp's is a ClientError too
        return TimeoutError()
    if isinstance(exc, aiohttp.ClientConnectorError):
        return exc.os_error
    if isinstance(exc, aiohttp.ClientError) or not isinstance(exc, OSError):
        return None
    return exc


def place(url: str) -> tuple[str, int]:
    """Host and port of a hub's URL."""
    parts = urllib.parse.urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def address(proxy: str | None) -> str:
    """A proxy's URL without what may be a password in it."""
    if not proxy:
        return ""
    parts = urllib.parse.urlsplit(proxy)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
