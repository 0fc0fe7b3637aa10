"""hub/edge/listener.py: binding and its bounds; the accept loop itself is in tests/security/test_load.py."""

from __future__ import annotations

import socket

import pytest

from hub.edge.limits import EdgeLimits
from hub.edge.listener import Listener, address_text, bind


def test_bind_picks_a_port_and_says_it() -> None:
    (sock,) = bind("127.0.0.1", 0, 16)
    with sock:
        assert sock.getsockname()[1] > 0
        assert not sock.getblocking()


def test_a_taken_port_leaves_nothing_open() -> None:
    (taken,) = bind("127.0.0.1", 0, 16)
    with taken, pytest.raises(OSError, match="in use"):
        bind("127.0.0.1", taken.getsockname()[1], 16)


@pytest.mark.parametrize(
    ("address", "text"),
    [(("1.2.3.4", 5), "1.2.3.4:5"), (("::1", 5, 0, 0), "[::1]:5"), ("/run/x", "unknown"), (None, "unknown")],
)
def test_addresses_as_text(address: object, text: str) -> None:
    assert address_text(address) == text


async def test_a_stopped_listener_is_deaf() -> None:
    sockets = bind("127.0.0.1", 0, 16)
    address = sockets[0].getsockname()
    listener = Listener(
        sockets, tls=None, limits=EdgeLimits(), make_protocol=lambda peer: pytest.fail(peer), open_count=lambda: 0
    )
    listener.start()
    assert listener.addresses == [address]
    listener.stop()
    listener.room()
    await listener.aclose()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
