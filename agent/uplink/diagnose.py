"""What went wrong on the way to the hub, in plain words, each with its cure (the table is proto.causes).

The agent never exits for such a reason: it says what failed (log, `/readyz`, metric), stays up and tries again.
"""

import asyncio
import dataclasses
import ssl
from typing import Final

from agent.errors import AgentError
from proto import causes
from proto.aio import dial, reach
from proto.causes import Cause
from proto.causes import Diagnosis as Diagnosis
from proto.causes import Step as Step
from proto.errors import Code, code_of
from proto.messages import Refused

LOOK_TIMEOUT: Final = 5.0
"""Seconds for a second look at the certificate that did not verify."""
_TUNNEL: Final = "/v1/tunnel"


class ConnectFailed(AgentError):
    """An attempt to open a session failed."""

    def __init__(self, diagnosis: Diagnosis) -> None:
        super().__init__(str(diagnosis))
        self.diagnosis = diagnosis


class ProxyUnreached(ConnectionError):
    """A proxy's name, TCP or TLS failed: whatever the error was, it says nothing of the hub."""


class ProxyRefused(ConnectionError):
    """A proxy said no."""


class ProxyUnfit(ConnectionError):
    """A proxy of a kind that this connection cannot take."""


class AnswerBroken(ConnectionError):
    """What came back is no whole answer of HTTP."""


def of_cause(cause: Cause, *, retry_s: float = 0.0, **facts: object) -> Diagnosis:
    """A row of the table, with the agent's names for its settings."""
    return cause.found(causes.AGENT, retry_s=retry_s, **facts)


def of_network_error(error: OSError | UnicodeError, host: str, port: int, *, through: str = "") -> Diagnosis:
    """Explain what name lookup, TCP, TLS or a small GET raised. `through`: the proxy's address without its password."""
    if isinstance(error, ProxyUnreached):
        return of_cause(causes.PROXY_UNREACHABLE, through=through, said=str(error))
    if isinstance(error, ProxyRefused):
        return of_cause(causes.PROXY_REFUSED, through=through, said=str(error))
    if isinstance(error, ProxyUnfit):
        return of_cause(causes.PROXY_UNFIT, through=through)
    if isinstance(error, AnswerBroken):
        return of_cause(causes.HTTP_BROKEN, said=str(error))
    return reach.diagnose(error, host, port, through=through, names=causes.AGENT)


def unreached(error: OSError | UnicodeError) -> ProxyUnreached:
    """What the way to a proxy raised, with what to do where HTTPS_PROXY itself may be right."""
    said = reach.cause_of(error)[1]
    if isinstance(error, ssl.SSLCertVerificationError):
        said = (
            f"its own certificate is not acceptable: {said}; it is verified by this system's CAs, or by those in the"
            " file that SSL_CERT_FILE names"
        )
    elif isinstance(error, ssl.SSLError):
        said = f"TLS with the proxy itself: {said}"
    return ProxyUnreached(said)


def of_status(status: int, retry_s: float, location: str) -> Diagnosis:
    """Explain an HTTP answer other than 101 to the WebSocket handshake."""
    if status in {401, 403}:
        cause = causes.HTTP_LOGIN
    elif 300 <= status < 400:
        cause = causes.HTTP_REDIRECT
    elif status == 404:
        cause = causes.HTTP_NO_HUB
    elif status in {400, 426}:  # the hub's own answer to a request that asks for no WebSocket, and that of others
        cause = causes.WEBSOCKET_STRIPPED
    elif status in {429, 503}:
        cause = causes.HTTP_BUSY
    else:
        cause = causes.HTTP_OTHER
    return of_cause(cause, retry_s=retry_s, status=status, location=location[:200], path=_TUNNEL)


def of_refusal(refused: Refused, *, has_more: bool = False) -> Diagnosis:
    """Explain a REFUSED, which comes after TLS and pin were found right. `has_more`: another credential is at hand."""
    code = code_of(refused.code)
    retry_s = refused.retry_ms / 1000
    if code in {Code.UNAUTHENTICATED, Code.REVOKED}:
        cause = causes.CREDENTIAL_REVOKED if code is Code.REVOKED else causes.CREDENTIAL_REFUSED
        diagnosis = of_cause(cause, retry_s=0.0 if has_more else retry_s, said=refused.text)
        return dataclasses.replace(diagnosis, is_slow=not has_more)
    if code is Code.VERSION:
        return of_versions(refused.text, retry_s)
    return of_cause(causes.SESSION_REFUSED, retry_s=retry_s, said=f"{code.name.lower()} {refused.text}".rstrip())


def of_versions(text: str, retry_s: float = 0.0) -> Diagnosis:
    """Explain that hub and agent speak no common version, whichever of them noticed."""
    return of_cause(causes.SESSION_VERSION, retry_s=retry_s, said=text)


def of_unforeseen(error: Exception) -> Diagnosis:
    """What nobody foresaw, without its text, since nobody knows what is in it."""
    return of_cause(causes.ATTEMPT_BROKEN, said=type(error).__name__)


async def presented_certificate(host: str, port: int) -> str:
    """Subject, issuer, names and dates of the certificate that a direct connection meets, or "" when it meets none.

    For the log only: the connection is not verified, carries nothing, and is closed at once.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(LOOK_TIMEOUT):
            sock = await dial.connected(host, port)
            _, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname=host)
    except OSError:
        return ""
    try:
        der: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.transport.abort()
    return description(der) if der else ""


def description(der: bytes) -> str:
    """The same of a certificate, whatever is in it."""
    try:
        return _describe(der)
    except Exception:  # each field has errors of its own; nothing that a box on the way shows may end the agent
        return "a certificate that is malformed"


def _describe(der: bytes) -> str:
    from cryptography import x509  # only after a failure: its memory is not the usual agent's

    certificate = x509.load_der_x509_certificate(der)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        shown = ", ".join(
            [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
        )
    except x509.ExtensionNotFound:
        shown = "(none)"
    return (
        f"subject {certificate.subject.rfc4514_string()}; issuer {certificate.issuer.rfc4514_string()};"
        f" names {shown}; valid {certificate.not_valid_before_utc:%Y-%m-%d}"
        f" to {certificate.not_valid_after_utc:%Y-%m-%d}"
    )
