"""The one client of the hub's management API. Bounded in time and size, never redirected, one place for every error."""

import json
import os
import re
import ssl
import types
import urllib.parse
from collections.abc import Mapping
from typing import Any, Final, Self

import aiohttp
import yarl

from ctl import diagnose, errors, logins, proxies, terminal, trust
from proto import versions

TIMEOUT = aiohttp.ClientTimeout(total=60, connect=10, sock_connect=10, sock_read=30)
"""Seconds for a call. The API answers from memory; a minute is a hub in trouble, and a person waits no longer."""

MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""Largest answer we take: ten thousand clusters are about 12 MB, the agents of a page 9 to 14 MB."""

PAGE: Final = 10_000
"""Objects in one answer, of a list that has pages; up to a cluster of 6,000 nodes more."""

MAX_OBJECTS = 1_000_000
"""Of one list: four times the agents that a hub may have."""

_EXIT = {
    401: errors.Exit.UNAUTHORIZED,
    403: errors.Exit.FORBIDDEN,
    404: errors.Exit.NOT_FOUND,
    409: errors.Exit.CONFLICT,
}
_CURE = {
    401: "`riata login` with a valid token; tokens end when they expire or are revoked",
    403: "ask an administrator of the hub for a grant (`riata grants`)",
    404: "check the name; what you have no grant for is not shown either",
    429: "wait a moment and repeat the command",
    503: "wait a moment and repeat the command",
}


_TOKEN = re.compile(r"riata(?:agent|join)?_([a-z0-9]+)_")
"""How every token of riata begins, up to its secret. No name or id of the API holds it."""


def target(*segments: str) -> str:
    """Path of an object below the hub's URL; every segment is quoted whole.

    UsageError for a token in the place of its id, an easy slip with `revoke`: a path is in the log of every proxy; and
    for what is not UTF-8, which no URL can hold.
    """
    for found in filter(None, map(_TOKEN.search, segments)):
        raise errors.UsageError(
            "that is a whole token, with its secret, where an id or a name belongs",
            means="nothing was sent to the hub; the shell's history may hold the secret",
            cure=f"use the id alone: {found[1]}",
        )
    try:
        return "/" + "/".join(urllib.parse.quote(segment, safe="") for segment in segments)
    except UnicodeEncodeError as exc:
        raise errors.UsageError(f"{exc.object!r} is no name or id: it is not UTF-8") from exc


def session(context: ssl.SSLContext | None, token: str = "") -> aiohttp.ClientSession:
    """An HTTP client with nothing of the environment in it. `context` None: plain HTTP."""
    headers = {"User-Agent": f"riata/{versions.PRODUCT_VERSION}", "Accept": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context or True, limit=8),
        headers=headers,
        timeout=TIMEOUT,
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


class HubClient:
    """A session with one hub: `async with HubClient(login) as hub: await hub.get(target("v1", "clusters"))`.

    Every method raises CommandError with the exit code of its cause. `doctor`: the command that looks closer at this
    login; empty where there is none.
    """

    def __init__(
        self, login: logins.Login, env: Mapping[str, str] = os.environ, *, doctor: str = "riata doctor"
    ) -> None:
        self.login = login
        self._doctor = doctor
        self._context = trust.context(login) if login.hub.startswith("https:") else None
        self._proxy = proxies.choose(login.hub, env)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = session(self._context, self.login.token)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: types.TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str) -> Any:
        return await self._call("GET", path)

    async def items(self, path: str, **query: str) -> list[dict[str, Any]]:
        """The objects of a list, all its pages. A hub that is older than a parameter passes it over."""
        found: list[dict[str, Any]] = []
        while True:
            answer = await self.get(f"{path}?{urllib.parse.urlencode(query)}" if query else path)
            page = answer.get("items") if isinstance(answer, dict) else None
            if not isinstance(page, list):
                raise _nonsense(self.login.hub, "the list has no items")
            found += page
            more = answer.get("continue")
            if not more:
                return found
            if not page or len(found) > MAX_OBJECTS:
                raise _nonsense(self.login.hub, "the list has no end")
            query["continue"] = str(more)

    async def text(self, path: str) -> str:
        """What is no JSON; empty when the hub has no such thing."""
        assert self._session is not None
        try:
            async with self._session.get(
                yarl.URL(self.login.hub + path, encoded=True), allow_redirects=False, proxy=self._proxy
            ) as response:
                body = await bounded(response)
                return body.decode("utf-8", "replace") if response.status == 200 else ""
        except diagnose.LOST as exc:
            raise _unreachable(self.login, self._proxy, exc, self._doctor) from exc

    async def post(self, path: str, body: Mapping[str, object]) -> Any:
        return await self._call("POST", path, body)

    async def delete(self, path: str) -> Any:
        """What the hub says of it, None when there is nothing to say."""
        return await self._call("DELETE", path)

    async def _call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        assert self._session is not None
        try:
            async with self._session.request(
                method,
                yarl.URL(self.login.hub + path, encoded=True),
                json=body,
                allow_redirects=False,
                proxy=self._proxy,
            ) as response:
                return _parsed(self.login.hub, method, response, await bounded(response))
        except diagnose.LOST as exc:
            raise _unreachable(self.login, self._proxy, exc, self._doctor) from exc


async def bounded(response: aiohttp.ClientResponse) -> bytes:
    """The body, at most MAX_ANSWER_BYTES. Raises CommandError."""
    parts, size = [], 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            raise errors.CommandError(f"the hub's answer is larger than {MAX_ANSWER_BYTES} bytes")
        parts.append(chunk)
    return b"".join(parts)


def _parsed(hub: str, method: str, response: aiohttp.ClientResponse, body: bytes) -> Any:
    if 300 <= response.status < 400:
        raise errors.CommandError(
            f"{hub} answers with a redirect (HTTP {response.status})",
            means="riata follows none, because its token would go along",
            cure="use the hub's own URL; something in front of it redirects",
        )
    try:
        answer = json.loads(body) if body else None
    except (ValueError, RecursionError) as exc:
        if response.status < 400:
            raise _nonsense(hub, "the body is not JSON") from exc
        answer = None
    if response.status >= 400:
        raise _refused(hub, method, response.status, answer)
    return answer


_BUSY: Final = {429, 502, 503, 504}


def _refused(hub: str, method: str, status: int, answer: Any) -> errors.CommandError:
    """The error of a Status answer. 503 and 504 are the hub's own trouble, so it was reached.

    What has a meaning for the caller counts only as the hub's own words: a load balancer without a backend answers 404
    too, and that is no news of the object."""
    if status in _EXIT and not (isinstance(answer, dict) and answer.get("kind") == "Status"):
        return _nonsense(hub, f"HTTP {status} without a Status in it", errors.BusyError)
    message = answer.get("message") if isinstance(answer, dict) else None
    what = terminal.clean(str(message)) if message else f"{hub} answers HTTP {status}"
    means = f"HTTP {status} for a {method} at {hub}"
    kind = errors.LimitError if status == 429 else errors.BusyError if status in _BUSY else errors.CommandError
    return kind(what, means=means, cure=_CURE.get(status, ""), exit_code=_EXIT.get(status, errors.Exit.FAILURE))


def _nonsense(hub: str, why: str, kind: type[errors.CommandError] = errors.CommandError) -> errors.CommandError:
    return kind(
        f"{hub} does not answer like a riata hub: {why}", cure="check the URL; a proxy may have answered instead"
    )


def _unreachable(login: logins.Login, proxy: str | None, exc: BaseException, doctor: str) -> errors.CommandError:
    if diagnose.is_unanswered(exc):
        return errors.CommandError(
            f"{login.hub} did not answer in time, though the connection stood",
            means="whether it did what was asked is unknown",
            cure="wait a moment and repeat the command; if it stays so, the hub's log says what keeps it",
            exit_code=errors.Exit.UNREACHABLE,
        )
    found = diagnose.explain(exc, login, proxy)
    way = "through the proxy of the environment" if proxy else "directly"
    return errors.CommandError(
        f"cannot reach {login.hub}: {terminal.clean(found.what)}",
        means=f"tried {way}" + (f"; {doctor} looks closer" if doctor else ""),
        cure=found.cure,
        exit_code=errors.Exit.UNREACHABLE,
    )
