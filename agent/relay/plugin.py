"""Credential plugins of kubeconfigs (client.authentication.k8s.io ExecCredential): what managed clusters use.

The command comes from the user's own kubeconfig and runs without a shell and without a terminal.
"""

import asyncio
import json
import logging
import os
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from agent.errors import TokenUnavailable
from agent.relay.credential import FixedToken

logger = logging.getLogger(__name__)

RUN_TIMEOUT: Final = 30.0
"""Seconds for one run of the plugin."""
RENEW_BEFORE: Final = 120.0
"""Seconds before its expiry that a token is renewed."""
RETRY_INTERVAL: Final = 10.0
"""Seconds between two runs that fail."""
LOOK_INTERVAL: Final = 30.0
"""Seconds between two looks at a token that nobody asks for; a few of them fit into RENEW_BEFORE."""
_VERSIONS: Final = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


class ExecPlugin:
    """A token that a command prints; renewed in a thread so that the event loop never waits for it."""

    def __init__(
        self,
        command: list[str],
        environ: Mapping[str, str],
        api_version: str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Runs the command once. `clock`: that of event loops. Raises TokenUnavailable."""
        self._command = command
        self._environ = environ
        self._api_version = api_version
        self._clock = clock
        self._lock = threading.Lock()
        self._renewal: Future[None] | None = None
        self._retry_at = float("-inf")
        self._token, life = self._run()
        self._renew_at = clock() + life  # from here: it may be long until somebody asks

    @classmethod
    def from_kubeconfig(
        cls, section: Any, directory: Path, *, clock: Callable[[], float] = time.monotonic
    ) -> "ExecPlugin":
        """`users[].user.exec`. A relative command with a slash is beside the kubeconfig. Raises TokenUnavailable."""
        try:
            api_version = section.get("apiVersion", _VERSIONS[0])
            command = [str(section["command"]), *map(str, section.get("args") or [])]
            extra = {str(row["name"]): str(row["value"]) for row in section.get("env") or []}
        except (AttributeError, KeyError, TypeError) as exc:
            raise TokenUnavailable("the exec section is malformed") from exc
        if api_version not in _VERSIONS:
            raise TokenUnavailable(f"the exec plugin wants {api_version}, the agent speaks {_VERSIONS[0]}")
        if os.sep in command[0]:
            command[0] = str(directory / command[0])
        return cls(command, {**os.environ, **extra}, api_version, clock=clock)

    def authorization(self, now: float) -> bytes:
        """`Bearer <token>`; starts a renewal when the token's time is nearly up. `now`: the loop's time."""
        if now >= self._renew_at:
            self._renew(now)
        return self._token.authorization(now)

    def refresh(self) -> Future[None] | None:
        """The token was refused: renew it, unless that was tried a moment ago."""
        self._renew_at = float("-inf")
        return self._renew(self._clock())

    async def tend(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Until cancelled: have the token renewed in time though nobody asks for it. The first request after a quiet
        hour would be refused otherwise, and a change with a body cannot be repeated."""
        while True:
            await sleep(LOOK_INTERVAL)
            self.authorization(self._clock())

    def _renew(self, now: float) -> Future[None] | None:
        """The renewal under way, or None where it is too early for another."""
        with self._lock:
            if self._renewal is None and now >= self._retry_at:
                self._retry_at = now + RETRY_INTERVAL
                renewal: Future[None] = Future()
                thread = threading.Thread(
                    target=self._renew_in_thread, args=(renewal,), name="credential plugin", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError as exc:  # as many as the machine lets us have
                    logger.error("credential plugin not run", extra={"error": str(exc)})
                    return None
                self._renewal = renewal
            return self._renewal

    def _renew_in_thread(self, renewal: Future[None]) -> None:
        try:
            self._token, life = self._run()
            self._renew_at = self._clock() + life
        except TokenUnavailable as exc:
            logger.error("credential plugin failed", extra={"error": str(exc)})
        finally:
            with self._lock:
                self._renewal = None
            renewal.set_result(None)

    def _run(self) -> tuple[FixedToken, float]:
        """The token and the seconds until it should be renewed."""
        wish = {"apiVersion": self._api_version, "kind": "ExecCredential", "spec": {"interactive": False}}
        try:
            result = subprocess.run(  # noqa: S603 - the user's own kubeconfig names the command; no shell
                self._command,
                env={**self._environ, "KUBERNETES_EXEC_INFO": json.dumps(wish)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=RUN_TIMEOUT,
                check=False,
            )
        except OSError as exc:
            raise TokenUnavailable(f"the exec plugin {self._command[0]} cannot be run: {exc}") from exc
        except subprocess.TimeoutExpired:
            # Its own text has all arguments, which may be a client's secret.
            text = f"the exec plugin {self._command[0]} gave no answer within {RUN_TIMEOUT:g} s"
            raise TokenUnavailable(text) from None
        if result.returncode:
            # What it printed may be a credential in the making; its exit code must do.
            raise TokenUnavailable(f"the exec plugin {self._command[0]} failed with exit code {result.returncode}")
        return _parse(result.stdout)


def _parse(output: bytes) -> tuple[FixedToken, float]:
    try:
        status = json.loads(output)["status"]
        token, expiry = status.get("token"), status.get("expirationTimestamp")
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise TokenUnavailable("the exec plugin printed no ExecCredential") from exc
    if not isinstance(token, str):
        raise TokenUnavailable("the exec plugin gives a client certificate; only tokens are supported")
    if expiry is None:
        return FixedToken(token), float("inf")
    try:
        left = (datetime.fromisoformat(expiry) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError) as exc:
        raise TokenUnavailable("the exec plugin printed a malformed expirationTimestamp") from exc
    return FixedToken(token), max(left - RENEW_BEFORE, RETRY_INTERVAL)
