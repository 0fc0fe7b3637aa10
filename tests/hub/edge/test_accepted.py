"""hub/edge/accepted.py: what each origin holds, and who holds the most."""

from __future__ import annotations

import socket

import pytest

from hub.edge.accepted import Accepted, Shares


def accepted(host: str) -> Accepted:
    sock = socket.socket()
    sock.close()
    return Accepted(sock, (host, 1), 0.0)


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        (("192.0.2.1", 7), "192.0.2.1"),
        (("2001:db8::1", 7, 0, 0), "2001:db8::"),
        ((), "()"),
        ("@abstract", "@abstract"),
    ],
)
def test_whose_it_is_its_address_tells(address: object, origin: str) -> None:
    with socket.socket() as sock:
        assert Accepted(sock, address, 0.0).origin == origin


def test_the_greediest_is_known_whatever_comes_and_goes() -> None:
    shares = Shares()
    assert shares.oldest_of_greediest() is None
    lone, first, second, third = map(accepted, ("192.0.2.1", "2001:db8::1", "2001:db8::2", "2001:db8::3"))
    shares.add(lone)
    assert shares.oldest_of_greediest() is lone
    for each in (first, second, third):
        shares.add(each)
    assert shares.oldest_of_greediest() is first
    assert [len(shares), shares.count("2001:db8::"), shares.count("192.0.2.1")] == [4, 3, 1]
    assert shares.oldest() is lone
    shares.discard(first)
    assert shares.oldest_of_greediest() is second
    shares.discard(third)
    assert shares.oldest_of_greediest() is lone, "of several who hold one it is the first"
    shares.discard(lone)
    assert shares.oldest_of_greediest() is second
    shares.discard(second)
    shares.discard(second)
    assert shares.oldest_of_greediest() is None
    assert shares.oldest() is None
    assert [len(shares), shares.count("2001:db8::")] == [0, 0]
    assert not shares._held
    assert not shares._ranks
