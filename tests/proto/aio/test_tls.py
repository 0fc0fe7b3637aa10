"""proto/aio/tls.py: what a read without a buffer asks for. TLS in memory, both ends."""

import ssl
import tracemalloc
from pathlib import Path

import pytest

from proto.aio.tls import RECORD_BYTES, RecordReads
from tests.agent.apiserver import Pki
from tests.harness import tls_pair

_WHAT_UVLOOP_ASKS_FOR = 256 * 1024


@pytest.fixture
def ends(tmp_path: Path) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    pki = Pki(tmp_path)
    client = ssl.create_default_context(cafile=pki.ca_file)
    client.sslobject_class = RecordReads
    return tls_pair.handshake(client, pki.server_context(), "localhost")


def test_a_read_takes_memory_for_one_record(ends: tuple[ssl.SSLObject, ssl.SSLObject]) -> None:
    near, far = ends
    far.write(b"x" * RECORD_BYTES)
    tracemalloc.start()
    try:
        got = near.read(_WHAT_UVLOOP_ASKS_FOR)
        with pytest.raises(ssl.SSLWantReadError):
            near.read(_WHAT_UVLOOP_ASKS_FOR)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert got == b"x" * RECORD_BYTES
    assert peak < 4 * RECORD_BYTES


def test_who_reads_on_gets_all_in_order(ends: tuple[ssl.SSLObject, ssl.SSLObject]) -> None:
    near, far = ends
    sent = bytes(range(256)) * 300
    far.write(sent)
    got = b""
    while len(got) < len(sent):
        got += near.read(_WHAT_UVLOOP_ASKS_FOR)
    assert got == sent


def test_a_buffer_is_filled_as_ever(ends: tuple[ssl.SSLObject, ssl.SSLObject]) -> None:
    near, far = ends
    far.write(b"hello")
    buffer = bytearray(_WHAT_UVLOOP_ASKS_FOR)
    assert near.read(len(buffer), buffer) == 5
    assert bytes(buffer[:5]) == b"hello"
