"""What the kernel says of bytes on the way: its own structure, at the offsets of linux/tcp.h."""

import socket
import time

from agent.relay.tcpinfo import on_the_way
from tests.faults.deaf import deaf


def pair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    return near, far


def fill(sock):
    """Write until there is no room; returns how many bytes."""
    sock.setblocking(False)
    sent = 0
    while True:
        try:
            sent += sock.send(bytes(65536))
        except BlockingIOError:
            return sent


def settled(sock, is_expected):
    """The kernel's answer, once it is as expected or a second has gone."""
    deadline = time.monotonic() + 1
    while not is_expected(found := on_the_way(sock)) and time.monotonic() < deadline:
        pass
    return found


def test_what_was_acknowledged_and_what_was_not():
    near, far = pair()
    with near, far:
        before = on_the_way(near)
        assert before.is_nothing
        near.sendall(bytes(1000))
        heard = settled(near, lambda found: found.is_nothing)
        assert (heard.is_nothing, heard.acknowledged) == (True, before.acknowledged + 1000)
        with deaf([far]):
            near.sendall(bytes(10))
            time.sleep(0.1)
            found = on_the_way(near)
            assert (found.segments, found.unsent, found.acknowledged) == (1, 0, heard.acknowledged)
            assert not found.waits_for_room
            assert 90 <= found.silent_ms < 5000
        again = settled(near, lambda found: found.is_nothing)
        assert (again.is_nothing, again.acknowledged) == (True, heard.acknowledged + 10)


def test_who_does_not_read_has_acknowledged_what_there_was_room_for():
    near, far = pair()
    with near, far:
        sent = fill(near)
        time.sleep(0.3)
        found = on_the_way(near)
        assert found.waits_for_room
        assert not found.is_nothing
        assert found.acknowledged + found.unsent >= sent > found.acknowledged


def test_who_does_not_even_say_that_there_is_no_room():
    near, far = pair()
    with near, far:
        fill(near)
        time.sleep(0.3)
        with deaf([far]):
            deadline = time.monotonic() + 10
            while on_the_way(near).waits_for_room and time.monotonic() < deadline:
                time.sleep(0.05)
            found = on_the_way(near)
        assert (found.waits_for_room, found.segments) == (False, 0)
        assert found.probes >= 3
        assert found.unsent


def test_where_nobody_can_tell():
    near, far = pair()
    near.close()
    far.close()
    assert on_the_way(near) is None
    assert on_the_way(None) is None
    left, right = socket.socketpair()
    with left, right:
        assert on_the_way(left) is None


def test_a_kernel_that_says_less():
    class Old:
        def getsockopt(self, level, option, length):
            return bytes(144)

    assert on_the_way(Old()) is None
