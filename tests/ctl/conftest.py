"""A fake hub, a home of one's own, and `riata` run in the test's event loop."""

import dataclasses
import io
import pathlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
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
    url = str(server.make_url("/")).rstrip("/")
    token = home / "token"
    token.write_text(ADMIN + "\n")
    monkeypatch.setenv("RIATA_HUB", url)
    monkeypatch.setenv("RIATA_TOKEN_FILE", str(token))
    return url
