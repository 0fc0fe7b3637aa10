"""riata-agent that dies by SIGKILL at a chosen place: `python -m tests.faults.failpoint DIRECTORY cluster …`.

The shipped program holds no failpoint: this wrapper, which is shipped with nothing, puts them in before it runs the
program. A request dies where its query says, `?fault=mid_body&id=7`, in the first agent that gets there: a file of
that id in DIRECTORY, with the monotonic time of the death, keeps the next agent alive.

What dies is a child of this process, which has loaded the program and begins the next child at SIGUSR1: a death costs
no second of imports. SIGTERM ends both.

`after_dial`: the connection to the API server is there, nothing was written to it. `after_send`: the request was
written. `mid_head`: half of the WebSocket frame with the answer's head was written. `early_body`: a first part of the
body was. `mid_body`: more than a hub holds back was.
"""

import ctypes
import importlib
import importlib.util
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from agent import cli
from agent.relay.connection import KubeConnection
from agent.relay.exchange import Exchange
from hub.proxy.held import HELD_BYTES_MAX
from proto import websocket
from proto.aio.websocket import WebSocketTransport

POINTS: Final = ("after_dial", "mid_head", "mid_body")
BETWEEN: Final = ("after_send", "early_body")
MID_BYTES: Final = 2 * HELD_BYTES_MAX
_PR_SET_PDEATHSIG: Final = 1
_WISH: Final = re.compile(rb"[?&]fault=([a-z_]+)&id=([A-Za-z0-9._-]+)")


class Failpoints:
    """What is armed in this process."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._at_write = ""
        self._id = ""
        self._to_pass = 0
        """Bytes that still leave before the death."""

    def wished(self, exchange: Any, point: str) -> bool:
        """Whether the request of this exchange is to die here."""
        found = _WISH.search(exchange._request.path)
        if found is None or found[1].decode() != point:
            return False
        self._id = found[2].decode()
        return not (self._directory / self._id).exists()

    def die(self) -> None:
        try:
            mark = os.open(self._directory / self._id, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:  # another agent was faster
            return
        os.write(mark, repr(time.monotonic()).encode())
        os.close(mark)
        os.kill(os.getpid(), signal.SIGKILL)

    def arm(self) -> None:
        """Patch the relay and the WebSocket."""
        on_connection, begin = Exchange.on_connection, KubeConnection.begin
        on_head, on_body, write = Exchange.on_head, Exchange.on_body, WebSocketTransport.write

        def dialled(exchange: Any, connection: Any) -> None:
            if self.wished(exchange, "after_dial"):
                self.die()
            on_connection(exchange, connection)

        def sent(connection: Any, user: Any, *args: Any, **more: Any) -> None:
            begin(connection, user, *args, **more)
            if self.wished(user, "after_send"):
                self.die()

        def head(exchange: Any, *args: Any, **more: Any) -> None:
            if self.wished(exchange, "mid_head"):
                self._at_write = "half"
            on_head(exchange, *args, **more)

        def part(exchange: Any, chunk: bytes, *, end: bool) -> None:
            if not end and not self._at_write:
                self._to_pass = MID_BYTES if self.wished(exchange, "mid_body") else 0
                self._at_write = "whole" if self._to_pass or self.wished(exchange, "early_body") else ""
            on_body(exchange, chunk, end=end)

        def written(transport: Any, message: bytes) -> None:
            if not self._at_write or self._to_pass > len(message):
                self._to_pass = max(self._to_pass - len(message), 0)
                write(transport, message)
                return
            frame = websocket.frame(websocket.BINARY, message, transport._mask())
            if self._at_write == "half":
                frame = frame[: len(frame) // 2]
            transport._transport.write(frame)
            self.die()

        patches: dict[tuple[type, str], Callable[..., None]] = {
            (Exchange, "on_connection"): dialled,
            (KubeConnection, "begin"): sent,
            (Exchange, "on_head"): head,
            (Exchange, "on_body"): part,
            (WebSocketTransport, "write"): written,
        }
        for (owner, name), patch in patches.items():
            setattr(owner, name, patch)


def one_after_the_other(run: Callable[[], int]) -> int:
    """Run it in a child, at SIGUSR1 in the next one, until SIGTERM; the exit code of the last."""
    wanted = {signal.SIGUSR1, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
    while True:
        supervisor = os.getpid()
        child = os.fork()
        if not child:
            die_with(supervisor)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            return run()
        is_last = signal.sigwait(wanted) is signal.SIGTERM
        if is_last:
            os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
        if is_last:
            return os.waitstatus_to_exitcode(status)


def die_with(supervisor: int) -> None:
    """However it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != supervisor:
        sys.exit("the supervisor is gone")


def main() -> int:
    Failpoints(Path(sys.argv[1])).arm()
    for needed in ("agent.app", "uvloop"):  # what the agent loads late
        if importlib.util.find_spec(needed):
            importlib.import_module(needed)
    return one_after_the_other(lambda: cli.main(sys.argv[2:], os.environ))


if __name__ == "__main__":
    sys.exit(main())
