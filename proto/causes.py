"""Why a hub cannot be reached or used, and the cure of each: one table for the agent's log and `/readyz`, for
`riata-agent doctor` and for `riata doctor`. docs/operate/troubleshoot.md has every id in it; a test compares.

A text holds what was met in braces (`{at}`, `{host}` …) and names settings by what they are (`{url}`, `{ca}`, `{pin}`),
because the agent's flag and the operator's option for the same thing differ.
"""

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final


class Level(enum.StrEnum):
    """What a check came to."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    NOT_RUN = "not-run"
    """Something before it failed, so it would say nothing."""


class Step(enum.StrEnum):
    """Where an attempt to connect failed; the values are metric labels, and names of checks."""

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
class Cause:
    """One row."""

    id: str
    check: str
    """The check that finds it; a Step where it is on the way to the hub."""
    what: str
    cure: str
    level: Level = Level.FAIL
    is_slow: bool = False
    """Trying again soon is pointless: somebody must change something first."""

    def found(self, names: Mapping[str, str], /, *, retry_s: float = 0.0, **facts: object) -> "Diagnosis":
        """What was met, in words. `names`: what the settings are called where the reader is."""
        known = {**names, **facts}
        return Diagnosis(
            Step(self.check), self.what.format(**known), self.cure.format(**known), retry_s, self.is_slow, self.id
        )


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One failed attempt, explained."""

    step: Step
    what: str
    cure: str
    retry_s: float = 0.0
    """Seconds that the hub asked us to stay away; 0 = it did not."""
    is_slow: bool = False
    """As Cause.is_slow."""
    cause: str = ""
    """Id of the row."""

    def __str__(self) -> str:
        return f"{self.what}. {self.cure}"


AGENT: Final = {
    "url": "--hub-url",
    "ca": "--hub-ca-file",
    "pin": "--hub-ca-pin (and --hub-ca-file)",
    "legacy": "--hub-legacy-ca",
    "trusted": "the pinned CA",
}
"""What the agent calls the settings."""
OPERATOR: Final = {
    "url": "the hub's URL (riata login --hub)",
    "ca": "riata login --ca-file",
    "pin": "CA (riata login --hub URL --ca-file FILE --token-file FILE, with the --profile that is to have it)",
    "legacy": "a Python older than 3.13",
    "trusted": "the CA of this login",
}
"""What `riata` calls them."""

PROXY_UNUSABLE = Cause(
    "proxy-unusable",
    Step.PROXY,
    "the variable {variable} names no usable proxy",
    "Give http://, https://, socks4://, socks5:// or socks5h:// with host and port",
)
PROXY_UNREACHABLE = Cause(
    "proxy-unreachable",
    Step.PROXY,
    "the proxy {through} cannot be reached ({said})",
    "Check HTTPS_PROXY, and that the proxy runs; or add the hub to NO_PROXY",
)
PROXY_REFUSED = Cause(
    "proxy-refused",
    Step.PROXY,
    "the proxy {through} {said}",
    "Check HTTPS_PROXY with its user and password, and that it allows CONNECT to the hub; or add the hub to NO_PROXY",
)
PROXY_UNFIT = Cause(
    "proxy-unfit",
    Step.PROXY,
    "fetching the hub's CA through an https:// proxy ({through}) is not supported",
    "Give the CA with {ca}, or name an http:// or socks5h:// proxy in HTTPS_PROXY",
    is_slow=True,
)
DNS_UNRESOLVED = Cause(
    "dns-unresolved",
    Step.DNS,
    "the name {host!r} does not resolve ({said})",
    "Check the host in {url} and this machine's DNS (in a pod: kubectl exec … -- cat /etc/resolv.conf)",
)
TCP_SILENT = Cause(
    "tcp-silent",
    Step.TCP,
    "no answer from {at}",
    "A firewall or NetworkPolicy may drop the packets: allow egress to it, or set HTTPS_PROXY",
)
TCP_REFUSED = Cause(
    "tcp-refused",
    Step.TCP,
    "{at} refused the connection",
    "Check that the hub runs and that {url} has the right port",
)
TCP_UNREACHABLE = Cause(
    "tcp-unreachable",
    Step.TCP,
    "cannot reach {at} ({said})",
    "Check the route from here to the hub, or set HTTPS_PROXY",
)
TCP_BROKEN = Cause(
    "tcp-broken",
    Step.TCP,
    "the connection to {at} broke off",
    "Try again; if it breaks off again, look at the hub's log and at what stands in front of it",
)
TLS_NONE = Cause("tls-none", Step.TLS, "{at} does not speak TLS", "Give the port where the hub serves https")
TLS_FAILED = Cause(
    "tls-failed",
    Step.TLS,
    "the TLS handshake with {at} failed: {said}",
    "Both sides need TLS 1.2 or 1.3 in common",
)
TLS_NAME = Cause(
    "tls-name",
    Step.TLS,
    "the hub's certificate is not for {host!r}",
    "Use a name from the certificate in {url}, or start the hub with a --public-url that has this one",
)
TLS_DATES = Cause(
    "tls-dates",
    Step.TLS,
    "the hub's certificate {said}",
    "Renew it at the hub, or set this machine's clock right",
)
TLS_FORM = Cause(
    "tls-form",
    Step.TLS,
    "the hub's certificate is not acceptable: {said}",
    "If the CA is an old one without key identifiers, {legacy} accepts its form",
)
PIN_OTHER_CA = Cause(
    "pin-other-ca",
    Step.PIN,
    "the hub's certificate does not come from {trusted}",
    "If the hub's CA was replaced, give its new {pin}; if a TLS terminator or an inspecting proxy stands in front of"
    " the hub, give that one's {pin}; else somebody is in between",
    is_slow=True,
)
PIN_NO_CA = Cause(
    "pin-no-ca", Step.PIN, "{said}", "Give the CA and the pin that the hub prints (riata-hub init)", is_slow=True
)
HTTP_LOGIN = Cause(
    "http-login",
    Step.CREDENTIAL,
    "the hub answered {status} before the agent showed its token: something in front of the hub wants a login",
    "Let /v1/tunnel pass without authentication of the front proxy's own",
    is_slow=True,
)
HTTP_REDIRECT = Cause(
    "http-redirect",
    Step.HTTP,
    "the hub's address answers with a redirect to {location!r}",
    "None is followed: give the hub's own address in {url}",
)
HTTP_NO_HUB = Cause(
    "http-no-hub",
    Step.HTTP,
    "there is no riata hub at this address (404 for {path})",
    "Check host, port and path prefix of {url}",
)
HTTP_BUSY = Cause("http-busy", Step.HTTP, "the hub is busy or restarting ({status})", "It passes by itself: try again")
HTTP_NO_CA = Cause(
    "http-no-ca",
    Step.HTTP,
    "the hub answered {status} to the request for its CA",
    "Check {url}, or give the CA with {ca}",
)
HTTP_BROKEN = Cause(
    "http-broken",
    Step.HTTP,
    "what answers at the hub's address gives no whole answer of HTTP: {said}",
    "Check host and port of {url}; if they are the hub's, look at what stands in front of it",
)
HTTP_OTHER = Cause(
    "http-other",
    Step.HTTP,
    "the hub answered {status} to {path}",
    "See the hub's log, or what stands in front of the hub",
)
WEBSOCKET_STRIPPED = Cause(
    "websocket-stripped",
    Step.WEBSOCKET,
    "the hub answered {status}: the request arrived there without its Upgrade",
    "What stands in front of the hub removes it: let it pass Connection and Upgrade (nginx: proxy_http_version 1.1 and"
    " both headers set; a load balancer: WebSockets on)",
)
WEBSOCKET_OTHER = Cause(
    "websocket-other",
    Step.WEBSOCKET,
    "what answers does not speak {subprotocol}",
    "It may be another program, or a hub of another generation: check {url}",
)
WEBSOCKET_BROKEN = Cause(
    "websocket-broken",
    Step.WEBSOCKET,
    "the WebSocket handshake failed",
    "Something on the way to the hub may not pass WebSockets: look at load balancers and inspecting proxies",
)
CREDENTIAL_NONE = Cause(
    "credential-none",
    Step.CREDENTIAL,
    "{said}",
    "Make a join token at the hub (riata join-tokens create) and put it into --join-token-file; the agent notices",
    is_slow=True,
)
CREDENTIAL_UNREAD = Cause(
    "credential-unread",
    Step.CREDENTIAL,
    "{said}",
    "The agent's key is kept there, and read before it can say who it is; the agent tries again. If it stays so, look"
    " at the API server and the way to it (riata-agent doctor)",
)
CREDENTIAL_NO_TOKEN = Cause(
    "credential-no-token",
    Step.CREDENTIAL,
    "{said}",
    "Create an agent token at the hub (riata agent-tokens create) and put it there; the agent notices",
    is_slow=True,
)
CREDENTIAL_NO_PROJECTION = Cause(
    "credential-no-projection",
    Step.CREDENTIAL,
    "{said}",
    "Mount a projected token there: audience riata:<hub id>:<cluster uid>, expirationSeconds 600",
    is_slow=True,
)
CREDENTIAL_REFUSED = Cause(
    "credential-refused",
    Step.CREDENTIAL,
    "the hub refuses the agent's credential, it proves nothing: {said}",
    "Make a new one (riata join-tokens create, or riata agent-tokens create) and put it into its file; the agent"
    " notices",
    is_slow=True,
)
CREDENTIAL_REVOKED = Cause(
    "credential-revoked",
    Step.CREDENTIAL,
    "the hub refuses the agent's credential, it has been revoked: {said}",
    "Make a new one (riata join-tokens create, or riata agent-tokens create) and put it into its file; the agent"
    " notices. A node: riata agents readmit",
    is_slow=True,
)
SESSION_VERSION = Cause(
    "session-version",
    Step.SESSION,
    "hub and agent have no protocol version in common ({said})",
    "Upgrade the hub first, then the agents; they may differ by one version",
    is_slow=True,
)
SESSION_REFUSED = Cause("session-refused", Step.SESSION, "the hub refuses the session: {said}", "It may pass")
SESSION_SLOW = Cause(
    "session-slow", Step.SESSION, "the hub did not finish the handshake in time", "It may be overloaded"
)
SESSION_BROKEN = Cause(
    "session-broken",
    Step.SESSION,
    "the hub broke the protocol: {said}",
    "Hub and agent may differ by one version: upgrade the hub first",
)
SESSION_CLOSED = Cause(
    "session-closed",
    Step.SESSION,
    "the hub closed the connection during the handshake",
    "See the hub's log for the reason",
)
ATTEMPT_BROKEN = Cause(
    "attempt-broken",
    Step.SESSION,
    "the attempt ended in an error that nobody foresaw ({said})",
    "Please report it, with the traceback that was logged; it may come of what stands in front of the hub",
)

CREDENTIAL_NOT_JOINED = Cause(
    "credential-not-joined",
    Step.CREDENTIAL,
    "the agent has not joined yet; its join token is there and was not tried, because trying it would use it up",
    "Start the agent: it joins by itself. If it runs already, its log and /readyz say why it does not",
    level=Level.WARN,
)
CREDENTIAL_UNTRIED = Cause(
    "credential-untried",
    Step.CREDENTIAL,
    "the hub is too old to say what it thinks of a credential without opening a session",
    "Upgrade the hub; whether it takes the credential is in the running agent's /readyz",
    level=Level.WARN,
)
CLOCK_WRONG = Cause(
    "clock-wrong",
    "clock",
    "this machine's clock is {seconds} s {side} the hub's",
    "Set it right, here or at the hub (chrony, systemd-timesyncd): beyond 300 s no signature and no token is accepted",
)
CLOCK_OFF = Cause(
    "clock-off",
    "clock",
    "this machine's clock is {seconds} s {side} the hub's",
    "Let both follow a time server: beyond 300 s no signature is accepted",
    level=Level.WARN,
)
CLOCK_UNKNOWN = Cause(
    "clock-unknown",
    "clock",
    "the hub's answer has no date to compare with",
    "What stands in front of the hub takes the Date header away; compare the clocks by hand",
    level=Level.WARN,
)


def rows(module: Mapping[str, object]) -> tuple[Cause, ...]:
    """Every cause that a module defines (`rows(vars(module))`)."""
    return tuple(value for value in module.values() if isinstance(value, Cause))


def by_id(causes: Iterable[Cause]) -> dict[str, Cause]:
    """Raises ValueError for an id that is there twice."""
    found: dict[str, Cause] = {}
    for cause in causes:
        if cause.id in found:
            raise ValueError(f"cause {cause.id!r} is there twice")
        found[cause.id] = cause
    return found
