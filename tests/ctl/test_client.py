"""The client of the management API: every way a hub can fail to answer, and the exit code it gets."""

import asyncio
import os
import socket

import aiohttp
import pytest
from aiohttp import web

from ctl import client, errors, logins
from tests.ctl.fakehub import ADMIN, FakeHub, status


async def _fails(hub: str) -> errors.CommandError:
    async with client.HubClient(logins.Login(hub=hub, token=ADMIN), {}) as api:
        with pytest.raises(errors.CommandError) as caught:
            await api.items("/v1/clusters")
    return caught.value


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        (400, errors.Exit.FAILURE),
        (401, errors.Exit.UNAUTHORIZED),
        (403, errors.Exit.FORBIDDEN),
        (404, errors.Exit.NOT_FOUND),
        (409, errors.Exit.CONFLICT),
        (503, errors.Exit.FAILURE),
    ],
)
async def test_a_status_keeps_its_message_and_gets_its_exit_code(
    hub: str, fake: FakeHub, code: int, exit_code: errors.Exit
) -> None:
    fake.answer = status(code, "the hub's own \x1bwords")
    error = await _fails(hub)
    assert (error.what, error.exit_code) == ("the hub's own �words", exit_code)


@pytest.mark.parametrize("code", [401, 403, 404, 409])
@pytest.mark.parametrize("body", ["404 page not found", "", "{}", '"no"'])
async def test_what_something_in_front_of_the_hub_answers_is_not_the_hubs_word(
    hub: str, fake: FakeHub, code: int, body: str
) -> None:
    fake.answer = web.Response(status=code, text=body)
    error = await _fails(hub)
    assert (type(error), error.exit_code) == (errors.BusyError, errors.Exit.FAILURE)
    assert f"does not answer like a riata hub: HTTP {code} without a Status" in error.what
    assert "a proxy may have answered instead" in error.cure


async def test_a_redirect_is_never_followed(hub: str, fake: FakeHub) -> None:
    fake.answer = web.Response(status=307, headers={"Location": hub + "/v1/whoami"})
    assert "redirect" in (await _fails(hub)).what
    assert len(fake.calls) == 1


@pytest.mark.parametrize("body", [b"<html>", b'{"no": "items"}', b"[]", b"\xff", b"[" * 100_000])
async def test_what_is_not_the_api_is_said_so(hub: str, fake: FakeHub, body: bytes) -> None:
    fake.answer = web.Response(body=body, content_type="application/json")
    assert "does not answer like a riata hub" in (await _fails(hub)).what


@pytest.mark.parametrize("page", [{"items": [], "continue": "a"}, {"items": [{}] * 3, "continue": "a"}])
async def test_a_list_without_an_end(
    hub: str, fake: FakeHub, monkeypatch: pytest.MonkeyPatch, page: dict[str, object]
) -> None:
    monkeypatch.setattr(client, "MAX_OBJECTS", 2)
    fake.answer = web.json_response(page)
    assert "the list has no end" in (await _fails(hub)).what
    assert len(fake.calls) == 1


async def test_an_error_without_a_status_body_still_says_something(hub: str, fake: FakeHub) -> None:
    fake.answer = web.Response(status=500, text="<html>")
    assert "answers HTTP 500" in (await _fails(hub)).what


async def test_an_endless_answer_is_cut_off(hub: str, fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_ANSWER_BYTES", 1000)
    fake.answer = web.Response(body=b" " * 2000)
    assert "larger than" in (await _fails(hub)).what


async def test_nobody_listening_is_unreachable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        error = await _fails(f"http://127.0.0.1:{free.getsockname()[1]}")
    assert error.exit_code == errors.Exit.UNREACHABLE
    assert "refused the connection" in error.what


@pytest.mark.parametrize("name", ["hub..example.org", "a" * 64 + ".example.org"])
async def test_a_name_that_nobody_can_have_is_unreachable(name: str) -> None:
    error = await _fails(f"https://{name}")
    assert (error.exit_code, "does not resolve" in error.what) == (errors.Exit.UNREACHABLE, True)


async def test_plain_http_where_tls_is_expected_is_unreachable(hub: str) -> None:
    error = await _fails(hub.replace("http:", "https:"))
    assert (error.exit_code, "does not speak TLS" in error.what) == (errors.Exit.UNREACHABLE, True)


async def test_a_hub_that_hangs_up_is_unreachable() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        error = await _fails(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert error.exit_code == errors.Exit.UNREACHABLE


async def test_a_hub_that_does_not_answer_was_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """`cannot reach` sent people to look at their network."""
    monkeypatch.setattr(client, "TIMEOUT", aiohttp.ClientTimeout(sock_read=0.05))

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with server:
        error = await _fails(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert error.exit_code == errors.Exit.UNREACHABLE
    assert "did not answer in time, though the connection stood" in error.what


def test_an_argument_that_no_url_can_hold_is_a_usage_error() -> None:
    with pytest.raises(errors.UsageError, match=r"'\\udcff' is no name or id: it is not UTF-8"):
        client.target("v1", "clusters", os.fsdecode(b"\xff"))


async def test_the_token_is_in_no_representation(hub: str) -> None:
    login = logins.Login(hub=hub, token=ADMIN, ca="PEM")
    assert ADMIN not in repr(login)
