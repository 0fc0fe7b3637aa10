"""Connections over real TLS, on the loop that the agent runs on: what only a real transport can show."""

import asyncio
import gc
import importlib.util
import socket
import weakref

import pytest

from agent.relay.connection import UNACKNOWLEDGED_MS, KubeConnection
from agent.relay.endpoint import KubeTrust
from proto.aio import loop
from tests.agent.apiserver import Pki, api_server
from tests.agent.waiting import until

loop.run(asyncio.sleep(0))  # libuv's signal pipe, made by the first loop, lives as long as the process: no leak


class User:
    """A ConnectionUser that writes down what it hears."""

    is_request_complete = True

    def __init__(self):
        self.status = None
        self.body = b""
        self.ends = []

    def on_head(self, status, headers, *, end):
        self.status = status

    def on_body(self, chunk, *, end):
        self.body += chunk

    def on_trailers(self, headers):
        pass

    def on_complete(self):
        self.ends.append("complete")

    def on_failure(self, code, text, *, got_bytes, was_reused):
        self.ends.append("failure")

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


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"


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
    async def script(head, reader, writer):
        writer.write(SWITCH + b"bye")
        await writer.drain()
        writer.close()

    assert loop.run(converse(tmp_path, script)) == (101, b"bye", ["complete"])


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

    async def script(head, reader, writer):
        writer.write(SWITCH + b"bye")
        await writer.drain()
        writer.close()

    async def freed():
        pki, owner, user = Pki(tmp_path), Owner(), User()
        async with api_server(pki, script) as (_, port):
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


async def test_what_an_api_server_may_leave_unacknowledged_is_bounded_but_behind_an_upgrade(tmp_path):
    """The kernel's own view of the socket."""
    pki = Pki(tmp_path)

    async def quiet(head, reader, writer):
        await reader.read()

    async with api_server(pki, quiet) as (_, port):
        for upgrade, expected in (("", UNACKNOWLEDGED_MS), ("SPDY/3.1", 0)):
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: KubeConnection(Owner()), "localhost", port, ssl=KubeTrust(ca_file=pki.ca_file).context()
            )
            connection.begin(User(), b"GET / HTTP/1.1\r\n\r\n", head_only=False, upgrade=upgrade)
            sock = connection._transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == expected
            connection.abort()
