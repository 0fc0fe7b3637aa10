"""Connections over real TLS, on the loop that the agent runs on: what only a real transport can show."""

import asyncio
import functools
import gc
import importlib.util
import socket
import struct
import weakref

import pytest

from agent.relay.connection import KubeConnection
from agent.relay.endpoint import KubeTrust
from proto.aio import loop
from tests.agent.apiserver import Pki, ScriptedServer, api_server, serving
from tests.agent.relay.stream import FakeTransport
from tests.agent.waiting import until
from tests.harness.heard import Heard

loop.run(asyncio.sleep(0))  # libuv's signal pipe, made by the first loop, lives as long as the process: no leak


class User:
    """A ConnectionUser that writes down what it hears."""

    is_request_complete = True

    def __init__(self):
        self.status = None
        self.body = b""
        self.ends = []
        self.failures = []

    def on_head(self, status, headers, *, end):
        self.status = status

    def on_body(self, chunk, *, end):
        self.body += chunk

    def on_trailers(self, headers):
        pass

    def on_complete(self):
        self.ends.append("complete")

    def on_failure(self, code, text, *, got_bytes, is_way_gone):
        self.ends.append("failure")
        self.failures.append({"got_bytes": got_bytes, "is_way_gone": is_way_gone})

    def on_writable(self):
        pass


class Owner:
    def __init__(self):
        self.idle = []
        self.lost = []

    def on_idle(self, connection):
        self.idle.append(connection)

    def on_lost(self, connection):
        self.lost.append(connection)


def test_its_leg_hears_what_is_asked_and_what_is_answered(tmp_path):
    async def script(head, reader, writer):
        writer.write(SWITCH)
        await writer.drain()
        assert await reader.readexactly(5) == b"hello"
        writer.close()

    async def scene():
        pki, owner, user, leg = Pki(tmp_path), Owner(), User(), Heard()
        async with api_server(pki, script) as (_, port):
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: KubeConnection(owner, leg), "localhost", port, ssl=KubeTrust(ca_file=pki.ca_file).context()
            )
            connection.begin(user, b"GET / HTTP/1.1\r\n\r\n", head_only=False, upgrade="SPDY/3.1")
            await until(lambda: user.status)
            connection.write(b"hello")
            await until(lambda: owner.lost)
        return leg.log

    assert loop.run(scene()) == [("sent", 18), ("arrived", len(SWITCH)), ("sent", 5)]


@pytest.mark.parametrize("run", [asyncio.run, loop.run])
def test_each_exec_after_the_first_takes_up_its_tls_session(tmp_path, run):
    async def scene():
        pki = Pki(tmp_path)
        server, trust = pki.server_context(), KubeTrust(ca_file=pki.ca_file)
        async with serving(ScriptedServer(say_bye).serve, server) as port:
            for _ in range(4):
                owner, user = Owner(), User()
                _, connection = await asyncio.get_running_loop().create_connection(
                    functools.partial(KubeConnection, owner), "localhost", port, ssl=trust.context()
                )
                connection.begin(user, b"GET / HTTP/1.1\r\n\r\n", head_only=False, upgrade="SPDY/3.1")
                await until(lambda owner=owner: owner.lost)
                assert user.body == b"bye"
        return server.session_stats()["accept_good"], server.session_stats()["hits"]

    assert run(scene()) == (4, 3)


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"


async def say_bye(head, reader, writer):
    """A program that says a word and ends."""
    writer.write(SWITCH + b"bye")
    await writer.drain()
    writer.close()


async def converse(tmp_path, script, between=None):
    """What the user of a connection heard that had asked a scripted server for an upgrade."""
    pki, owner, user = Pki(tmp_path), Owner(), User()
    async with api_server(pki, script) as (_, port):
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: KubeConnection(owner), "localhost", port, ssl=KubeTrust(ca_file=pki.ca_file).context()
        )
        connection.begin(user, b"GET / HTTP/1.1\r\n\r\n", head_only=False, upgrade="SPDY/3.1")
        if between is not None:
            await between(connection, user)
        await until(lambda: owner.lost)
    return user.status, user.body, user.ends


def test_close_notify_ends_an_upgraded_connection(tmp_path):
    assert loop.run(converse(tmp_path, say_bye)) == (101, b"bye", ["complete"])


@pytest.mark.skipif(importlib.util.find_spec("uvloop") is None, reason="asyncio's own loop cannot tell the two apart")
def test_a_bare_end_of_tcp_is_a_cut_where_only_the_end_frames_the_body(tmp_path):
    def script_of(first):
        async def script(head, reader, writer):
            writer.write(first + b"by")
            await writer.drain()
            writer.transport.abort()

        return script

    until_close = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    assert loop.run(converse(tmp_path, script_of(until_close))) == (200, b"by", ["failure"])
    # Behind a 101 the protocol inside has frames of its own, and a RESET would eat what the client has not read.
    assert loop.run(converse(tmp_path, script_of(SWITCH))) == (101, b"by", ["complete"])


@pytest.mark.parametrize("size", [10, 300_000])
@pytest.mark.parametrize("run", [asyncio.run, loop.run])
def test_a_paused_connection_keeps_what_it_has_not_delivered(tmp_path, size, run):
    async def scene():
        paused = asyncio.Event()

        async def script(head, reader, writer):
            writer.write(SWITCH)
            await paused.wait()
            writer.write(b"x" * size)
            await writer.drain()
            writer.close()

        async def between(connection, user):
            await until(lambda: user.status == 101)
            connection.pause_reading()
            paused.set()
            await asyncio.sleep(0.05)
            assert user.body == b""
            connection.resume_reading()

        return await converse(tmp_path, script, between)

    assert run(scene()) == (101, b"x" * size, ["complete"])


@pytest.mark.parametrize("run", [asyncio.run, loop.run])
def test_a_lost_connection_is_freed_without_the_garbage_collector(tmp_path, run):
    """The collector comes by rarely (proto.aio.loop.settle), and what TLS keeps for a connection is 40 KiB."""

    async def freed():
        pki, owner, user = Pki(tmp_path), Owner(), User()
        async with api_server(pki, say_bye) as (_, port):
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: KubeConnection(owner), "localhost", port, ssl=KubeTrust(ca_file=pki.ca_file).context()
            )
            user.connection = connection  # as an exchange holds it
            connection.begin(user, b"GET / HTTP/1.1\r\n\r\n", head_only=False, upgrade="SPDY/3.1")
            await until(lambda: owner.lost)
            connection.resume_reading()
            connection.abort()  # what an exchange may still do to it
            assert not connection.is_open
            transport = connection._transport
            watched = weakref.ref(user)
            owner.lost.clear()
            user.connection = None
            del user, connection
            await asyncio.sleep(0)
            return transport, watched()

    gc.disable()
    try:
        transport, user = run(freed())
    finally:
        gc.enable()
    assert user is None
    assert transport.get_extra_info("socket") is None, "the connection holds what it has lost"


class Socket:
    """What the kernel says of the bytes on the way; and whether it was told to forget what it has."""

    def __init__(self):
        self.probes = self.segments = self.acknowledged = self.unsent = 0
        self.silent_ms = 60_000
        self.forgets = False

    def fileno(self):
        return -1

    def getsockopt(self, level, option, length):
        assert (level, option) == (socket.IPPROTO_TCP, socket.TCP_INFO)
        return struct.pack(
            "=3xB20xI28xI60xQ16xI", self.probes, self.segments, self.silent_ms, self.acknowledged, self.unsent
        )

    def setsockopt(self, level, option, value):
        self.forgets |= (level, option, value) == (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Transport(FakeTransport):
    def __init__(self):
        super().__init__()
        self.socket = Socket()

    def get_extra_info(self, name, default=None):
        return self.socket if name == "socket" else default


def asked():
    """A connection that has written a request; its user, and its transport."""
    connection, user, transport = KubeConnection(Owner()), User(), Transport()
    connection.connection_made(transport)
    connection.begin(user, b"GET / HTTP/1.1\r\n\r\n", head_only=False, upgrade="")
    return connection, user, transport


def test_what_nobody_acknowledges_ends_the_connection_after_five_to_six_seconds():
    connection, user, transport = asked()
    transport.socket.segments = 1
    for second in range(5):
        connection.look(second + 0.5)
    assert user.ends == []
    connection.look(5.5)
    assert user.ends == ["failure"]
    assert transport.state == "aborted"
    assert transport.socket.forgets


def test_time_begins_anew_with_every_acknowledgement():
    connection, user, transport = asked()
    transport.socket.segments = 1
    for second in range(60):
        transport.socket.acknowledged = second // 4
        connection.look(second)
    transport.socket.segments = 0
    connection.look(60)
    transport.socket.segments = 1
    connection.write(b"more")
    for second in range(61, 66):
        connection.look(second)
    assert user.ends == []
    connection.look(66)
    assert user.ends == ["failure"]


def test_who_has_no_room_may_take_its_time_as_long_as_it_answers():
    connection, user, transport = asked()
    kernel = transport.socket
    kernel.unsent = 100_000
    for second in range(600):
        kernel.probes = second % 3
        connection.look(second)
    assert user.ends == []
    kernel.probes = 3
    for second in range(600, 604):
        connection.look(second)
    assert user.ends == []
    connection.look(604)
    assert user.ends == ["failure"]


def test_a_way_that_goes_when_there_is_room_again_is_noticed():
    connection, user, transport = asked()
    transport.socket.unsent = 100_000
    connection.look(0)
    transport.socket.segments = 6
    for second in range(1, 6):
        connection.look(second)
    assert user.ends == ["failure"]


def test_who_answers_is_there_also_where_nothing_moves():
    """It took its window back: that is no end of the way."""
    connection, user, transport = asked()
    transport.socket.segments, transport.socket.silent_ms = 1, 400
    for second in range(60):
        connection.look(second)
    assert user.ends == []


def test_only_the_way_is_gone_so_a_question_may_be_asked_again():
    connection, user, transport = asked()
    transport.socket.segments = 1
    for second in range(6):
        connection.look(second)
    assert user.failures == [{"got_bytes": False, "is_way_gone": True}]


def test_the_kernel_is_asked_only_behind_something_that_was_written():
    connection, _, transport = asked()
    connection.look(0)
    transport.socket.getsockopt = None
    connection.look(1)
    connection.write(b"more")
    with pytest.raises(TypeError):
        connection.look(2)


def test_a_change_that_is_given_up_is_not_executed_later():
    connection, _, transport = asked()
    connection.abort()
    assert transport.state == "aborted"
    assert transport.socket.forgets
    idle = KubeConnection(Owner())
    idle.connection_made(unused := Transport())
    idle.abort()
    assert unused.state == "aborted"
    assert not unused.socket.forgets


async def test_a_quiet_way_may_lose_probes(tmp_path):
    """The kernel's own view of the socket: with a TCP_USER_TIMEOUT a single lost one would end it."""
    pki, owner = Pki(tmp_path), Owner()

    async def quiet(head, reader, writer):
        await reader.read()

    async with api_server(pki, quiet) as (_, port):
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: KubeConnection(owner), "localhost", port, ssl=KubeTrust(ca_file=pki.ca_file).context()
        )
        sock = connection._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        connection.abort()
        await until(lambda: owner.lost)
