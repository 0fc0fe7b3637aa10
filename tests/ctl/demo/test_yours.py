"""A kubeconfig of the user's: which contexts the demo takes, and the one object it makes in their clusters."""

import base64
import json
import pathlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trustme
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from ctl import errors
from ctl.demo import yours

BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"


def _write(path: pathlib.Path, **users: dict[str, Any]) -> pathlib.Path:
    document = {
        "clusters": [{"name": "c", "cluster": {"server": "https://api:6443/"}}],
        "users": [{"name": name, "user": user} for name, user in users.items()],
        "contexts": [{"name": f"{n}@Prod", "context": {"cluster": "c", "user": n}} for n in users],
        "current-context": f"{next(iter(users))}@Prod",
    }
    path.write_text(yaml.safe_dump(document))
    return path


def test_the_current_context_or_those_named(tmp_path: pathlib.Path) -> None:
    file = _write(tmp_path / "c", a={"token": "t"}, b={"token": "t"})
    assert [(y.name, y.server) for y in yours.read(file, [])] == [("a-prod", "https://api:6443")]
    assert [y.context for y in yours.read(file, ["b@Prod", "a@Prod", "b@Prod"])] == ["b@Prod", "a@Prod"]


@pytest.mark.parametrize("contexts", [["nope"], [""]])
def test_a_context_that_is_missing_is_a_usage_error(tmp_path: pathlib.Path, contexts: list[str]) -> None:
    with pytest.raises(errors.UsageError) as caught:
        yours.read(_write(tmp_path / "c", a={"token": "t"}), contexts)
    assert "a@Prod" in caught.value.means


@pytest.mark.parametrize("text", ["[", "- a", "", "contexts: x", "contexts: [x]\ncurrent-context: x"])
def test_what_is_no_kubeconfig_is_a_usage_error(tmp_path: pathlib.Path, text: str) -> None:
    (tmp_path / "c").write_text(text)
    with pytest.raises(errors.UsageError):
        yours.read(tmp_path / "c", [])


def test_an_auth_provider_is_refused_with_a_cure(tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.CommandError) as caught:
        yours.read(_write(tmp_path / "c", a={"auth-provider": {"name": "gcp"}}), [])
    assert "kubectl create token" in caught.value.cure


def test_reading_runs_no_plugin(tmp_path: pathlib.Path) -> None:
    (each,) = yours.read(_write(tmp_path / "c", a={"exec": {"command": "/no/such/plugin"}}), [])
    assert each.user["exec"]["command"] == "/no/such/plugin"


@pytest.mark.parametrize(
    ("context", "name"),
    [
        ("kind-dev", "kind-dev"),
        ("admin@Prod", "admin-prod"),
        ("arn:aws:eks:eu:1:cluster/X", "arn-aws-eks-eu-1-cluster-x"),
        ("1", "c-1"),
        ("ü", "c"),
        ("x" * 90, "x" * 50),
        ("taken", "taken-2"),
    ],
)
def test_names_on_the_hub(context: str, name: str) -> None:
    assert yours.cluster_name(context, {"taken"}) == name


class ApiServer:
    """Keeps bindings; answers `status` to creations."""

    def __init__(self) -> None:
        self.status = 201
        """0: the connection ends without an answer."""
        self.refusal: int | None = None
        """Of what is to be deleted."""
        self.bindings: dict[str, Any] = {}
        self.peers: list[object] = []

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post(BINDINGS, self._create)
        app.router.add_delete(BINDINGS + "/{name}", self._delete)
        return app

    async def _create(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        self.peers.append((request.headers.get("Authorization"), bool(request.transport.get_extra_info("peercert"))))
        if self.status == 201:
            body = await request.json()
            self.bindings[body["metadata"]["name"]] = body
        if not self.status:
            request.transport.abort()
        return web.json_response({}, status=self.status or 201)

    async def _delete(self, request: web.Request) -> web.Response:
        if self.refusal is not None:
            return web.json_response({}, status=self.refusal)
        del self.bindings[request.match_info["name"]]
        return web.json_response({})


def nothing() -> None:
    raise AssertionError("nothing is left")


@pytest.fixture
def api() -> ApiServer:
    return ApiServer()


@pytest.fixture
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def server(api: ApiServer, ca: trustme.CA) -> AsyncIterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_OPTIONAL
    ca.configure_trust(context)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    server = TestServer(api.app(), host="127.0.0.1")
    await server.start_server(ssl=context)
    yield f"https://127.0.0.1:{server.port}"
    await server.close()


def _yours(server: str, ca: trustme.CA, user: dict[str, Any], base: pathlib.Path = pathlib.Path("/")) -> yours.Yours:
    data = base64.b64encode(ca.cert_pem.bytes()).decode()
    return yours.Yours("a", "a", server, {"certificate-authority-data": data}, user, base)


async def test_the_binding_lives_as_long_as_the_block(api: ApiServer, server: str, ca: trustme.CA) -> None:
    async with yours.administrators(_yours(server, ca, {"token": "secret"}), "riata-demo-1", nothing) as made:
        assert made
        assert api.bindings["riata-demo-1"]["subjects"][0]["name"] == "riata:hub:cluster-admins"
    assert api.bindings == {}
    assert api.peers == [("Bearer secret", False)]


async def test_tokens_and_certificates_from_files_beside_the_kubeconfig(
    api: ApiServer, server: str, ca: trustme.CA, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "t").write_text("from-file\n")
    pair = ca.issue_cert("user@example")
    pair.private_key_pem.write_to_path(tmp_path / "key")
    pair.cert_chain_pems[0].write_to_path(tmp_path / "crt")
    user = {"tokenFile": "t", "client-certificate": "crt", "client-key": "key"}
    async with yours.administrators(_yours(server, ca, user, tmp_path), "b", nothing):
        pass
    assert api.peers == [("Bearer from-file", True)]


async def test_the_token_of_an_exec_plugin_beside_the_kubeconfig(
    api: ApiServer, server: str, ca: trustme.CA, tmp_path: pathlib.Path
) -> None:
    script = tmp_path / "plugin"
    script.write_text("""#!/bin/sh\necho '{"status": {"token": "of-the-plugin"}}'\n""")
    script.chmod(0o700)
    user = {"exec": {"command": "./plugin"}, "token": "older"}
    async with yours.administrators(_yours(server, ca, user, tmp_path), "b", nothing):
        pass
    assert api.peers == [("Bearer of-the-plugin", False)]
    assert api.bindings == {}


async def test_a_token_file_wins_over_a_token(
    api: ApiServer, server: str, ca: trustme.CA, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "t").write_text("from-file\n")
    async with yours.administrators(_yours(server, ca, {"tokenFile": "t", "token": "older"}, tmp_path), "b", nothing):
        pass
    assert api.peers == [("Bearer from-file", False)]


async def test_the_name_in_the_certificate_may_be_another(api: ApiServer, ca: trustme.CA) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("kubernetes.test").configure_cert(context)
    server = TestServer(api.app(), host="127.0.0.1")
    await server.start_server(ssl=context)
    each = _yours(f"https://127.0.0.1:{server.port}", ca, {"token": "t"})
    with pytest.raises(errors.CommandError, match="cannot reach"):
        async with yours.administrators(each, "b", nothing):
            pass
    each.cluster["tls-server-name"] = "kubernetes.test"
    async with yours.administrators(each, "b", nothing) as made:
        assert made
    await server.close()


async def test_a_ca_with_comments_in_lines(api: ApiServer, server: str, ca: trustme.CA) -> None:
    each = _yours(server, ca, {"token": "t"})
    noted = base64.encodebytes("# Prüfstelle\n".encode() + ca.cert_pem.bytes()).decode()
    each.cluster["certificate-authority-data"] = noted
    async with yours.administrators(each, "b", nothing) as made:
        assert made


async def test_an_address_that_is_none_is_asked_for_nothing(ca: trustme.CA) -> None:
    with pytest.raises(errors.CommandError, match="cannot reach"):
        async with yours.administrators(_yours("nowhere", ca, {"token": "t"}), "b", nothing):
            pass


async def test_who_may_not_bind_gets_no_binding(api: ApiServer, server: str, ca: trustme.CA) -> None:
    api.status = 403
    async with yours.administrators(_yours(server, ca, {"token": "t"}), "b", nothing) as made:
        assert not made


@pytest.mark.parametrize(("status", "words"), [(401, "refuses the credentials"), (500, "HTTP 500")])
async def test_an_api_server_that_cannot_be_used(
    api: ApiServer, server: str, ca: trustme.CA, status: int, words: str
) -> None:
    api.status = status
    left: list[str] = []
    with pytest.raises(errors.CommandError, match=words):
        async with yours.administrators(_yours(server, ca, {"token": "t"}), "b", lambda: left.append("b")):
            pass
    assert left == (["b"] if status >= 500 else [])  # it may have made it all the same


@pytest.mark.parametrize("refusal", [401, 403, 429, 500, None])
async def test_a_binding_that_may_be_left_is_told(
    api: ApiServer, server: str, ca: trustme.CA, tmp_path: pathlib.Path, refusal: int | None
) -> None:
    """Whoever is told that it is removed does not look; None: the plugin's session has ended meanwhile."""
    script = tmp_path / "plugin"
    script.write_text("""#!/bin/sh\necho '{"status": {"token": "t"}}'\n""")
    script.chmod(0o700)
    left: list[str] = []
    each = _yours(server, ca, {"exec": {"command": "./plugin"}}, tmp_path)
    async with yours.administrators(each, "b", lambda: left.append("b")):
        api.refusal = refusal
        if refusal is None:
            script.unlink()
    assert left == ["b"]
    assert list(api.bindings) == ["b"]


async def test_a_creation_that_is_not_answered_may_have_been_carried_out(
    api: ApiServer, server: str, ca: trustme.CA
) -> None:
    api.status = 0
    left: list[str] = []
    with pytest.raises(errors.CommandError, match="cannot reach"):
        async with yours.administrators(_yours(server, ca, {"token": "t"}), "b", lambda: left.append("b")):
            pass
    assert left == ["b"]


async def test_an_api_server_of_another_ca_gets_no_token(api: ApiServer, server: str) -> None:
    with pytest.raises(errors.CommandError, match="cannot reach"):
        async with yours.administrators(_yours(server, trustme.CA(), {"token": "t"}), "b", nothing):
            pass
    assert api.peers == []


def test_credentials_are_in_no_representation() -> None:
    each = yours.Yours("a", "a", "https://h", {}, {"token": "secret"}, pathlib.Path("/"))
    assert "secret" not in repr(each) + json.dumps(str(each))
