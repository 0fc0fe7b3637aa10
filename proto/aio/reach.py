"""Why a name, a connection or a TLS handshake failed, for the agent and the operator's command alike; and the first two
steps of a way one by one, for a doctor."""

import asyncio
import os
import socket
import ssl
from collections.abc import Mapping
from typing import Final

from proto import causes
from proto.aio import dial
from proto.causes import Cause, Diagnosis

TIMEOUT: Final = 5.0
"""Seconds for a name, and for a connection."""
_NAME_MISMATCH: Final = frozenset((62, 63, 64))  # X509_V_ERR_{HOSTNAME,EMAIL,IP_ADDRESS}_MISMATCH
_UNKNOWN_ISSUER: Final = frozenset((2, 18, 19, 20, 21))  # issuer missing, self-signed, not in our store
_DATES: Final = {9: "is not valid yet", 10: "has expired"}
_NOT_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"})


def diagnose(
    error: OSError | UnicodeError, host: str, port: int, *, through: str = "", names: Mapping[str, str]
) -> Diagnosis:
    """Explain what name lookup, TCP or TLS raised. `through`: the proxy's address without its password. `names`: as
    for Cause.found."""
    at = f"{host}:{port}"
    if through:
        at = f"{at} through the proxy {through}"
    cause, said = cause_of(error)
    return cause.found(names, at=at, host=host, said=said)


def cause_of(error: OSError | UnicodeError) -> tuple[Cause, str]:
    """The row, and what the system said."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _of_certificate(error)
    if isinstance(error, ssl.SSLError):
        reason = error.reason or str(error)
        return (causes.TLS_NONE if reason in _NOT_TLS else causes.TLS_FAILED), reason
    if isinstance(error, socket.gaierror | UnicodeError):  # the latter for labels that IDNA cannot encode
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return causes.DNS_UNRESOLVED, said
    if isinstance(error, TimeoutError):
        return causes.TCP_SILENT, "no answer"
    if isinstance(error, ConnectionRefusedError):
        return causes.TCP_REFUSED, "connection refused"
    if error.errno:  # the loops and the proxies' library have words of their own, with an address and no reason
        return causes.TCP_UNREACHABLE, os.strerror(error.errno)
    return causes.TCP_UNREACHABLE, str(error) or type(error).__name__


def _of_certificate(error: ssl.SSLCertVerificationError) -> tuple[Cause, str]:
    code = error.verify_code
    if code in _NAME_MISMATCH:
        return causes.TLS_NAME, error.verify_message
    if code in _DATES:
        return causes.TLS_DATES, _DATES[code]
    if code in _UNKNOWN_ISSUER:
        return causes.PIN_OTHER_CA, error.verify_message
    return causes.TLS_FORM, error.verify_message


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name. Raises OSError, UnicodeError."""
    async with asyncio.timeout(TIMEOUT):
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[4][0]) for address in found))


async def shown(host: str, port: int, context: ssl.SSLContext) -> tuple[str, str]:
    """Version of TLS and the end of the certificate of a verified connection, which is dropped. Raises OSError."""
    async with asyncio.timeout(TIMEOUT):
        sock = await dial.connected(host, port)
        _, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname=host)
    tls = writer.get_extra_info("ssl_object")
    certificate = writer.get_extra_info("peercert") or {}
    writer.transport.abort()
    return tls.version() or "", str(certificate.get("notAfter", ""))


async def connect(host: str, port: int) -> float:
    """Open a TCP connection and drop it again; the seconds that it took. Raises OSError, UnicodeError."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with asyncio.timeout(TIMEOUT):
        (await dial.connected(host, port)).close()
    return loop.time() - started
