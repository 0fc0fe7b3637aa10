"""hub/edge/frugality.py: connections of a crowded hub, over a fake transport."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

import pytest

from hub.edge.frugality import UNSENT_MAX_BYTES
from hub.edge.unsent import FRUGAL_BYTES, READ_BYTES
from tests.hub.edge.fakes import GET, FakeTransport, Wire


def kernel(wire: Wire) -> int:
    """What it may take beyond what it may send at once."""
    return wire.transport.sock.options[socket.TCP_NOTSENT_LOWAT]


async def test_a_frugal_connection_keeps_what_a_full_transport_does_not_take() -> None:
    wire = Wire(is_tls=True)
    exchange = wire.feed(GET)
    exchange.front.be_frugal(True)
    assert wire.transport.high == FRUGAL_BYTES
    wire.connection.pause_writing()
    exchange.front.write(b"a" * FRUGAL_BYTES)
    exchange.front.write(b"b")
    await asyncio.sleep(0)
    assert wire.transport.writes == 0
    assert exchange.front.unsent_bytes == FRUGAL_BYTES + 1
    wire.transport.when_written = wire.connection.pause_writing  # full again
    wire.connection.resume_writing()
    assert (wire.transport.writes, exchange.drains) == (1, 0)
    wire.transport.when_written = None
    wire.connection.resume_writing()
    assert wire.transport.written == b"a" * FRUGAL_BYTES + b"b"
    assert exchange.drains == 1
    assert exchange.front.unsent_bytes == 0
    exchange.front.be_frugal(False)
    assert wire.transport.high == wire.host.limits.write_high_bytes
    assert kernel(wire) == UNSENT_MAX_BYTES


async def test_who_reads_is_not_frugal_for_long_nor_is_what_tls_writes_to() -> None:
    wire = Wire(is_tls=True)
    below = FakeTransport()
    wire.connection.below = cast(asyncio.Transport, below)
    exchange = wire.feed(GET)
    exchange.front.be_frugal(True)
    assert wire.transport.high == below.high == kernel(wire) == FRUGAL_BYTES
    wire.transport.when_written = wire.connection.pause_writing
    for _ in range(READ_BYTES // FRUGAL_BYTES):
        exchange.front.write(b"a" * FRUGAL_BYTES)
        await asyncio.sleep(0)
        wire.connection.resume_writing()
    assert wire.transport.high == FRUGAL_BYTES
    exchange.front.write(b"b")
    exchange.front.flush()
    assert wire.transport.high == below.high == wire.host.limits.write_high_bytes
    assert kernel(wire) == UNSENT_MAX_BYTES
    exchange.front.be_frugal(True)  # the next answer
    assert wire.transport.high == FRUGAL_BYTES


async def test_a_connection_whose_end_is_on_its_way_may_become_frugal() -> None:
    """uvloop closes what TLS writes to a turn before it tells: an error there would take the whole tunnel along."""
    wire = Wire(is_tls=True)
    below = FakeTransport()
    wire.connection.below = cast(asyncio.Transport, below)
    exchange = wire.feed(GET)
    below.close()
    wire.transport.sock.is_closed = True
    exchange.front.be_frugal(True)
    assert (wire.transport.high, below.high) == (FRUGAL_BYTES, 0)


@pytest.mark.parametrize("is_tls", [False, True])
async def test_a_frugal_connection_closes_behind_what_it_keeps(is_tls: bool) -> None:
    wire = Wire(is_tls=is_tls)
    exchange = wire.feed(GET)
    exchange.front.be_frugal(True)
    wire.connection.pause_writing()
    exchange.front.write(b"the end")
    exchange.front.finish(is_reusable=False)
    wire.connection.check(wire.connection.deadline)
    assert not (wire.transport.is_eof)
    assert not (wire.transport.is_closed)
    assert not (wire.transport.is_aborted)
    wire.transport.when_written = wire.connection.pause_writing
    wire.connection.resume_writing()
    wire.transport.when_written = None
    wire.connection.resume_writing()
    assert wire.transport.written == b"the end"
    assert (wire.transport.is_closed, wire.transport.is_eof) == (is_tls, not is_tls)


async def test_a_client_that_ends_its_half_gets_what_a_frugal_connection_keeps() -> None:
    """The transport closes behind what it has by then, and asks for no more."""
    wire = Wire()
    exchange = wire.feed(GET)
    exchange.front.be_frugal(True)
    wire.connection.pause_writing()
    wire.answer()
    assert wire.transport.written == b""
    assert not wire.connection.eof_received()
    assert wire.transport.written == b"answer "


async def test_a_frugal_connection_takes_the_next_request_behind_what_it_keeps() -> None:
    wire = Wire()
    exchange = wire.feed(GET + GET)
    exchange.front.be_frugal(True)
    wire.connection.pause_writing()
    wire.answer()
    await asyncio.sleep(0)
    assert len(wire.host.exchanges) == 1
    wire.connection.resume_writing()
    await asyncio.sleep(0)
    assert wire.transport.written == b"answer "
    assert len(wire.host.exchanges) == 2


async def test_a_frugal_connection_that_is_handed_over_is_none_any_more() -> None:
    wire = Wire()
    exchange = wire.feed(GET)
    exchange.front.be_frugal(True)
    wire.answer()
    await asyncio.sleep(0)
    wire.connection.data_received(GET.replace(b"/k8s/clusters/a/api", b"/v1/clusters"))
    assert wire.host.handed
    assert (wire.transport.high, kernel(wire)) == (wire.host.limits.write_high_bytes, UNSENT_MAX_BYTES)
