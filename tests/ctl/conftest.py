"""A fake hub, a home of one's own, and `riata` run in the test's event loop."""

import dataclasses
import io
import pathlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trustme
from aiohttp.test_utils import TestServer

from ctl import cli
from tests.ctl.fakehub import ADMIN, FakeHub


@dataclasses.dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Riata = Callable[..., Awaitable[Outcome]]


@pytest.fixture
def home(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """An empty HOME and an environment without anything of riata's or kubectl's in it."""
    for name in ("RIATA_HUB", "RIATA_CA_FILE", "RIATA_TOKEN_FILE", "RIATA_CONFIG", "RIATA_PROFILE", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    for name in ("XDG_CONFIG_HOME", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    return tmp_path


@pytest.fixture
def riata(home: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> Riata:
    """`await riata("clusters", "list")`."""

    async def run(*arguments: str) -> Outcome:
        capsys.readouterr()
        code = await cli.execute(arguments)
        captured = capsys.readouterr()
        return Outcome(int(code), captured.out, captured.err)

    return run


@pytest.fixture
def fake() -> FakeHub:
    return FakeHub()


@pytest.fixture
async def server(fake: FakeHub) -> AsyncIterator[TestServer]:
    async with TestServer(fake.app(), host="127.0.0.1") as server:
        yield server


@pytest.fixture
def hub(server: TestServer, home: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of the fake hub; the environment logs in to it."""
    return _logged_in(str(server.make_url("/")).rstrip("/"), home, monkeypatch)


@pytest.fixture
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def tls(fake: FakeHub, ca: trustme.CA) -> AsyncIterator[str]:
    """URL of the fake hub behind TLS; nothing logs in to it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    server = TestServer(fake.app(), host="127.0.0.1")
    await server.start_server(ssl=context)
    yield f"https://127.0.0.1:{server.port}"
    await server.close()


@pytest.fixture
def tls_hub(tls: str, ca: trustme.CA, home: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of the fake hub behind TLS; the environment logs in to it. What makes kubeconfigs takes no other."""
    ca.cert_pem.write_to_path(str(home / "hub-ca.crt"))
    monkeypatch.setenv("RIATA_CA_FILE", str(home / "hub-ca.crt"))
    return _logged_in(tls, home, monkeypatch)


def _logged_in(url: str, home: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> str:
    token = home / "token"
    token.write_text(ADMIN + "\n")
    monkeypatch.setenv("RIATA_HUB", url)
    monkeypatch.setenv("RIATA_TOKEN_FILE", str(token))
    return url
