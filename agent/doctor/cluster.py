"""The agent's own side: the API server, its CA, the agent's token there, and the rights that the chart grants."""

import asyncio
import ssl
import time
from collections.abc import Sequence
from typing import Final

from agent.config import Settings
from agent.doctor import causes, rights
from agent.doctor.rights import Right
from agent.errors import TokenUnavailable
from agent.fallback.lease import path_of
from agent.issuer import SUFFIXES, own_name
from agent.kube import KubeApi, KubeError
from agent.kubeconfig import KubeAccess
from agent.relay.addresses import Address, Addresses
from agent.uplink import fetch
from proto import findings
from proto.aio import reach
from proto.aio.transport import address_text
from proto.causes import Level
from proto.findings import Finding, good

KUBE: Final = "kube"
TOKEN: Final = "kube-token"  # noqa: S105 - the name of a check
RBAC: Final = "rbac"
REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
QUESTIONS: Final = 8
"""Asked at a time."""
SHOWN: Final = 5
"""Missing rights that are named; the others are counted."""


async def examine(settings: Settings, access: KubeAccess, api: KubeApi) -> list[Finding]:
    """Findings for KUBE, TOKEN and RBAC, in this order."""
    server, status = await _reach(access)
    if server.level is Level.FAIL:
        return [server, findings.not_run(TOKEN, KUBE), findings.not_run(RBAC, KUBE)]
    token = _token(access, status)
    if token.cause:
        return [server, token, findings.not_run(RBAC, TOKEN)]
    return [server, token, await _rights(settings, access, api)]


async def _reach(access: KubeAccess) -> tuple[Finding, int]:
    """`GET /version`, as whoever we are; the status. By the Service first, then by the endpoints, as the agent does."""
    try:
        authorization = access.credential.authorization(asyncio.get_running_loop().time())
    except TokenUnavailable:
        authorization = b""
    addresses = access.addresses or Addresses(access.endpoint, None, clock=time.monotonic)
    service, *endpoints = addresses.candidates()
    server, status = await _ask(access, service, authorization)
    if status or not endpoints:
        return server, status
    answers = await asyncio.gather(*(_ask(access, each, authorization) for each in endpoints))
    for address, (answer, its_status) in zip(endpoints, answers, strict=True):
        if not answer.cause:
            return findings.bad(
                causes.KUBE_AROUND, causes.NAMES, at=address_text(address), said=server.what
            ), its_status
    return server, status


async def _ask(access: KubeAccess, address: Address, authorization: bytes) -> tuple[Finding, int]:
    """The same of one address; the status is 0 where nobody answers who may."""
    endpoint, at = access.endpoint, address_text(address)
    try:
        answer = await fetch.ask(
            *address,
            f"{endpoint.base_path.decode()}/version",
            context=access.trust.context(),
            server_name=endpoint.server_name,
            authorization=authorization,
        )
    except ssl.SSLCertVerificationError as exc:
        return findings.bad(causes.KUBE_OTHER_CA, causes.NAMES, said=exc.verify_message), 0
    except FileNotFoundError as exc:
        return findings.bad(causes.KUBE_OTHER_CA, causes.NAMES, said=f"its CA file is missing: {exc.filename}"), 0
    except (OSError, UnicodeError) as exc:
        return findings.bad(causes.KUBE_UNREACHABLE, causes.NAMES, at=at, said=reach.cause_of(exc)[1]), 0
    if answer.status not in {200, 401, 403}:
        return findings.bad(causes.KUBE_ANSWER, causes.NAMES, status=answer.status), answer.status
    return good(KUBE, f"{at} answers, {answer.tls}, its CA is the right one"), answer.status


def _token(access: KubeAccess, status: int) -> Finding:
    try:
        access.credential.authorization(asyncio.get_running_loop().time())
    except TokenUnavailable as exc:
        return findings.bad(causes.KUBE_TOKEN, causes.NAMES, said=str(exc))
    if status == 401:
        return findings.bad(causes.KUBE_UNAUTHORIZED, causes.NAMES)
    try:
        return good(TOKEN, f"the agent is {own_name(access)}")
    except (ValueError, TokenUnavailable):
        return good(TOKEN, "the API server accepts the agent's credential")


async def _rights(settings: Settings, access: KubeAccess, api: KubeApi) -> Finding:
    try:
        account = own_name(access)
        _, _, namespace, name = account.split(":")
    except (ValueError, TokenUnavailable):
        account, namespace, name = "the user of --kubeconfig", "", ""
    try:
        if settings.mode == "node" and not settings.fallback and not name.endswith(SUFFIXES[1]):
            return good(RBAC, f"{account} needs no rights, and has none from the chart")
        profile, missing = await _profile(api)
        wanted = list(rights.PROFILES[profile])
        if settings.mode == "cluster":
            own = await _own(settings, api, namespace, name)
            missing += await _missing(api, own)
            wanted += own
        is_gone = not missing and await _is_gone(settings.fallback_lease, api)
    except KubeError as exc:
        return findings.bad(causes.RBAC_UNASKED, causes.NAMES, said=str(exc))
    if is_gone:
        return findings.bad(causes.RBAC_NO_LEASE, causes.NAMES, lease=settings.fallback_lease)
    if not missing:
        return good(RBAC, f"{account} has the {len(wanted)} rights of profile {profile}")
    shown = "; ".join(str(right) for right in missing[:SHOWN])
    more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    return findings.bad(
        causes.RBAC_MISSING, causes.NAMES, missing=len(missing), of=len(wanted), profile=profile,
        rights=f"{shown}{more}", account=account,
    )  # fmt: skip


async def _profile(api: KubeApi) -> tuple[str, list[Right]]:
    """The profile that was meant, and what is missing of it. The agent is not told which one it has: it is the one of
    which it has the most, and `impersonate` where it has nothing."""
    plain = await _missing(api, rights.PROFILES["impersonate"])
    constrained = await _missing(api, rights.PROFILES["constrained"])
    has_plain = len(plain) < len(rights.PROFILES["impersonate"])
    if not plain or (has_plain and constrained) or len(constrained) == len(rights.PROFILES["constrained"]):
        return "impersonate", plain
    has_stars = any(right.group == "*" for right in rights.PROFILES["constrained"] if right not in constrained)
    if has_stars:
        return "constrained", constrained
    return "read-only", await _missing(api, rights.PROFILES["read-only"])


async def _own(settings: Settings, api: KubeApi, namespace: str, name: str) -> list[Right]:
    """What a cluster agent needs for its own work: its key's Secret, and nodes where it may do anything with them."""
    own: list[Right] = []
    if settings.hub.key_secret:
        own += rights.key(*settings.hub.key_secret.split("/", 1))
    if name:
        nodes = rights.nodes(namespace, name)
        # Every ServiceAccount may read the issuer's documents: they tell nothing about node agents.
        telling = [right for right in nodes if not right.url]
        if len(await _missing(api, telling)) < len(telling):
            own += nodes
    return own


async def _is_gone(lease: str, api: KubeApi) -> bool:
    """Whether the Lease that the agent may not make, and was to find, is not there. Raises KubeError."""
    if not lease:
        return False
    try:
        await api.get(path_of(lease))
    except KubeError as exc:
        if exc.status != 404:
            raise
        return True
    return False


async def _missing(api: KubeApi, wanted: Sequence[Right]) -> list[Right]:
    """Those that are not granted, in their order. Raises KubeError."""
    at_once = asyncio.Semaphore(QUESTIONS)

    async def is_allowed(right: Right) -> bool:
        async with at_once:
            review = await api.post(REVIEWS, right.question())
        status = review.get("status") if isinstance(review, dict) else None
        return isinstance(status, dict) and status.get("allowed") is True

    answers = await asyncio.gather(*map(is_allowed, wanted))
    return [right for right, allowed in zip(wanted, answers, strict=True) if not allowed]
