"""The way from here to the hub: proxy, name, connection, TLS, pin, API, clock, credential and WebSockets."""

import base64
import contextlib
import datetime
import email.utils
import json
import os
import re
import shlex
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import yarl

from ctl import client, diagnose, errors, logins, proxies, terminal, trust
from ctl.doctor import causes as ours
from proto import causes, findings, versions
from proto.aio import reach
from proto.causes import Cause, Diagnosis, Level, Step
from proto.findings import Finding, good

CHECKS: Final = (
    Step.PROXY.value, Step.DNS.value, Step.TCP.value, Step.TLS.value, Step.PIN.value, Step.HTTP.value, ours.VERSION,
    "clock", ours.CREDENTIAL, ours.WEBSOCKET,
)  # fmt: skip
ENDS_SOON_S: Final = 24 * 3600.0
EXEC: Final = "/api/v1/namespaces/default/pods/-/exec?command=true"
"""No pod has such a name, so nothing is ever run; kubectl exec asks in the same way."""
_BUSY: Final = {429, 503, 504}
"""The hub's own trouble, or that of what stands in front of it: no other program."""
_MINOR: Final = re.compile(r"v?(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the hub. `document` None: no JSON."""

    status: int
    date: str
    document: Any


class Way:
    """Examines the way for one login. `now`: seconds since the epoch."""

    def __init__(self, login: logins.Login, env: Mapping[str, str], now: float) -> None:
        self._login = login
        self._env = env
        self._now = now
        self._names = causes.OPERATOR
        self._found: dict[str, Finding] = {}
        self._proxy: str | None = None

    async def examine(self) -> list[Finding]:
        """One finding for each of CHECKS, in their order."""
        failed = await self._steps()
        listed, because = [], ""
        for check in CHECKS:
            finding = self._found.get(check)
            if finding is None:
                finding = findings.not_run(check, because or failed)
            if finding.level is Level.FAIL and not because:
                because = check
            listed.append(finding)
        return listed

    async def _steps(self) -> str:
        """Fill in what can be found; the name of the check that ended it, or empty."""
        try:
            self._proxy = proxies.choose(self._login.hub, self._env)
        except errors.UsageError as exc:
            return self._bad(ours.PROXY_NOT_HTTP, said=exc.what)
        failed = await (self._by_proxy() if self._proxy else self._directly())
        if failed is not None:
            return self._diagnosed(failed)
        return await self._hub()

    async def _directly(self) -> Diagnosis | None:
        host, port = diagnose.place(self._login.hub)
        self._good(Step.PROXY, "none: the connection is direct")
        try:
            self._good(Step.DNS, f"{host} is {', '.join(await reach.resolve(host, port))}")
            took = await reach.connect(host, port)
        except (OSError, UnicodeError) as exc:
            found = reach.diagnose(exc, host, port, names=self._names)
            if Step.DNS not in self._found and found.step is not Step.DNS:  # a resolver that does not answer
                return causes.DNS_UNRESOLVED.found(self._names, host=host, said="the resolver does not answer")
            return found
        self._good(Step.TCP, f"{host}:{port} in {1000 * took:.0f} ms")
        return None

    async def _by_proxy(self) -> Diagnosis | None:
        assert self._proxy is not None
        through = diagnose.address(self._proxy)
        try:
            took = await reach.connect(*diagnose.place(self._proxy))
        except (OSError, UnicodeError) as exc:
            return causes.PROXY_UNREACHABLE.found(self._names, through=through, said=reach.cause_of(exc)[1])
        self._good(Step.PROXY, f"by way of {through}, connected in {1000 * took:.0f} ms")
        self._good(Step.DNS, "left to the proxy")
        self._good(Step.TCP, "left to the proxy")
        return None

    async def _hub(self) -> str:
        context = trust.context(self._login) if self._login.hub.startswith("https:") else None
        async with client.session(context) as anybody, client.session(context, self._login.token) as somebody:
            try:
                version = await self._get(anybody, "/version")
                await self._trusted(context)
                self._found["clock"] = findings.of_clock(self._now, _seconds(version.date), self._names)
                failed = self._version(version)
                if failed:
                    return failed  # what is no hub gets no token
                failed = self._credential(await self._get(somebody, "/v1/whoami"))
            except (aiohttp.ClientError, TimeoutError, OSError) as exc:
                return await self._lost(exc, context)
            return await self._websocket(anybody, somebody) or failed

    async def _lost(self, exc: BaseException, context: ssl.SSLContext | None) -> str:
        """The exchange ended so: the finding of the step that it was at."""
        if diagnose.is_unanswered(exc):
            if Step.HTTP in self._found:
                return self._bad(ours.HTTP_SILENT, check=ours.CREDENTIAL, asked="/v1/whoami")
            await self._trusted(context)
            return self._bad(ours.HTTP_SILENT, asked="/version")
        if isinstance(exc, TimeoutError) and context is not None and not self._proxy:  # TCP was tried before
            return self._bad(ours.HTTP_SILENT, check=Step.TLS, asked="the TLS handshake")
        return self._diagnosed(diagnose.explain(exc, self._login, self._proxy))

    async def _get(self, session: aiohttp.ClientSession, path: str, **headers: str) -> Answer:
        url = yarl.URL(self._login.hub + path, encoded=True)
        async with session.get(url, allow_redirects=False, proxy=self._proxy, headers=headers) as response:
            try:
                document = json.loads(await client.bounded(response))
            except (ValueError, RecursionError, errors.CommandError):
                document = None
            return Answer(response.status, response.headers.get("Date", ""), document)

    async def _trusted(self, context: ssl.SSLContext | None) -> None:
        if context is None:
            self._good(Step.TLS, "none: plain HTTP on loopback")
            self._good(Step.PIN, "none: plain HTTP on loopback")
            return
        shown = "verified"
        if not self._proxy:  # it would be another way
            with contextlib.suppress(OSError):
                version, ends = await reach.shown(*diagnose.place(self._login.hub), context)
                shown = f"{version}, the certificate is good until {ends}"
        self._good(Step.TLS, shown)
        if not self._login.ca:
            self._good(Step.PIN, "no CA of its own: this login trusts what this machine trusts")
            return
        found = trust.pins_of(self._login.ca)
        if self._login.ca_pin and self._login.ca_pin not in found:
            said = f"the login's CA is not the one of its pin {self._login.ca_pin}: the file was changed"
            self._bad(causes.PIN_NO_CA, said=said)
            return
        self._good(Step.PIN, f"the chain ends in the login's CA {', '.join(found)}")

    def _version(self, answer: Answer) -> str:
        theirs = answer.document.get("version") if isinstance(answer.document, dict) else None
        if 300 <= answer.status < 400:
            return self._bad(causes.HTTP_REDIRECT, location="another place")
        if answer.status in _BUSY:
            return self._bad(causes.HTTP_BUSY, status=answer.status)
        if answer.status != 200 or not isinstance(theirs, str):
            return self._bad(ours.API_STRANGE, path="/version", status=answer.status)
        self._good(Step.HTTP, f"{self._login.hub} answers as a riata hub")
        if _apart(versions.PRODUCT_VERSION, theirs) > 1:
            self._bad(ours.VERSION_APART, ours=versions.PRODUCT_VERSION, theirs=theirs)
        else:
            self._good(ours.VERSION, f"this command is {versions.PRODUCT_VERSION}, the hub {theirs}")
        return ""

    def _credential(self, answer: Answer) -> str:
        if answer.status == 401:
            return self._bad(ours.TOKEN_REFUSED)
        if answer.status in _BUSY:
            return self._bad(causes.HTTP_BUSY, check=ours.CREDENTIAL, status=answer.status)
        who = answer.document
        if answer.status != 200 or not isinstance(who, dict) or "user" not in who:
            return self._bad(ours.API_STRANGE, check=ours.CREDENTIAL, path="/v1/whoami", status=answer.status)
        ends = who.get("tokenExpiresAt")
        if isinstance(ends, str) and _instant(ends) - self._now < ENDS_SOON_S:
            if who.get("admin"):
                return self._bad(ours.TOKEN_ENDS, at=ends)
            return self._bad(ours.TOKEN_ENDS_USER, at=ends, command=_like(who))
        self._good(ours.CREDENTIAL, f"you are {who['user']}" + (", an administrator" if who.get("admin") else ""))
        return ""

    async def _websocket(self, anybody: aiohttp.ClientSession, somebody: aiohttp.ClientSession) -> str:
        """Agents dial by WebSocket, kubectl exec upgrades below /k8s/: both ways, without a session or a command."""
        url = self._login.hub + "/v1/tunnel"
        try:
            async with anybody.ws_connect(url, protocols=[versions.SUBPROTOCOL], proxy=self._proxy) as socket:
                spoken = socket.protocol
            exec_ = await self._get(somebody, f"/k8s/clusters/riata-doctor{EXEC}", **_upgrade())
        except aiohttp.WSServerHandshakeError as exc:
            row = causes.WEBSOCKET_STRIPPED if exc.status in {200, 400, 426} else causes.HTTP_OTHER
            return self._bad(row, check=ours.WEBSOCKET, status=exc.status, path="/v1/tunnel")
        except (aiohttp.ClientError, TimeoutError, OSError):
            return self._bad(causes.WEBSOCKET_BROKEN)
        if spoken != versions.SUBPROTOCOL:
            return self._bad(causes.WEBSOCKET_OTHER, subprotocol=versions.SUBPROTOCOL)
        if not isinstance(exec_.document, dict) or exec_.document.get("kind") != "Status":
            return self._bad(ours.WEBSOCKET_K8S, status=exec_.status)
        self._good(ours.WEBSOCKET, "upgrades arrive at the hub, below /k8s/ too")
        return ""

    def _good(self, check: str, what: str) -> None:
        self._found[check] = good(str(check), what)

    def _bad(self, cause: Cause, *, check: str = "", **facts: object) -> str:
        cleaned = {key: terminal.clean(str(value)) for key, value in facts.items()}
        finding = findings.bad(cause, self._names, check=check, **cleaned)
        self._found[str(finding.check)] = finding
        return str(finding.check) if finding.level is Level.FAIL else ""

    def _diagnosed(self, failed: Diagnosis) -> str:
        """The failure of a step: those before it were passed."""
        check = failed.step.value
        self._found[check] = findings.of_diagnosis(failed)
        if check == Step.PIN:
            self._good(Step.TLS, "TLS is spoken")
        return check


def _upgrade() -> dict[str, str]:
    """What kubectl sends for exec (RFC 6455 §4.1)."""
    return {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Protocol": "v5.channel.k8s.io",
    }


def _like(who: Mapping[str, Any]) -> str:
    """The command with which an administrator makes a token like the caller's: without --group it would be in none."""
    words = ["riata", "tokens", "create", "NAME", "--user", str(who["user"])]
    words += [word for group in who.get("groups") or () for word in ("--group", str(group))]
    words += ["--cluster", "CLUSTER"] if who.get("clusters") is not None else []
    return shlex.join([*words, "--expires-in", "30d"])


def _seconds(date: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None


def _instant(text: str) -> float:
    """A time of the API; far away when it is none."""
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except ValueError:
        return float("inf")


def _apart(one: str, other: str) -> int:
    """How many minor versions lie between; many when the major one differs, none when one cannot be read."""
    left, right = _MINOR.match(one), _MINOR.match(other)
    if left is None or right is None:
        return 0
    return abs(int(left[2]) - int(right[2])) if left[1] == right[1] else 99
