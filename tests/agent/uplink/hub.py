"""A hub made of a script: the hub's half of the handshake over any transport, and one behind a real WebSocket."""

import asyncio
import contextlib

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from agent.config import HubSettings
from proto import limits
from proto.aio.link import Link
from proto.handshake import HubHandshake
from proto.messages import Refused
from proto.pins import pins_of_pem
from proto.session import Role, Session
from proto.versions import SUBPROTOCOL

TOKEN = "riataagent_abcdefghij_" + "0" * 64


async def welcome(transport, *, refuse=None, seen=None, compresses=False, tries=True):
    """Play the hub until WELCOME; returns the hub's link, not yet running."""
    handshake = HubHandshake("hub-1", b"n" * 32, limits.Limits(), compresses=compresses, tries=tries)
    await transport.send(handshake.hello())
    auth = handshake.receive(await transport.receive())
    if seen is not None:
        seen.append(auth)
    if refuse is not None:
        await transport.send(handshake.refuse(Refused(code=int(refuse), text="no", retry_ms=500)))
        return None
    await transport.send(handshake.welcome(handshake.make_welcome("s-1", "alpha")))
    session = Session(Role.HUB, handshake.negotiated)
    return Link(session, transport, on_open=lambda *_: None, name="hub")


def settings(pki, port, tmp_path, **more):
    """HubSettings for a loopback hub with the CA of `pki`."""
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN + "\n")
    values = {
        "url": f"https://localhost:{port}",
        "ca_pins": tuple(pins_of_pem(pki.ca_file.read_bytes())),
        "ca_file": pki.ca_file,
        "token_file": token_file,
    }
    return HubSettings(**{**values, **more})


class ServerTransport:
    """proto.aio.transport.Transport over the server side of `websockets`."""

    peer = "test"
    is_writable = True

    def __init__(self, connection):
        self.connection = connection
        self.reading = None
        self.writing = asyncio.Queue()

    async def send(self, message):
        await self.connection.send(message)

    async def receive(self):
        try:
            return await self.connection.recv()
        except ConnectionClosed as exc:
            raise EOFError from exc

    def bind(self, receiver):
        self.reading = asyncio.get_running_loop().create_task(self._read(receiver))
        self.writer = asyncio.get_running_loop().create_task(self._write())

    def write(self, message):
        self.writing.put_nowait(message)

    async def _read(self, receiver):
        try:
            while True:
                receiver.message_received(await self.receive())
        except EOFError as exc:
            receiver.transport_lost(exc)

    async def _write(self):
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.connection.send(await self.writing.get())
                self.writing.task_done()

    def abort(self):
        for task in (self.reading, self.writer) if self.reading else ():
            task.cancel()
        self.connection.transport.abort()

    async def close(self, code, reason):
        await self.writing.join()
        await self.connection.close(code, reason)


@contextlib.asynccontextmanager
async def websocket_hub(pki, handler, *, process_request=None, subprotocols=(SUBPROTOCOL,)):
    """A WebSocket server on loopback; yields its port. `handler(connection)` plays the hub."""
    async with serve(
        handler,
        "127.0.0.1",
        0,
        ssl=pki.server_context(),
        subprotocols=list(subprotocols) or None,
        process_request=process_request,
        ping_interval=None,
        close_timeout=0.5,
    ) as server:
        yield server.sockets[0].getsockname()[1]


async def never(*_):
    await asyncio.Event().wait()
