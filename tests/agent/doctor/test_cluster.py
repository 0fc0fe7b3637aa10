"""The cluster's side: each fault at the API server is found, and the rights are those of one profile."""

import base64
import json
import time

import pytest

from agent.config import HubSettings, KubeSettings, Settings
from agent.doctor import cluster, rights
from agent.kube import KubeApi
from agent.kubeconfig import KubeAccess
from agent.relay.addresses import Addresses
from agent.relay.credential import TokenFile
from agent.relay.endpoint import Endpoint, KubeTrust
from proto.causes import Level
from tests.agent.apiserver import Pki, api_server, json_answer
from tests.agent.doctor.test_way import free_port

NAMESPACE = "riata-system"
UNAUTHORIZED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}"


def token(subject):
    body = base64.urlsafe_b64encode(json.dumps({"sub": subject}).encode()).decode().rstrip("=")
    return f"h.{body}.s"


class Api:
    """An API server that grants `granted`, each as the golden files write it."""

    def __init__(self, granted=(), *, answer=None, gone=None):
        self.granted = {str(right) for right in granted}
        self.answer = answer
        self.gone = gone
        """What is in the path of an object that is not there."""

    async def __call__(self, head, reader, writer):
        length = [line for line in head.decode().lower().split("\r\n") if line.startswith("content-length:")]
        body = await reader.readexactly(int(length[0].split(":")[1])) if length else b""
        if self.answer is not None:
            writer.write(self.answer)
        elif self.gone and self.gone in head.split(b"\r\n", 1)[0]:
            writer.write(json_answer(b"{}", b"404 Not Found"))
        elif body:
            writer.write(json_answer(json.dumps({"status": {"allowed": self._has(json.loads(body)["spec"])}}).encode()))
        else:
            writer.write(json_answer(b'{"gitVersion":"v1.37.2"}'))

    def _has(self, spec):
        if "nonResourceAttributes" in spec:
            asked = spec["nonResourceAttributes"]
            return str(rights.Right(asked["verb"], url=asked["path"])) in self.granted
        asked = spec["resourceAttributes"]
        parts = [asked["resource"], *([asked["subresource"]] if "subresource" in asked else [])]
        right = rights.Right(
            asked["verb"], asked.get("group", ""), "/".join(parts), asked.get("name", ""), asked.get("namespace", "")
        )
        return str(right) in self.granted


async def examine(
    tmp_path, pki, port, *, name="riata-agent", mode="cluster", ca_file=None, has_token=True, host="localhost",
    endpoints_file=None, fallback_lease="",
):  # fmt: skip
    file = tmp_path / "kube-token"
    if has_token:
        file.write_text(token(f"system:serviceaccount:{NAMESPACE}:{name}"))
    hub = HubSettings(
        url="https://hub.test",
        ca_pins=("sha256:" + "0" * 64,),
        key_secret=f"{NAMESPACE}/riata-agent-key" if mode == "cluster" else "",
    )
    settings = Settings(
        hub=hub,
        kube=KubeSettings(url="https://x.test", ca_file=pki.ca_file, token_file=file),
        mode=mode,
        fallback_lease=fallback_lease,
    )
    endpoint = Endpoint.from_url(f"https://{host}:{port}", server_name="localhost")
    access = KubeAccess(
        endpoint,
        KubeTrust(ca_file=ca_file or pki.ca_file),
        TokenFile(file),
        Addresses(endpoint, endpoints_file, clock=time.monotonic),
    )
    api = KubeApi(access)
    found = await cluster.examine(settings, access, api)
    await api.close()
    assert [finding.check for finding in found] == ["kube", "kube-token", "rbac"]
    return found


async def rbac(tmp_path, granted, **more):
    pki = Pki(tmp_path)
    async with api_server(pki, Api(granted)) as (_, port):
        return (await examine(tmp_path, pki, port, **more))[-1]


KEY = rights.key(NAMESPACE, "riata-agent-key")
NODES = rights.nodes(NAMESPACE, "riata-agent")


@pytest.mark.parametrize("profile", rights.PROFILES)
@pytest.mark.parametrize("nodes", [(), NODES], ids=["alone", "with-nodes"])
async def test_every_right_of_a_profile(tmp_path, profile, nodes):
    granted = [*rights.PROFILES[profile], *KEY, *nodes]
    finding = await rbac(tmp_path, granted)
    assert finding.level is Level.OK
    assert f"the {len(granted)} rights of profile {profile}" in finding.what


@pytest.mark.parametrize("profile", rights.PROFILES)
@pytest.mark.parametrize("number", range(8))
async def test_each_missing_right_is_named(tmp_path, profile, number):
    """One in turn of the profile's first ones, the key's and those for node agents."""
    granted = [*rights.PROFILES[profile], *KEY, *NODES]
    gone = granted.pop([0, 1, 2, -1, -3, -7, -9, -11][number])
    finding = await rbac(tmp_path, granted)
    assert (finding.level, finding.cause) == (Level.FAIL, "rbac-missing")
    assert f"1 of the {len(granted) + 1} rights of profile {profile} are missing: {gone}." in f"{finding.what}."
    assert "Apply the agent's chart" in finding.cure
    assert "system:serviceaccount:riata-system:riata-agent" in finding.cure


@pytest.mark.parametrize(("gone", "cause"), [(b"/leases/riata-agent ", "rbac-no-lease"), (None, "")])
async def test_a_lease_that_was_never_applied(tmp_path, gone, cause):
    """As by Argo CD, which leaves Leases out."""
    pki, granted = Pki(tmp_path), [*rights.PROFILES["impersonate"], *KEY, *NODES]
    async with api_server(pki, Api(granted, gone=gone)) as (_, port):
        found = (await examine(tmp_path, pki, port, fallback_lease=f"{NAMESPACE}/riata-agent"))[-1]
    assert (found.level, found.cause) == (Level.FAIL if cause else Level.OK, cause)
    assert not cause or ("riata-system/riata-agent" in found.what and "resource.exclusions" in found.cure)


async def test_no_right_at_all(tmp_path):
    finding = await rbac(tmp_path, [])
    assert "5 of the 5 rights of profile impersonate are missing" in finding.what


async def test_many_missing_rights_are_counted(tmp_path):
    finding = await rbac(tmp_path, [*rights.PROFILES["read-only"][:4], *KEY])
    assert finding.what.endswith("more")
    assert "read-only" in finding.what


async def test_node_agents(tmp_path):
    assert "needs no rights" in (await rbac(tmp_path, [], mode="node", name="riata-agent-node")).what
    fallback = {"mode": "node", "name": "riata-agent-node-fallback"}  # as in its pod
    assert (await rbac(tmp_path, rights.PROFILES["impersonate"], **fallback)).level is Level.OK
    assert (await rbac(tmp_path, rights.PROFILES["impersonate"][1:], **fallback)).cause == "rbac-missing"


async def test_the_issuers_documents_alone_mean_no_node_agents(tmp_path):
    """Kubernetes lets every ServiceAccount read them."""
    urls = [right for right in NODES if right.url]
    assert (await rbac(tmp_path, [*rights.PROFILES["impersonate"], *KEY, *urls])).level is Level.OK


async def test_an_api_server_that_is_not_there(tmp_path):
    server, token_, rbac_ = await examine(tmp_path, Pki(tmp_path), free_port())
    assert (server.cause, "--kube-url" in server.cure) == ("kube-unreachable", True)
    assert [token_.level, rbac_.level] == [Level.NOT_RUN, Level.NOT_RUN]
    assert "kube failed" in rbac_.what


def endpoints(tmp_path, *ports):
    """The file of the control plane's endpoints."""
    file = tmp_path / "endpoints"
    file.write_text("".join(f"127.0.0.1:{port}\n" for port in ports))
    return file


async def test_an_endpoint_that_answers_for_a_service_that_does_not_is_a_warning(tmp_path):
    """As where kube-proxy has not come up: the agent serves, and the other checks go by the same way."""
    pki, granted = Pki(tmp_path), [*rights.PROFILES["impersonate"], *KEY]
    async with api_server(pki, Api(granted)) as (_, port):
        file = endpoints(tmp_path, free_port(), port)
        server, token_, rbac_ = await examine(tmp_path, pki, free_port(), host="127.0.0.1", endpoints_file=file)
    assert (server.level, server.cause) == (Level.WARN, "kube-around")
    assert f"127.0.0.1:{port}" in server.what
    assert "connection refused" in server.what
    assert (token_.level, rbac_.level) == (Level.OK, Level.OK), rbac_


async def test_a_service_that_answers_is_no_matter_of_the_endpoints(tmp_path):
    pki = Pki(tmp_path)
    async with api_server(pki, Api()) as (_, port):
        server, *_ = await examine(tmp_path, pki, port, endpoints_file=endpoints(tmp_path, free_port()))
    assert server.level is Level.OK


async def test_endpoints_that_do_not_answer_either_leave_what_is_said_of_the_service(tmp_path):
    pki, stranger, service = Pki(tmp_path), Pki(tmp_path, "other"), free_port()
    async with api_server(stranger, Api()) as (other, port):
        server, token_, _ = await examine(tmp_path, pki, service, endpoints_file=endpoints(tmp_path, free_port(), port))
        assert other.heads == []
    assert (server.cause, f"localhost:{service}" in server.what) == ("kube-unreachable", True)
    assert token_.level is Level.NOT_RUN


async def test_an_api_server_of_another_ca(tmp_path):
    pki, other = Pki(tmp_path), Pki(tmp_path, "other")
    async with api_server(pki, Api()) as (_, port):
        server, *_ = await examine(tmp_path, pki, port, ca_file=other.ca_file)
        assert (server.cause, "kube-root-ca.crt" in server.cure) == ("kube-other-ca", True)
        server, *_ = await examine(tmp_path, pki, port, ca_file=tmp_path / "none")
        assert (server.cause, "is missing" in server.what) == ("kube-other-ca", True)


async def test_a_token_that_is_missing_or_refused(tmp_path):
    pki = Pki(tmp_path)
    async with api_server(pki, Api()) as (_, port):
        _, token_, rbac_ = await examine(tmp_path, pki, port, has_token=False)
    assert (token_.cause, "kube-api-access" in token_.cure, rbac_.level) == ("kube-token", True, Level.NOT_RUN)
    async with api_server(pki, Api(answer=UNAUTHORIZED)) as (_, port):
        _, token_, _ = await examine(tmp_path, pki, port)
    assert (token_.cause, "restart the pod" in token_.cure) == ("kube-unauthorized", True)


async def test_an_api_server_that_is_ill(tmp_path):
    pki = Pki(tmp_path)
    async with api_server(pki, Api(answer=json_answer(b"{}", b"500 Internal Server Error"))) as (_, port):
        server, *_ = await examine(tmp_path, pki, port)
    assert (server.cause, "500" in server.what) == ("kube-answer", True)


async def test_rights_that_cannot_be_asked_for_are_a_warning(tmp_path):
    pki = Pki(tmp_path)
    async with api_server(pki, Api(answer=json_answer(b"{}", b"403 Forbidden"))) as (_, port):
        *_, finding = await examine(tmp_path, pki, port)
    assert (finding.cause, finding.level) == ("rbac-unasked", Level.WARN)
