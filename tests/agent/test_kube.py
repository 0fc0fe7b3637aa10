"""The door to kubernetes_asyncio: deadlines, fresh credentials, no proxy, no secret in a log, and little memory."""

import asyncio
import dataclasses
import json
import logging
import socket
import subprocess
import sys
import time
from concurrent.futures import Future

import pytest

from agent import kube
from agent.kube import KubeApi, KubeError
from agent.kubeconfig import KubeAccess
from agent.relay.addresses import Addresses
from agent.relay.credential import TokenFile
from agent.relay.endpoint import Endpoint, KubeTrust
from tests.agent.apiserver import Pki, api_server, json_answer


class Api:
    """An API server that answers what `answers` says, and remembers the requests."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.heads = []

    async def __call__(self, head, reader, writer):
        self.heads.append(head)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        writer.write(answer)


def access(tmp_path, pki, port, token="one"):
    (tmp_path / "kube-token").write_text(f"{token}\n")
    return KubeAccess(
        Endpoint.from_url(f"https://localhost:{port}"),
        KubeTrust(ca_file=pki.ca_file),
        TokenFile(tmp_path / "kube-token"),
    )


UNAUTHORIZED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}"
CONFLICT = b"HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\n{}"


async def test_a_call_carries_the_agents_own_token_and_a_new_one_after_401(tmp_path):
    pki, script = Pki(tmp_path), Api(json_answer(b'{"a":1}'), UNAUTHORIZED, json_answer(b'{"a":2}'))
    async with api_server(pki, script) as (_, port):
        api = KubeApi(access(tmp_path, pki, port))
        assert await api.get("/version") == {"a": 1}
        (tmp_path / "kube-token").write_text("two\n")
        assert await api.put("/x", {"b": 1}) == {"a": 2}
        await api.close()
        await api.close()
    assert [b"Bearer one" in script.heads[0], b"Bearer two" in script.heads[2]] == [True, True]
    assert b"PUT /x HTTP/1.1" in script.heads[2]
    assert b"Content-Type: application/json\r\n" in script.heads[2]
    assert b"User-Agent: riata-agent/" in script.heads[2]


class Renewing:
    """A credential that is renewed elsewhere, a moment after it was refused."""

    def __init__(self):
        self.token = b"one"

    def authorization(self, now):
        return b"Bearer " + self.token

    def refresh(self):
        renewal = Future()
        asyncio.get_running_loop().call_soon(self._renew, renewal)
        return renewal

    def _renew(self, renewal):
        self.token = b"two"
        renewal.set_result(None)


async def test_a_refused_call_waits_for_the_token_that_is_being_fetched(tmp_path):
    pki, script = Pki(tmp_path), Api(UNAUTHORIZED, json_answer(b'{"a":1}'))
    async with api_server(pki, script) as (_, port):
        api = KubeApi(dataclasses.replace(access(tmp_path, pki, port), credential=Renewing()))
        assert await api.get("/x") == {"a": 1}
        await api.close()
    assert [b"Bearer one" in script.heads[0], b"Bearer two" in script.heads[1]] == [True, True]


async def test_a_patch_is_a_merge_patch_and_null_takes_away(tmp_path):
    bodies = []

    async def script(head, reader, writer):
        size = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        bodies.append((head, await reader.readexactly(size)))
        writer.write(json_answer(b"{}"))

    pki = Pki(tmp_path)
    async with api_server(pki, script) as (_, port):
        api = KubeApi(access(tmp_path, pki, port))
        await api.patch("/api/v1/nodes/a", {"metadata": {"labels": {"x/y": None}}})
        await api.close()
    ((head, body),) = bodies
    assert head.startswith(b"PATCH /api/v1/nodes/a ")
    assert b"Content-Type: application/merge-patch+json\r\n" in head
    assert json.loads(body) == {"metadata": {"labels": {"x/y": None}}}


async def test_errors_have_a_status_and_no_body(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    pki = Pki(tmp_path)
    async with api_server(pki, Api(CONFLICT, json_answer(b"c2VjcmV0"))) as (_, port):
        api = KubeApi(access(tmp_path, pki, port))
        with pytest.raises(KubeError) as caught:
            await api.get("/x")
        assert caught.value.status == 409
        with pytest.raises(KubeError, match="malformed") as caught:
            await api.get("/x")
        await api.close()
    assert "c2VjcmV0" not in caplog.text + str(caught.value)


async def test_a_redirect_is_not_followed(tmp_path):
    """Whoever answers it would else have the agent's token at any host, and the agent would believe what that says."""
    pki, elsewhere = Pki(tmp_path), Api(json_answer(b'{"stolen":1}'))
    async with api_server(pki, elsewhere) as (_, other):
        moved = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: https://localhost:%d/x\r\nContent-Length: 0\r\n\r\n"
        async with api_server(pki, Api(moved % other)) as (_, port):
            api = KubeApi(access(tmp_path, pki, port))
            with pytest.raises(KubeError) as caught:
                await api.get("/x")
            assert caught.value.status == 307
            await api.close()
    assert elsewhere.heads == []


async def test_a_deadline_and_a_bound(tmp_path, monkeypatch):
    pki = Pki(tmp_path)

    async def silent(head, reader, writer):
        await reader.read()

    async with api_server(pki, silent) as (_, port):
        monkeypatch.setattr(kube, "TIMEOUT", 0.2)
        api = KubeApi(access(tmp_path, pki, port))
        with pytest.raises(KubeError) as caught:
            await api.get("/x")
        assert caught.value.status == 0
        await api.close()
    async with api_server(pki, Api(json_answer(b'"' + b"x" * 100 + b'"'))) as (_, port):
        monkeypatch.setattr(kube, "TIMEOUT", 5.0)
        monkeypatch.setattr(kube, "ANSWER_BYTES_MAX", 99)
        api = KubeApi(access(tmp_path, pki, port))
        with pytest.raises(KubeError, match="too big"):
            await api.get("/x")
        await api.close()


async def test_no_proxy_of_the_environment_and_no_other_ca(tmp_path, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    pki, other = Pki(tmp_path), Pki(tmp_path, "other")
    async with api_server(pki, Api(json_answer(b"{}"))) as (_, port):
        api = KubeApi(access(tmp_path, pki, port))
        assert await api.get("/x") == {}
        pki.ca_file.write_bytes(other.ca_file.read_bytes())  # replaced while it runs: noticed at the next call
        with pytest.raises(KubeError):
            await api.get("/x")
        await api.close()


async def test_a_name_that_no_resolver_can_be_asked_for(tmp_path):
    found = dataclasses.replace(access(tmp_path, Pki(tmp_path), 1), endpoint=Endpoint.from_url("https://a..b:6443"))
    api = KubeApi(found)
    with pytest.raises(KubeError, match="cannot be asked"):
        await api.get("/x")
    await api.close()


def test_loading_is_light_and_late():
    """A process of its own: nothing of it before it is used, and then not its 700 models."""
    code = (
        "import sys; import agent.app, agent.uplink.enrolment;"
        " early = bool({'kubernetes_asyncio', 'aiohttp'} & set(sys.modules));"
        " import agent.keysecret; agent.kube.load(); import kubernetes_asyncio.client.api_client;"
        " print(early, len([m for m in sys.modules if '.models.' in m]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.split() == ["False", "0"]


async def test_calls_at_once_share_one_client(tmp_path):
    """Each would make its own otherwise, and all but the last would stay open."""
    pki, script = Pki(tmp_path), Api(json_answer(b'{"a":1}'))
    async with api_server(pki, script) as (server, port):
        api = KubeApi(access(tmp_path, pki, port))
        assert await asyncio.gather(*(api.post("/reviews", {}) for _ in range(6))) == [{"a": 1}] * 6
        assert server.connections <= 4
        await api.close()
    assert b"POST /reviews HTTP/1.1" in script.heads[0]


async def test_the_control_planes_endpoints_are_a_way_while_the_service_is_none(tmp_path):
    pki, script, file = Pki(tmp_path), Api(json_answer(b'{"a":1}')), tmp_path / "endpoints"
    async with api_server(pki, script) as (_, port):
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))  # nobody listens there
            endpoint = Endpoint.from_url(f"https://127.0.0.1:{closed.getsockname()[1]}", server_name="localhost")
            addresses = Addresses(endpoint, file, clock=time.monotonic)
            found = dataclasses.replace(access(tmp_path, pki, port), endpoint=endpoint, addresses=addresses)
            api = KubeApi(found)
            with pytest.raises(KubeError, match="cannot be asked"):
                await api.get("/x")
            file.write_text(f"127.0.0.1:{port}\n")
            addresses._looked_at = float("-inf")
            assert await api.get("/x") == {"a": 1}
            await api.close()
    assert b"Host: " + endpoint.authority + b"\r\n" in script.heads[0]
    assert b"invalid" not in script.heads[0]


async def test_an_endpoint_without_the_clusters_certificate_is_told_nothing(tmp_path):
    (tmp_path / "other").mkdir()
    pki, stranger, script = Pki(tmp_path), Pki(tmp_path / "other"), Api(json_answer(b"{}"))
    async with api_server(stranger, script) as (_, port):
        endpoint = Endpoint.from_url(f"https://127.0.0.1:{port}", server_name="localhost")
        addresses = Addresses(endpoint, None, clock=time.monotonic)
        api = KubeApi(dataclasses.replace(access(tmp_path, pki, port), endpoint=endpoint, addresses=addresses))
        with pytest.raises(KubeError, match="cannot be asked"):
            await api.get("/x")
        await api.close()
    assert script.heads == []
