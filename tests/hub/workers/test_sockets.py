"""hub/workers/sockets.py: several sockets on one address, and nobody else's."""

from __future__ import annotations

import socket

import pytest

from hub.workers.sockets import listening, reserve


def test_one_port_for_all_workers() -> None:
    addresses = reserve([("127.0.0.1", 0), ("::1", 0)], 16)
    crews = [listening(addresses, 16) for _ in range(3)]
    try:
        names = {tuple(sock.getsockname()[:2] for sock in crew) for crew in crews}
        assert names == {tuple(addresses)}
        assert all(port for _, port in addresses)
    finally:
        for crew in crews:
            for sock in crew:
                sock.close()


def test_an_address_in_use_is_refused_even_if_it_could_be_shared() -> None:
    addresses = reserve([("127.0.0.1", 0)], 16)
    (theirs,) = listening(addresses, 16)
    with theirs, pytest.raises(OSError, match="in use"):
        reserve(addresses, 16)


def test_nothing_stays_open_when_one_address_fails() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            listening([("127.0.0.1", 0), ("127.0.0.1", port)], 16)
