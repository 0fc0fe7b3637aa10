"""Whose 401 it was: the API server is asked once more with the same token, for something that changes nothing.

A proxied program may answer as the API server does, word for word, after it has executed the request (an API server
behind a Service does). Only what the API server says of the token itself tells the two apart: it authenticates before
it looks at the path, and takes a bad token for nobody, not for an anonymous user.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from agent.relay import request as requests
from agent.relay.connection import KubeConnection
from agent.relay.context import RelayContext
from agent.relay.pool import ANY_IDLE
from proto.errors import Code
from proto.messages import Headers, HttpRequest

QUESTION: Final = HttpRequest(method="HEAD", path=b"/version", headers=())
ANSWER_S: Final = 5.0
"""After this nothing is known of the token."""


class TokenCheck:
    """ConnectionUser and Waiter. `told` is called once, unless cancelled: whether the API server takes the token, None
    when it did not say."""

    __slots__ = ("_authorization", "_connection", "_context", "_status", "_timer", "_told", "_was_repeated")

    def __init__(self, context: RelayContext, authorization: bytes, told: Callable[[bool | None], None]) -> None:
        self._context = context
        self._authorization = authorization
        self._told: Callable[[bool | None], None] | None = told
        self._connection: KubeConnection | None = None
        self._status = 0
        self._was_repeated = False
        self._timer = asyncio.get_running_loop().call_later(ANSWER_S, self._give_up)
        context.pool.acquire(self, max_idle=ANY_IDLE)

    def cancel(self) -> None:
        """Nobody wants to know any more."""
        self._told = None
        self._give_up()

    # Waiter

    def on_connection(self, connection: KubeConnection) -> None:
        self._connection = connection
        endpoint, authorization = self._context.endpoint, self._authorization
        head = requests.head_bytes(
            QUESTION, (), endpoint, authorization=authorization, is_chunked=False, has_length=False
        )
        connection.begin(self, head, head_only=True, upgrade="")

    def on_no_connection(self, code: Code, text: str) -> None:
        self._settle(None)

    # ConnectionUser

    @property
    def is_request_complete(self) -> bool:
        return True

    def on_head(self, status: int, headers: Headers, *, end: bool) -> None:
        self._status = status

    def on_body(self, chunk: bytes, *, end: bool) -> None:
        """A HEAD has none."""

    def on_trailers(self, headers: Headers) -> None:
        """As `on_body`."""

    def on_complete(self) -> None:
        self._connection = None
        self._settle(self._status != 401)

    def on_failure(self, code: Code, text: str, *, got_bytes: bool, is_way_gone: bool) -> None:
        self._connection = None
        if is_way_gone and not got_bytes and not self._was_repeated and self._told is not None:
            self._was_repeated = True
            self._context.pool.acquire(self, max_idle=0.0)
        else:
            self._settle(None)

    def on_writable(self) -> None:
        """There is no body."""

    # Ends

    def _give_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
        else:
            self._context.pool.cancel(self)
        self._settle(None)

    def _settle(self, is_good: bool | None) -> None:
        self._timer.cancel()
        told, self._told = self._told, None
        if told is not None:
            told(is_good)
