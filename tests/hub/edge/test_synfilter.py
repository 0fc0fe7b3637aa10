"""hub/edge/synfilter.py, with the kernel it asks; under load in tests/faults/test_last_knock.py."""

from __future__ import annotations

import errno
import select
import socket
import sys

import pytest

from hub.edge.listener import bind
from hub.edge.synfilter import ignore_syns

SUCCESS = 0
linux = pytest.mark.skipif(sys.platform != "linux", reason="classic BPF on a socket is Linux's")


@linux
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_who_has_knocked_is_let_in_and_who_knocks_later_is_not_answered(host: str) -> None:
    try:
        (listening,) = bind(host, 0, 16)
    except OSError as error:
        pytest.skip(f"no {host} here: {error.strerror}")
    address = listening.getsockname()
    with (
        listening,
        socket.create_connection(address[:2], timeout=5.0) as early,
        socket.socket(listening.family) as late,
    ):
        assert ignore_syns(listening)
        late.setblocking(False)
        assert late.connect_ex(address) == errno.EINPROGRESS
        select.select([listening], [], [], 5.0)
        accepted, _ = listening.accept()
        with accepted:
            accepted.sendall(b"welcome")
            early.sendall(b"hello")  # what was taken before is heard and answered, its end too
            assert (early.recv(16), accepted.recv(16)) == (b"welcome", b"hello")
            early.shutdown(socket.SHUT_WR)
            assert accepted.recv(16) == b""
        with pytest.raises(BlockingIOError):
            listening.accept()
        listening.close()
        _, writable, failed = select.select([], [late], [late], 0)
        assert not writable, "it was answered"
        assert not failed
        assert late.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == SUCCESS


def test_a_kernel_that_cannot_is_no_error() -> None:
    with socket.socket() as closed:
        pass
    assert not ignore_syns(closed)
