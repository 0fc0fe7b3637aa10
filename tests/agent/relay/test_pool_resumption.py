"""The pool in front of what breaks off handshakes that take up a session: one of them each, and no request."""

import asyncio
import contextlib
import socket
import struct

import pytest

from agent.counts import Counts
from agent.relay.endpoint import Endpoint, KubeTrust
from agent.relay.pool import Pool, PoolLimits
from proto.aio.tasks import TaskGroup
from tests.agent.apiserver import Pki, api_server, json_answer, serving
from tests.agent.waiting import until

PRE_SHARED_KEY = 41
RESET = struct.pack("ii", 1, 0)


class Asker:
    """Wants a connection, asks over it and waits for the answer."""

    is_request_complete = True

    def __init__(self):
        self.end = ""

    def on_connection(self, connection):
        connection.begin(self, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", head_only=False, upgrade="")

    def on_no_connection(self, code, text):
        self.end = f"{code.name}: {text}"

    def on_head(self, status, headers, *, end): ...

    def on_body(self, chunk, *, end): ...

    def on_complete(self):
        self.end = "answered"

    def on_failure(self, code, text, **_):
        self.end = f"{code.name}: {text}"


def takes_up_a_session(hello):
    """Whether a ClientHello in its record (RFC 8446 §4.1.2) has the extension."""
    at = 5 + 4 + 2 + 32
    at += 1 + hello[at]
    at += 2 + int.from_bytes(hello[at : at + 2])
    at += 1 + hello[at] + 2
    while at < len(hello):
        if int.from_bytes(hello[at : at + 2]) == PRE_SHARED_KEY:
            return True
        at += 4 + int.from_bytes(hello[at + 2 : at + 4])
    return False


class Box:
    """What stands in front of an API server: passes on, but for clients that take up a session."""

    def __init__(self, port, how):
        self.port, self.how = port, how
        self.connections = self.refused = 0

    async def serve(self, reader, writer):
        self.connections += 1
        head = await reader.readexactly(5)
        hello = head + await reader.readexactly(int.from_bytes(head[3:5]))
        if self.how == "all end" or (self.how and takes_up_a_session(hello)):
            self.refused += 1
            await self._refuse(writer)
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        far_writer.write(hello)
        with contextlib.closing(far_writer):
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    async def _refuse(self, writer):
        if self.how == "silence":
            await asyncio.sleep(60)
        if self.how == "reset":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        if self.how == "alert":
            writer.write(bytes([21, 3, 3, 0, 2, 2, 80]))  # fatal, internal_error
        writer.close()


async def pump(reader, writer):
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()


async def answer(head, reader, writer):
    writer.write(json_answer(b"{}"))


async def asked(pool):
    asker = Asker()
    pool.acquire(asker, max_idle=0.0)
    await until(lambda: asker.end)
    return asker.end


@contextlib.asynccontextmanager
async def behind(box, ca_file, kind=Pool, **limits):
    """A pool whose way to the API server leads through a box."""
    async with serving(box.serve) as front, TaskGroup("test") as group:
        endpoint, trust = Endpoint.from_url(f"https://localhost:{front}"), KubeTrust(ca_file=ca_file)
        pool = kind(endpoint, trust, PoolLimits(**limits), owner=group, counts=Counts())
        yield pool
        await pool.close()


@pytest.mark.parametrize("how", ["end", "reset", "alert"])
async def test_who_breaks_off_resumed_handshakes_costs_no_request(tmp_path, how, caplog):
    pki = Pki(tmp_path)
    async with api_server(pki, answer) as (_, port):
        box = Box(port, how)
        async with behind(box, pki.ca_file) as pool:
            assert [await asked(pool) for _ in range(4)] == ["answered"] * 4
            assert (box.refused, pool._counts.dials, pool._counts.dials_failed) == (1, 4, 0)
            assert caplog.text.count("none does for ten minutes") == 1


async def test_who_never_answers_them_costs_one(tmp_path):
    pki = Pki(tmp_path)
    async with api_server(pki, answer) as (_, port):
        box = Box(port, "silence")
        async with behind(box, pki.ca_file, dial_timeout=0.5) as pool:
            ends = [await asked(pool) for _ in range(4)]
            assert ends == ["answered", "DIAL_TIMEOUT: the API server did not answer in time", "answered", "answered"]
            assert box.refused == 1


async def test_what_has_another_reason_is_not_tried_again(tmp_path):
    """A handshake without a session, and a server that has to prove who it is and cannot."""
    pki, other = Pki(tmp_path), Pki(tmp_path, "other", "localhost")
    async with api_server(pki, answer) as (_, port), api_server(other, answer) as (_, foreign):
        box = Box(port, "all end")
        async with behind(box, pki.ca_file) as pool:
            assert (await asked(pool)).startswith("DIAL_UNREACHABLE")
            assert box.connections == 1
            box.how = ""
            assert await asked(pool) == "answered"
            box.port = foreign
            assert "not trusted" in await asked(pool)
            assert box.connections == 3
            box.port = port
            assert await asked(pool) == "answered"


class Late(Pool):
    """The first of its connections takes its time to come up."""

    gate = None

    async def _open(self, address, context):
        gate, self.gate = self.gate, None
        if gate is not None:
            await gate.wait()
        return await super()._open(address, context)


async def test_a_dial_that_began_before_there_was_a_session_is_done_again_too(tmp_path):
    """It takes one up when its handshake begins, and that is broken off."""
    pki = Pki(tmp_path)
    async with api_server(pki, answer) as (_, port):
        box = Box(port, "end")
        async with behind(box, pki.ca_file, Late) as pool:
            counts = pool._counts
            pool.gate = gate = asyncio.Event()
            early = Asker()
            pool.acquire(early, max_idle=0.0)
            await until(lambda: pool.gate is None)
            later = Asker()
            pool.acquire(later, max_idle=0.0)
            await until(lambda: early.end or later.end)  # whoever waits for longest has the first connection
            gate.set()
            await until(lambda: early.end and later.end and counts.dials + counts.dials_failed == 2)
            assert (early.end, later.end, box.refused, counts.dials_failed) == ("answered", "answered", 1, 0)
