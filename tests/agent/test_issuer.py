"""Registering the token issuer: found, told once, told again when it changes, and never in the way."""

import asyncio
import base64
import json

import pytest

from agent import issuer as module
from agent.issuer import IssuerRegistration
from agent.kube import KubeError
from agent.kubeconfig import KubeAccess
from proto.aio.commands import CommandServer
from proto.aio.tasks import TaskGroup
from proto.commands import REGISTER_ISSUER, Nothing, to_ext
from proto.errors import Code, StreamReset
from tests.proto.aio.fakes import Wire

KEY = {"kty": "RSA", "kid": "k", "alg": "RS256", "use": "sig", "n": "AA", "e": "AQAB"}


class Api:
    def __init__(self):
        self.keys = {"keys": [{**KEY, "x-extra": "dropped"}]}
        self.discovery = {"issuer": "https://kubernetes.default.svc"}
        self.fail = False

    async def get(self, path):
        if self.fail:
            raise KubeError(403, "forbidden")
        return self.keys if path == "/openid/v1/jwks" else self.discovery


class Credential:
    def __init__(self, subject="system:serviceaccount:riata-system:riata-agent"):
        payload = base64.urlsafe_b64encode(json.dumps({"sub": subject}).encode()).rstrip(b"=")
        self.value = b"Bearer x." + payload + b".y"

    def authorization(self, now):
        return self.value


async def run_for(api, credential, seconds, monkeypatch, change=None, *, is_old=False):
    """What the hub was told within `seconds`. `is_old`: a hub that knows of no fallback."""
    monkeypatch.setattr(module, "INTERVAL_S", 0.01)
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    told = []

    async def register(args):
        if is_old and "fallback" in to_ext(args):
            raise StreamReset("malformed RegisterIssuer", Code.PROTOCOL)
        told.append(args)
        return Nothing()

    async with Wire() as wire, TaskGroup("agent") as group:
        server = CommandServer({REGISTER_ISSUER: register}, group)
        wire.hub._delivery._on_open = lambda stream, kind, cls, message: server.on_open(stream, message)
        duty = IssuerRegistration(api, KubeAccess(None, None, credential))
        group.spawn(duty.tend(wire.agent, None), name="tend")
        await asyncio.sleep(seconds)
        if change is not None:
            change()
            await asyncio.sleep(seconds)
    return told


async def test_told_once_and_again_when_it_changes(monkeypatch):
    api = Api()

    def rotate():
        api.keys = {"keys": [KEY, {**KEY, "kid": "new"}]}

    first, second = await run_for(api, Credential(), 0.08, monkeypatch, rotate)
    assert first.issuer == "https://kubernetes.default.svc"
    assert json.loads(first.jwks) == {"keys": [KEY]}
    name = "system:serviceaccount:riata-system:riata-agent"
    assert first.subjects == (f"{name}-node", f"{name}-node-fallback")
    assert first.fallback == f"{name}-node-fallback"
    assert len(json.loads(second.jwks)["keys"]) == 2


async def test_a_hub_one_version_older_is_told_what_it_knows(monkeypatch, caplog):
    (told,) = await run_for(Api(), Credential(), 0.08, monkeypatch, is_old=True)
    assert len(told.subjects) == 2
    assert told.fallback == ""
    assert "no node agent serves requests" in caplog.text


async def test_an_api_server_that_refuses_is_asked_again(monkeypatch, caplog):
    api = Api()
    api.fail = True

    def mend():
        api.fail = False

    assert len(await run_for(api, Credential(), 0.08, monkeypatch, mend)) == 1
    assert "token issuer is not registered" in caplog.text


@pytest.mark.parametrize(
    ("keys", "discovery", "subject"),
    [
        ([], {"issuer": "x"}, "system:serviceaccount:a:b"),
        ({"keys": ["x"]}, {"issuer": "x"}, "system:serviceaccount:a:b"),
        ({"keys": [KEY]}, {"issuer": 7}, "system:serviceaccount:a:b"),
        ({"keys": [KEY]}, [], "system:serviceaccount:a:b"),
        ({"keys": [KEY]}, {"issuer": "x"}, "admin"),
    ],
)
async def test_malformed_answers_register_nothing(monkeypatch, keys, discovery, subject):
    api = Api()
    api.keys, api.discovery = keys, discovery
    assert await run_for(api, Credential(subject), 0.05, monkeypatch) == []


async def test_an_agent_without_a_token_of_its_own(monkeypatch):
    credential = Credential()
    credential.value = b""
    assert await run_for(Api(), credential, 0.05, monkeypatch) == []
