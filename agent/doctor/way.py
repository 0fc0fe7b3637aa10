"""The way to the hub, step by step: the first hop by itself, then one attempt as the agent makes it, up to the hub's
verdict on the credential.

The attempt is the agent's own code, so what it meets is what the agent meets, at its second attempt where the first did
not verify the hub. Where it ends names the check that failed; those before it are good, those behind it were not run.
"""

import dataclasses
import email.utils
import logging
import secrets
from collections.abc import Mapping
from typing import Final

from agent.config import Settings
from agent.doctor.credential import Trial
from agent.hubca import CaStore, CaUnusable, HubCa
from agent.uplink import fetch, proxies
from agent.uplink.credentials import HubCredential
from agent.uplink.diagnose import (
    ConnectFailed,
    Diagnosis,
    of_cause,
    of_network_error,
    of_unforeseen,
    presented_certificate,
)
from agent.uplink.proxies import Proxy
from agent.uplink.session import Identity, Opened, Opener
from agent.uplink.trust import HubTrust
from proto import causes, findings
from proto.aio import reach
from proto.causes import Step
from proto.findings import Finding, good
from proto.versions import SUBPROTOCOL

logger = logging.getLogger(__name__)

CHECKS: Final = (
    Step.PROXY, Step.DNS, Step.TCP, Step.TLS, Step.PIN, Step.HTTP, Step.WEBSOCKET, Step.SESSION, Step.CREDENTIAL,
)  # fmt: skip
"""In the order in which an attempt passes them."""
CLOCK: Final = "clock"


class _Kept:
    """What the agent has learnt of the hub's CAs, as far as it can be read. Implements agent.hubca.CaStore."""

    def __init__(self, store: CaStore) -> None:
        self._store = store

    async def load(self) -> HubCa | None:
        try:
            return await self._store.load()
        except CaUnusable:  # the key beside it cannot be read either, and that has a check of its own
            return None

    async def save(self, known: HubCa) -> None:
        raise CaUnusable("an examination keeps nothing")


async def examine(
    settings: Settings, credential: HubCredential, now: float, store: CaStore | None = None
) -> list[Finding]:
    """One finding for each of CHECKS, and one for the clock. `now`: seconds since the epoch. `store`: where the agent
    keeps what the hub has said of its CAs."""
    hub = settings.hub
    found: dict[str, Finding] = {}
    try:
        proxy = proxies.choose(settings.proxy_environment, hub.host, hub.port)
    except ConnectFailed as failure:
        return _ended(found, failure.diagnosis)
    found[Step.PROXY] = _chosen(proxy, settings.proxy_environment)
    failed = await (_by_proxy(found, proxy) if proxy is not None else _directly(found, hub.host, hub.port))
    if failed is not None:
        return _ended(found, failed)
    trust, trial = HubTrust(hub, store=_Kept(store) if store else None), Trial(credential)
    opened, failed = await _attempt(settings, trust, trial)
    await _look(found, settings, trust, proxy, failed, now)
    if trial.hello is not None:
        said = trial.hello
        versions = f"{said.versions[0]} to {said.versions[1]}"
        found[Step.SESSION] = good(Step.SESSION, f"HELLO of hub {said.hub_id}, build {said.build}, protocol {versions}")
    if opened is not None:
        found[Step.CREDENTIAL] = good(Step.CREDENTIAL, f"the hub takes it for cluster {opened.welcome.cluster}")
    return _ended(found, failed)


def _chosen(proxy: Proxy | None, environment: Mapping[str, str]) -> Finding:
    if proxy is not None:
        return good(Step.PROXY, f"by way of {proxy.address}")
    has_exception = any(environment.get(name) for name in ("https_proxy", "socks_proxy", "all_proxy"))
    return good(Step.PROXY, "none: NO_PROXY names the hub" if has_exception else "none: the connection is direct")


async def _directly(found: dict[str, Finding], host: str, port: int) -> Diagnosis | None:
    try:
        addresses = await reach.resolve(host, port)
        found[Step.DNS] = good(Step.DNS, f"{host} is {', '.join(addresses)}")
        took = await reach.connect(host, port)
    except (OSError, UnicodeError) as exc:
        diagnosis = of_network_error(exc, host, port)
        if Step.DNS not in found and diagnosis.step is not Step.DNS:  # a resolver that does not answer
            return of_cause(causes.DNS_UNRESOLVED, host=host, said="the resolver does not answer")
        return diagnosis
    found[Step.TCP] = good(Step.TCP, f"{host}:{port} in {1000 * took:.0f} ms")
    return None


async def _by_proxy(found: dict[str, Finding], proxy: Proxy) -> Diagnosis | None:
    host, _, port = proxy.address.partition("://")[2].rpartition(":")
    try:
        took = await reach.connect(host.strip("[]"), int(port))
    except (OSError, UnicodeError) as exc:
        return of_cause(causes.PROXY_UNREACHABLE, through=proxy.address, said=reach.cause_of(exc)[1])
    found[Step.PROXY] = good(Step.PROXY, f"by way of {proxy.address}, connected in {1000 * took:.0f} ms")
    found[Step.DNS] = good(Step.DNS, "left to the proxy")
    found[Step.TCP] = good(Step.TCP, "left to the proxy")
    return None


async def _attempt(settings: Settings, trust: HubTrust, trial: Trial) -> tuple[Opened | None, Diagnosis | None]:
    opener = Opener(
        settings.hub,
        Identity(secrets.token_bytes(16), settings.mode),
        trust,
        trial,
        proxy_environment=settings.proxy_environment,
        kubernetes=_unsaid,
        is_trial=True,
    )
    try:
        opened = await _opened(opener)
    except ConnectFailed as failure:
        return None, failure.diagnosis
    except Exception as exc:  # as the agent survives it
        logger.error("the attempt ended in an unforeseen error", exc_info=exc)
        # How far the attempt came is not known: nothing behind the connection is called good.
        return None, dataclasses.replace(of_unforeseen(exc), step=Step.TLS)
    opened.transport.abort()
    return opened, None


async def _opened(opener: Opener) -> Opened:
    """Once more where the hub did not verify, as the agent does: it asks for a CA that was renewed with its key then.
    Raises ConnectFailed."""
    try:
        return await opener.open()
    except ConnectFailed as failure:
        if failure.diagnosis.step not in {Step.PIN, Step.TLS}:
            raise
    return await opener.open()


async def _unsaid() -> str:
    return ""


async def _look(
    found: dict[str, Finding],
    settings: Settings,
    trust: HubTrust,
    proxy: Proxy | None,
    failed: Diagnosis | None,
    now: float,
) -> None:
    """What a verified connection shows besides: TLS, pin, HTTP, and the hub's clock."""
    hub = settings.hub
    if failed is not None and CHECKS.index(failed.step) <= CHECKS.index(Step.PIN):
        if failed.step is Step.PIN and proxy is None:
            seen = await presented_certificate(hub.host, hub.port)
            if seen:
                found[Step.TLS] = good(Step.TLS, f"it shows: {seen}")
        return
    try:
        context = await trust.context(proxy)
        answer = await fetch.ask(hub.host, hub.port, f"{hub.prefix}/v1/ca", context=context, proxy=proxy)
    except (OSError, ConnectFailed):
        found[CLOCK] = findings.of_clock(now, None, causes.AGENT)
        if failed is not None and not trust.pins:  # it was to give its CA first
            found[Step.TLS] = good(Step.TLS, "spoken, and not verified: there is no CA to verify it by")
            found[Step.PIN] = findings.not_run(Step.PIN, failed.step)
        return
    found[Step.TLS] = good(Step.TLS, f"{answer.tls}, the certificate is good until {answer.not_after}")
    pins = set(trust.pins) & set(hub.ca_pins) or set(trust.pins)
    found[Step.PIN] = good(Step.PIN, f"the chain ends in the pinned CA {', '.join(sorted(pins))}")
    found[CLOCK] = findings.of_clock(now, _seconds(answer.date), causes.AGENT)


def _seconds(date: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None


_PASSED: Final = {
    Step.HTTP: "the hub answers",
    Step.WEBSOCKET: f"the upgrade arrives, and {SUBPROTOCOL} is spoken",
    Step.TLS: "verified",
    Step.PIN: "the chain ends in the pinned CA",
}


def _ended(found: dict[str, Finding], failed: Diagnosis | None) -> list[Finding]:
    """The findings in order: good up to the failure, and not run behind it."""
    at = len(CHECKS) if failed is None else CHECKS.index(failed.step)
    listed: list[Finding] = []
    for number, check in enumerate(CHECKS):
        if failed is not None and number == at:
            listed.append(findings.of_diagnosis(failed))
        elif failed is not None and number > at:
            listed.append(findings.not_run(check, failed.step))
        else:
            listed.append(found.get(check) or good(check, _PASSED.get(check, "passed")))
    clock = found.get(CLOCK)
    if clock is None:
        clock = findings.not_run(CLOCK, "pin" if failed is None else failed.step)
    return [*listed[:-1], clock, listed[-1]]
