"""tests/harness/ports.py: numbers that nobody else is given."""

import socket

import pytest

from hub.edge.listener import bind
from tests.harness import ports


def test_a_kept_port_refuses_is_given_to_nobody_and_may_be_listened_at_again_and_again() -> None:
    with ports.keep("127.0.0.1") as kept:
        host, port = kept.getsockname()
        assert ports.address(kept) == f"127.0.0.1:{port}"
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((host, port), timeout=5.0)
            with socket.socket() as other, pytest.raises(OSError, match="in use"):
                other.bind((host, port))
            (listening,) = bind(host, port, 16)
            with listening, socket.create_connection((host, port), timeout=5.0) as client:
                assert client.getpeername() == (host, port)
