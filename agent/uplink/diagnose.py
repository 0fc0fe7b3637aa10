"""What went wrong on the way to the hub, in plain words, each with its cure.

The agent never exits for such a reason: it says what failed (log, `/readyz`, metric), stays up and tries again.
"""

import asyncio
import enum
import socket
import ssl
from dataclasses import dataclass
from typing import Final

from agent.errors import AgentError
from proto.errors import Code, code_of
from proto.messages import Refused

LOOK_TIMEOUT: Final = 5.0
"""Seconds for a second look at the certificate that did not verify."""
_NAME_MISMATCH: Final = frozenset((62, 63, 64))  # X509_V_ERR_{HOSTNAME,EMAIL,IP_ADDRESS}_MISMATCH
_UNKNOWN_ISSUER: Final = frozenset((2, 18, 19, 20, 21))  # issuer missing, self-signed, not in our store
_DATES: Final = {9: "is not valid yet", 10: "has expired"}


class Step(enum.Enum):
    """Where an attempt to connect failed; the values are metric labels."""

    PROXY = "proxy"
    DNS = "dns"
    TCP = "tcp"
    TLS = "tls"
    PIN = "pin"
    HTTP = "http"
    WEBSOCKET = "websocket"
    CREDENTIAL = "credential"
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One failed attempt, explained."""

    step: Step
    what: str
    cure: str
    retry_s: float = 0.0
    """Seconds that the hub asked us to stay away; 0 = it did not."""
    is_slow: bool = False
    """Trying again soon is pointless: somebody must change something first."""

    def __str__(self) -> str:
        return f"{self.what}. {self.cure}"


class ConnectFailed(AgentError):
    """An attempt to open a session failed."""

    def __init__(self, diagnosis: Diagnosis) -> None:
        super().__init__(str(diagnosis))
        self.diagnosis = diagnosis


def of_network_error(error: OSError | UnicodeError, host: str, port: int, *, through: str = "") -> Diagnosis:
    """Explain what name lookup, TCP or TLS raised. `through`: the proxy's address without its password."""
    at = f"{host}:{port}"
    if through:
        at = f"{at} through the proxy {through}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return _of_certificate(error, host)
    if isinstance(error, ssl.SSLError):
        return _of_tls(error, at)
    if isinstance(error, socket.gaierror | UnicodeError):  # the latter for labels that IDNA cannot encode
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return Diagnosis(
            Step.DNS,
            f"the name {host!r} does not resolve ({said})",
            "Check the host in --hub-url and this machine's DNS (in a pod: kubectl exec … -- cat /etc/resolv.conf)",
        )
    if isinstance(error, TimeoutError):
        return Diagnosis(
            Step.TCP,
            f"no answer from {at}",
            "A firewall or NetworkPolicy may drop the packets: allow egress to it, or set HTTPS_PROXY",
        )
    if isinstance(error, ConnectionRefusedError):
        return Diagnosis(
            Step.TCP, f"{at} refused the connection", "Check that the hub runs and that --hub-url has the right port"
        )
    return Diagnosis(
        Step.TCP,
        f"cannot reach {at} ({error.strerror or type(error).__name__})",
        "Check the route from here to the hub, or set HTTPS_PROXY",
    )


def of_status(status: int, retry_s: float, location: str) -> Diagnosis:
    """Explain an HTTP answer other than 101 to the WebSocket handshake."""
    if status in {401, 403}:
        return Diagnosis(
            Step.CREDENTIAL,
            f"the hub answered {status} before the agent showed its token: something in front of the hub wants a login",
            "Let /v1/tunnel pass without authentication of the front proxy's own",
            retry_s,
            is_slow=True,
        )
    if 300 <= status < 400:
        return Diagnosis(
            Step.HTTP,
            f"the hub's address answers with a redirect to {location[:200]!r}",
            "The agent follows none: give the hub's own address in --hub-url",
            retry_s,
        )
    if status == 404:
        return Diagnosis(
            Step.HTTP,
            "there is no riata hub at this address (404 for /v1/tunnel)",
            "Check host, port and path prefix of --hub-url",
            retry_s,
        )
    if status in {429, 503}:
        return Diagnosis(
            Step.HTTP, f"the hub is busy or restarting ({status})", "The agent comes back by itself", retry_s
        )
    return Diagnosis(
        Step.HTTP,
        f"the hub answered {status} instead of opening the tunnel",
        "See the hub's log, or what stands in front of the hub",
        retry_s,
    )


def of_refusal(refused: Refused, *, has_more: bool = False) -> Diagnosis:
    """Explain a REFUSED, which comes after TLS and pin were found right. `has_more`: another credential is at hand."""
    code = code_of(refused.code)
    retry_s = refused.retry_ms / 1000
    if code in {Code.UNAUTHENTICATED, Code.REVOKED}:
        what = "has been revoked" if code is Code.REVOKED else "proves nothing"
        return Diagnosis(
            Step.CREDENTIAL,
            f"the hub refuses the agent's credential, it {what}: {refused.text}",
            "Make a new one (riata join-tokens create, or riata agent-tokens create) and put it into its file; the"
            " agent notices",
            0.0 if has_more else retry_s,
            is_slow=not has_more,
        )
    if code is Code.VERSION:
        return of_versions(refused.text, retry_s)
    return Diagnosis(
        Step.SESSION,
        f"the hub refuses the session: {code.name.lower()} {refused.text}".rstrip(),
        "It may pass",
        retry_s,
    )


def of_versions(text: str, retry_s: float = 0.0) -> Diagnosis:
    """Explain that hub and agent speak no common version, whichever of them noticed."""
    return Diagnosis(
        Step.SESSION,
        f"hub and agent have no protocol version in common ({text})",
        "Upgrade the hub first, then the agents; they may differ by one version",
        retry_s,
        is_slow=True,
    )


async def presented_certificate(host: str, port: int) -> str:
    """Subject, issuer, names and dates of the certificate that a direct connection meets, or "" when it meets none.

    For the log only: the connection is not verified, carries nothing, and is closed at once.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(LOOK_TIMEOUT):
            _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
    except OSError:
        return ""
    try:
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.transport.abort()
    return _describe(der) if der else ""


def _describe(der: bytes) -> str:
    from cryptography import x509  # only after a failure: its memory is not the usual agent's

    try:
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        shown = ", ".join(
            [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
        )
    except (ValueError, x509.ExtensionNotFound):
        shown = "(none)"
    return (
        f"subject {certificate.subject.rfc4514_string()}; issuer {certificate.issuer.rfc4514_string()};"
        f" names {shown}; valid {certificate.not_valid_before_utc:%Y-%m-%d}"
        f" to {certificate.not_valid_after_utc:%Y-%m-%d}"
    )


def _of_certificate(error: ssl.SSLCertVerificationError, host: str) -> Diagnosis:
    code = error.verify_code
    if code in _NAME_MISMATCH:
        return Diagnosis(
            Step.TLS,
            f"the hub's certificate is not for {host!r}",
            "Use a name from the certificate in --hub-url, or start the hub with a --public-url that has this one",
        )
    if code in _DATES:
        return Diagnosis(
            Step.TLS, f"the hub's certificate {_DATES[code]}", "Renew it at the hub, or set this machine's clock right"
        )
    if code in _UNKNOWN_ISSUER:
        return Diagnosis(
            Step.PIN,
            "the hub's certificate does not come from the pinned CA",
            "If the hub's CA was replaced, give its new --hub-ca-pin (and --hub-ca-file); if a TLS terminator or an"
            " inspecting proxy stands in front of the hub, give the pin of that one's CA; else somebody is in between",
            is_slow=True,
        )
    return Diagnosis(
        Step.TLS,
        f"the hub's certificate is not acceptable: {error.verify_message}",
        "If the CA is an old one without key identifiers, --hub-legacy-ca accepts its form",
    )


def _of_tls(error: ssl.SSLError, at: str) -> Diagnosis:
    reason = error.reason or str(error)
    if reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"}:
        return Diagnosis(Step.TLS, f"{at} does not speak TLS", "Give the port where the hub serves https")
    return Diagnosis(
        Step.TLS, f"the TLS handshake with {at} failed: {reason}", "Hub and agent need TLS 1.2 or 1.3 in common"
    )
