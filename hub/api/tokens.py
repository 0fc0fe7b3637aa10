"""`/v1/tokens` and `/v1/whoami`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Final

from hub.api import models
from hub.api.clusters import visible_cluster
from hub.api.lists import listed
from hub.api.routes import Call, Reply, Route, Who
from hub.api.services import Holder, Services
from hub.audit import Audit
from hub.auth.descendants import made_with
from hub.auth.principal import Principal
from hub.auth.tokens import LINEAGE_MAX, TokenRecord, compact, tell
from hub.clock import rfc3339
from hub.errors import Conflict, NotFound, PermissionDenied, TooManyRequests, Unauthenticated

NAMED_MAX: Final = 100_000
"""Clusters that the tokens of one user name together: 52 bytes each in every worker, and a name in each list."""
FAMILIES_MAX: Final = 4
"""Revocations with descendants of one user under way in one worker, of tokens that exist or are gone: each looks
through all tokens, and all changes of everybody have room for UNFINISHED_MAX (hub.api.server)."""


async def whoami(call: Call) -> Reply:
    caller, services = call.caller, call.services
    record = services.token_index.get(caller.token_id)
    return Reply(
        models.WhoAmI(
            user=caller.user,
            groups=list(caller.groups),
            admin=caller.is_admin,
            token=caller.token_id,
            token_expires_at=None if record is None else _time(record.expires_at),
            clusters=services.cluster_index.names_of(caller.cluster_uids),
        )
    )


async def list_tokens(call: Call) -> Reply:
    """As `models.TokenList`. A token that is limited to clusters does not see wider ones: it may be in the hands of a
    program."""
    caller, services = call.caller, call.services
    records = [record for record in services.token_index if _may_revoke(caller, record)]
    records.sort(key=lambda record: (record.created_at, record.id))
    return await listed(records, lambda record: _shown(services, record))


async def create_token(call: Call) -> Reply:
    body = call.body
    assert isinstance(body, models.TokenRequest)
    caller, services = call.caller, call.services
    user = body.user if body.user is not None else caller.user
    cluster_uids = _scope(services, caller, body)
    own = _own(services, caller)
    lineage = _lineage(own)
    async with _room_for_one(services, caller, len(cluster_uids or ())):
        record, minted, revision = await services.tokens.create(
            name=body.name,
            user=user,
            groups=_groups(caller, user, body),
            lifetime_s=_lifetime(services, caller, own, body.expires_in_seconds),
            created_by=caller.user,
            cluster_uids=cluster_uids,
            lineage=lineage,
        )
        _tell(Audit.TOKEN_MADE, call, record)
        await services.follower.reached(revision)
        if services.token_index.get(own.id) is None or services.token_index.is_closed(record):
            # Who revoked it may have looked already for what it made.
            await _revoke(call, [record])
            raise Unauthenticated
    shown = _shown(services, record).model_dump(by_alias=False)
    return Reply(models.NewToken(**shown, token=minted.text), 201)


async def revoke_token(call: Call) -> Reply:
    """Somebody else's token and one that does not exist are alike for those who do not administer the hub."""
    caller, services, token_id = call.caller, call.services, call.path["id"]
    record = services.token_index.get(token_id)
    if not caller.is_admin and (record is None or not _is_own(caller, record)):
        raise _denied(token_id)
    if record is None or not await _revoke(call, [record]):
        raise NotFound("there is no such token", kind="tokens", name=token_id)
    return Reply(None, 204)


async def show_with_descendants(call: Call) -> Reply:
    """What `revoke_with_descendants` would end: the last origin alone, as shown of each token, does not tell where one
    in between is gone."""
    return await listed(await _family(call), lambda record: _shown(call.services, record))


async def revoke_with_descendants(call: Call) -> Reply:
    """Answers with those that were revoked. The token itself may be gone: who revoked a stolen one alone learns later
    what the thief made with it."""
    services, token_id = call.services, call.path["id"]
    was_closed = token_id in services.token_index.closed
    with _one_of_few(call):
        try:
            whole = await _family(call)
        except NotFound:
            if was_closed:  # by a revocation that was cut short
                await services.tokens.revoke(token_id)
            raise
        root = whole[0] if whole[0].id == token_id else None
        closed = await services.tokens.close(token_id)
        if root is not None:
            _tell(Audit.TOKEN_REVOKED, call, root)
        await services.follower.reached(closed)
        found = await made_with(services.token_index, token_id)  # with what came before it was closed
        revoked = await _revoke(call, (record for record in found if _may_revoke(call.caller, record)))
        await services.tokens.revoke(token_id)
    return await listed([root, *revoked] if root is not None else revoked, lambda record: _shown(services, record))


async def _family(call: Call) -> list[TokenRecord]:
    """The token, if it still exists, and what was made with it. Raises PermissionDenied, NotFound."""
    caller, index, token_id = call.caller, call.services.token_index, call.path["id"]
    root = index.get(token_id)
    if root is not None and not _may_revoke(caller, root):  # before all are looked through: anybody may ask
        raise _denied(token_id)
    found = await made_with(index, token_id)
    whole = found if root is None else [root, *found]
    if not whole and caller.is_admin:
        raise NotFound("there is no such token, and none that was made with it", kind="tokens", name=token_id)
    if not whole or not all(_may_revoke(caller, record) for record in whole):
        raise _denied(token_id)
    return whole


def _denied(token_id: str) -> PermissionDenied:
    return PermissionDenied("you may only revoke your own tokens", kind="tokens", name=token_id)


@contextlib.contextmanager
def _one_of_few(call: Call) -> Iterator[None]:
    """Until it is done, though nobody waits any more. Of tokens that are gone apart: a thief may ask for those as often
    as he likes, and keeps nobody from ending the stolen one. Raises TooManyRequests."""
    under_way, is_there = call.services.families, call.services.token_index.get(call.path["id"]) is not None
    which = Holder.of(call.caller), is_there
    if under_way[which] >= FAMILIES_MAX:
        raise TooManyRequests(
            f"{FAMILIES_MAX} of your revocations with descendants are under way, which is as many as may: wait for one"
        )
    under_way[which] += 1
    try:
        yield
    finally:
        under_way[which] -= 1
        if not under_way[which]:
            del under_way[which]


async def _revoke(call: Call, records: Iterable[TokenRecord]) -> list[TokenRecord]:
    """Those that existed, when nobody is served by them any more."""
    revoked: list[TokenRecord] = []
    newest = 0
    for record in records:
        revision = await call.services.tokens.revoke(record.id)
        if revision is not None:
            _tell(Audit.TOKEN_REVOKED, call, record)
            revoked.append(record)
            newest = revision
    if revoked:
        await call.services.follower.reached(newest)
    return revoked


@contextlib.asynccontextmanager
async def _room_for_one(services: Services, caller: Principal, named: int) -> AsyncIterator[None]:
    """Keep the caller's records within their bounds until the new one, with so many clusters, is in the index. Raises
    Conflict.

    Those that have expired are records too, and the oldest make room: who makes many short ones is never locked out.
    """
    if caller.is_admin:
        yield
        return
    user, making, limit = caller.user, services.tokens_in_the_making, services.settings.tokens_per_user_max
    naming = services.clusters_in_the_making
    own = [record for record in services.token_index if record.user == user]
    expired = [record for record in own if record.is_expired(services.clock())]
    expired.sort(key=lambda record: (record.expires_at or 0.0, record.id), reverse=True)
    excess = len(own) + making[user] + 1 - limit
    excess_named = sum(map(_named, own)) + naming[user] + named - NAMED_MAX
    go: list[str] = []
    while excess > 0 or (named and excess_named > 0):
        if not expired and excess > 0:
            raise Conflict(f"you have {limit} valid tokens, which is as many as you may: revoke some first")
        if not expired:
            raise Conflict(f"your valid tokens name {NAMED_MAX} clusters together at most: revoke some first")
        oldest = expired.pop()
        excess, excess_named = excess - 1, excess_named - _named(oldest)
        go.append(oldest.id)
    making[user] += 1
    naming[user] += named
    try:
        for token_id in go:
            await services.tokens.revoke(token_id)
        yield
    finally:
        making[user] -= 1
        naming[user] -= named
        if not making[user]:
            del making[user], naming[user]


def _named(record: TokenRecord) -> int:
    return len(record.cluster_uids or ())


def _tell(event: Audit, call: Call, record: TokenRecord) -> None:
    clusters, caller = call.services.cluster_index.names_of(record.cluster_uids), call.caller
    tell(event, record, clusters, by=caller.user, by_token=caller.token_id, peer=call.peer)


def _may_revoke(caller: Principal, record: TokenRecord) -> bool:
    return caller.is_admin or _is_own(caller, record)


def _is_own(caller: Principal, record: TokenRecord) -> bool:
    """The caller's own, and not wider than what the caller holds."""
    if record.user != caller.user or not set(record.groups) <= set(caller.groups):
        return False
    if caller.cluster_uids is None:
        return True
    return record.cluster_uids is not None and record.cluster_uids <= caller.cluster_uids


def _groups(caller: Principal, user: str, body: models.TokenRequest) -> tuple[str, ...]:
    if caller.is_admin:
        if body.groups is None:
            return caller.groups if user == caller.user else ()
        return tuple(dict.fromkeys(body.groups))
    if user != caller.user:
        raise PermissionDenied("only hub administrators make tokens for others")
    groups = caller.groups if body.groups is None else tuple(dict.fromkeys(body.groups))
    if not set(groups) <= set(caller.groups):
        raise PermissionDenied("a token has at most the groups of the token that makes it")
    return groups


def _own(services: Services, caller: Principal) -> TokenRecord:
    """Raises Unauthenticated when the caller's token has just been revoked: nothing bounds the new one's life then."""
    own = services.token_index.get(caller.token_id)
    if own is None or services.token_index.is_closed(own):
        raise Unauthenticated
    return own


def _lineage(own: TokenRecord) -> tuple[str, ...]:
    """Raises Conflict."""
    if len(own.lineage) >= LINEAGE_MAX:
        raise Conflict(
            f"the token that makes this one descends from {LINEAGE_MAX} others, which is as many as may: have an "
            "administrator make a new one, or `riata login` with another"
        )
    return own.lineage_below


def _lifetime(services: Services, caller: Principal, own: TokenRecord, wanted_s: int) -> float:
    """As TokenRequest of Kubernetes: a life that is too long is shortened, and `expiresAt` tells."""
    lifetime = min(float(wanted_s), services.settings.token_lifetime_max_s)
    if not caller.is_admin and own.expires_at is not None:
        lifetime = min(lifetime, own.expires_at - services.clock())
    return lifetime


def _scope(services: Services, caller: Principal, body: models.TokenRequest) -> frozenset[str] | None:
    if body.clusters is None:
        return caller.cluster_uids
    return compact(visible_cluster(services, caller, name).uid for name in body.clusters)


def _shown(services: Services, record: TokenRecord) -> models.Token:
    return models.Token(
        id=record.id,
        name=record.name,
        user=record.user,
        groups=list(record.groups),
        clusters=services.cluster_index.names_of(record.cluster_uids),
        created_at=rfc3339(record.created_at),
        created_by=record.created_by,
        created_with=record.created_with,
        expires_at=_time(record.expires_at),
    )


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else rfc3339(seconds)


ROUTES = (
    Route(
        method="GET", path="/v1/whoami", name="whoAmI", who=Who.PRINCIPAL, handler=whoami,
        summary="Whom the hub takes the caller for.", replies={200: models.WhoAmI},
    ),
    Route(
        method="GET", path="/v1/tokens", name="listTokens", who=Who.PRINCIPAL, handler=list_tokens,
        summary="Tokens without their secrets: the caller's own, or all for hub administrators.",
        replies={200: models.TokenList},
    ),
    Route(
        method="POST", path="/v1/tokens", name="createToken", who=Who.PRINCIPAL, handler=create_token,
        summary="Make a token; its text is shown once. Only hub administrators make them for others or wider than "
        "their own.",
        request=models.TokenRequest, replies={201: models.NewToken}, errors=(NotFound, Conflict),
    ),
    Route(
        method="DELETE", path="/v1/tokens/{id}", name="revokeToken", who=Who.PRINCIPAL, handler=revoke_token,
        summary="Revoke a token and cut what runs on it.", replies={204: None}, errors=(NotFound,),
    ),
    Route(
        method="GET", path="/v1/tokens/{id}/with-descendants", name="showTokenWithDescendants", who=Who.PRINCIPAL,
        handler=show_with_descendants, replies={200: models.TokenList}, errors=(NotFound,),
        summary="A token, if it still exists, and every token that was made with it, or with one of those.",
    ),
    Route(
        method="DELETE", path="/v1/tokens/{id}/with-descendants", name="revokeTokenWithDescendants", who=Who.PRINCIPAL,
        handler=revoke_with_descendants, replies={200: models.TokenList}, errors=(NotFound, TooManyRequests),
        summary="Revoke a token, if it still exists, and every token that was made with it, or with one of those; cut "
        "what runs on them.",
    ),
)  # fmt: skip
