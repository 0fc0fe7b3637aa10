"""Which address of the API server is tried first, and what may be one."""

import errno
from pathlib import Path

import pytest

from agent.relay.addresses import AGAIN_S, ENDPOINTS_MAX, LOOK_INTERVAL_S, Addresses, parse
from agent.relay.endpoint import Endpoint

SERVICE = ("10.0.0.1", 443)
ONE, TWO = ("10.1.0.1", 6443), ("fd00::1", 6443)


class World:
    def __init__(self, tmp_path, text=None):
        self.file = tmp_path / "endpoints"
        self.now = 0.0
        if text is not None:
            self.file.write_text(text)
        endpoint = Endpoint.from_url("https://10.0.0.1")
        self.addresses = Addresses(endpoint, self.file, clock=lambda: self.now)

    def candidates(self, seconds=0.0):
        self.now += seconds
        return self.addresses.candidates()


def test_the_service_alone_without_a_file():
    addresses = Addresses(Endpoint.from_url("https://10.0.0.1"), None, clock=lambda: 0.0)
    assert addresses.candidates() == [SERVICE]


def test_the_service_first_then_the_endpoints(tmp_path):
    world = World(tmp_path, "10.1.0.1:6443\n[fd00::1]:6443\n10.0.0.1:443\n")
    assert world.candidates() == [SERVICE, ONE, TWO]
    assert world.addresses.is_around_service is False
    world.addresses.worked(SERVICE)
    assert world.candidates() == [SERVICE, ONE, TWO]


def test_which_nodes_have_an_api_server(tmp_path):
    world = World(tmp_path, "10.1.0.1:6443\n[fd00::1]:6443\n")
    found = [world.addresses.has(host) for host in ("10.1.0.1", "fd00::1", "10.1.0.2", "")]
    assert found == [True, True, False, False]


def test_what_worked_is_tried_first_until_the_service_works_again(tmp_path):
    world = World(tmp_path, "10.1.0.1:6443\n[fd00::1]:6443\n")
    world.candidates()
    world.addresses.worked(TWO)
    assert world.candidates() == [TWO, ONE, SERVICE]
    assert world.addresses.is_around_service is True
    assert world.addresses.is_probe_due() is False
    world.now += AGAIN_S
    assert [world.addresses.is_probe_due(), world.addresses.is_probe_due()] == [True, False]
    world.addresses.worked(SERVICE)
    assert world.candidates()[0] == SERVICE
    assert world.addresses.is_around_service is False
    world.now += AGAIN_S
    assert world.addresses.is_probe_due() is False


def test_the_file_may_come_change_and_go(tmp_path):
    world = World(tmp_path)
    assert world.candidates() == [SERVICE]
    world.file.write_text("10.1.0.1:6443\n")
    assert world.candidates(LOOK_INTERVAL_S - 1) == [SERVICE]
    assert world.candidates(1) == [SERVICE, ONE]
    world.file.write_text("[fd00::1]:6443")
    assert world.candidates(LOOK_INTERVAL_S) == [SERVICE, TWO]
    world.file.unlink()
    assert world.candidates(LOOK_INTERVAL_S) == [SERVICE]


def test_a_file_that_is_none_leaves_what_was_known(tmp_path, caplog):
    world = World(tmp_path, "10.1.0.1:6443\n")
    assert world.candidates() == [SERVICE, ONE]
    world.file.write_text("evil.test:6443\n")
    assert world.candidates(LOOK_INTERVAL_S) == [SERVICE, ONE]
    assert "is not used" in caplog.text


@pytest.mark.parametrize(
    "content",
    [
        b"kube.test:6443", b"10.0.0.5", b"10.0.0.5:0", b"10.0.0.5:65536", b"10.0.0.5:-1", b"https://10.0.0.5:6443",
        b"0.0.0.0:6443", b"[::]:6443", b"224.0.0.1:6443", b"[ff02::1]:6443", b"fd00::1:6443", b"[10.0.0.5", b"\xff",
        b"10.0.0.256:6443", b"010.0.0.1:6443", b"[fe80::1%eth0]:1", b"10.0.0.5:6443 x", b"#", b"1.1.1.1:1\n" * 1000,
        b"".join(b"10.0.0.%d:1\n" % number for number in range(ENDPOINTS_MAX + 1)),
    ],
)  # fmt: skip
def test_what_is_no_list_of_endpoints(content):
    with pytest.raises(ValueError, match=r"."):
        parse(content)


@pytest.mark.parametrize("content", [b"", b"\n", b"10.1.0.1:6443\n10.1.0.1:6443"])
def test_what_is_one(content):
    assert parse(content) in ([], [ONE])


def test_a_file_that_could_not_be_read_for_a_moment_is_read_again(tmp_path, monkeypatch, caplog):
    world = World(tmp_path, "10.1.0.1:6443\n")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", out_of_files)
        assert world.candidates() == [SERVICE]
    assert world.candidates(LOOK_INTERVAL_S) == [SERVICE, ONE]
    assert len(caplog.records) == 1


def out_of_files(path):
    raise OSError(errno.EMFILE, "Too many open files")
