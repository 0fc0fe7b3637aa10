"""Stored records for the tests of the indexes."""

from __future__ import annotations

from hub.auth import agentkeys, agents, grants, jointokens, tokens
from hub.auth.agentkeys import AgentKey, PublicKey
from hub.auth.agents import AgentToken
from hub.auth.grants import EVERY_CLUSTER, Grant, Role
from hub.auth.jointokens import JoinToken
from hub.auth.tokens import TokenRecord
from hub.store.model import Event, Key, Resource


def token(token_id: str = "t" * 10, **changes: object) -> TokenRecord:
    values: dict[str, object] = {
        "id": token_id, "name": "n", "user": "jane", "groups": ("dev",), "digest": b"d" * 32, "created_at": 1.0,
        "expires_at": None, "created_by": "admin", "cluster_uids": None,
    }  # fmt: skip
    return TokenRecord(**{**values, **changes})  # type: ignore[arg-type]


def agent_token(token_id: str = "g" * 10, **changes: object) -> AgentToken:
    values: dict[str, object] = {
        "id": token_id, "cluster_uid": "uid-a", "name": "n", "digest": b"d" * 32, "created_at": 1.0,
        "expires_at": None, "created_by": "admin",
    }  # fmt: skip
    return AgentToken(**{**values, **changes})  # type: ignore[arg-type]


def agent_key(agent_id: str = "k" * 10, key: bytes = b"k" * 32, **changes: object) -> AgentKey:
    values: dict[str, object] = {
        "id": agent_id, "cluster_uid": "uid-a", "role": "cluster", "keys": (PublicKey(key, 1.0),), "created_at": 1.0,
        "joined_from": "192.0.2.7:1",
    }  # fmt: skip
    return AgentKey(**{**values, **changes})  # type: ignore[arg-type]


def join_token(token_id: str = "j" * 10, **changes: object) -> JoinToken:
    values: dict[str, object] = {
        "id": token_id, "cluster_uid": "uid-a", "digest": b"d" * 32, "created_at": 1.0, "expires_at": 901.0,
        "created_by": "admin",
    }  # fmt: skip
    return JoinToken(**{**values, **changes})  # type: ignore[arg-type]


Record = TokenRecord | AgentToken | AgentKey | JoinToken | Grant


def grant(name: str = "g", **changes: object) -> Grant:
    values: dict[str, object] = {
        "name": name, "user": "jane", "group": "", "cluster_uid": EVERY_CLUSTER, "role": Role.USE, "created_at": 1.0,
        "created_by": "admin",
    }  # fmt: skip
    return Grant(**{**values, **changes})  # type: ignore[arg-type]


def stored(record: Record, revision: int = 1) -> Resource:
    if isinstance(record, TokenRecord):
        key = Key(tokens.KIND, "", record.id)
    elif isinstance(record, AgentToken):
        key = Key(agents.KIND, record.cluster_uid, record.id)
    elif isinstance(record, AgentKey):
        key = Key(agentkeys.KIND, record.cluster_uid, record.id)
    elif isinstance(record, JoinToken):
        key = Key(jointokens.KIND, record.cluster_uid, record.id)
    else:
        key = Key(grants.KIND, "", record.name)
    return Resource(key, record.spec(), {}, "uid", revision)


def made(record: Record) -> Event:
    return Event(stored(record), False)


def gone(record: Record) -> Event:
    return Event(stored(record, 2), True)
