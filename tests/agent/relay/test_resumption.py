"""agent/relay/resumption.py: which connection takes up which session. TLS in memory, both ends."""

import gc
import ssl
import weakref

import pytest

from agent.relay import resumption
from agent.relay.resumption import KEPT_S, PAUSE_S
from tests.agent.apiserver import Pki
from tests.harness import tls_pair


class Ends:
    """A context of the agent and what a server at the other end of its connections is."""

    def __init__(self, pki):
        self.now = 100.0
        self.server = pki.server_context()
        self.client = ssl.create_default_context(cafile=pki.ca_file)
        resumption.attach(self.client, lambda: self.now)

    def connect(self, name="localhost", *, is_kept=True, takes_s=0.0):
        """Whether the handshake of one more connection was a resumed one. Its server says something, and is heard."""
        client, server = tls_pair.handshake(self.client, self.server, name)
        self.now += takes_s
        server.write(b"hello")
        assert client.read(5) == b"hello"
        if is_kept:
            resumption.keep(client)
        assert server.session_reused is client.session_reused
        return client.session_reused


@pytest.fixture
def pki(tmp_path):
    return Pki(tmp_path)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_within_a_minute_of_a_full_handshake_others_take_up_its_session(pki, version):
    ends = Ends(pki)
    ends.server.maximum_version = version
    assert not ends.connect()
    ends.now += KEPT_S - 1
    assert [ends.connect() for _ in range(3)] == [True] * 3  # one ticket, as often as it is wanted
    ends.now += 1
    assert not ends.connect()  # the resumed ones have verified nobody
    ends.now += KEPT_S - 1
    assert ends.connect()


def test_a_resumed_handshake_is_no_full_one_however_late_its_answer_comes(pki):
    ends = Ends(pki)
    ends.connect()
    ends.now += KEPT_S - 1
    assert ends.connect(takes_s=2.0)
    assert not ends.connect()


def test_the_minute_is_that_of_the_handshake_however_late_its_answer_comes(pki):
    ends = Ends(pki)
    ends.connect(takes_s=KEPT_S - 1)
    assert ends.connect()
    ends.now += 1
    assert not ends.connect(takes_s=KEPT_S)
    assert not ends.connect()


def test_nothing_is_taken_up_that_nobody_has_answered_over(pki):
    ends = Ends(pki)
    ends.connect(is_kept=False)
    assert not ends.connect()


def test_a_session_is_of_the_name_that_it_was_verified_for(pki):
    ends = Ends(pki)
    ends.connect()
    with pytest.raises(ssl.SSLCertVerificationError, match="other"):
        ends.connect("other.test")
    assert ends.connect()


def test_who_does_not_know_the_session_has_to_prove_who_it_is(pki, tmp_path):
    ends = Ends(pki)
    ends.connect()
    ends.server = pki.server_context()  # restarted, or another one of several
    assert not ends.connect()
    ends.server = Pki(tmp_path, "other", "localhost").server_context()
    with pytest.raises(ssl.SSLCertVerificationError):
        ends.connect()


def test_after_one_that_went_wrong_none_is_taken_up_for_ten_minutes(pki):
    ends = Ends(pki)
    ends.connect()
    assert resumption.offers(ends.client) == 0
    assert ends.connect()
    assert resumption.offers(ends.client) == 1
    resumption.pause(ends.client)
    assert [ends.connect(), ends.connect()] == [False, False]
    ends.now += PAUSE_S
    assert [ends.connect(), ends.connect()] == [False, True]


def test_a_retired_context_goes_with_its_last_connection(pki):
    """Without the garbage collector, which a quiet agent has come by after months."""
    ends = Ends(pki)
    ends.connect()
    late, server = tls_pair.handshake(ends.client, ends.server, "localhost")
    resumption.retire(ends.client)
    server.write(b"hello")
    late.read(5)
    resumption.keep(late)
    context = weakref.ref(ends.client)
    gc.disable()
    try:
        del ends.client, late
        assert context() is None
    finally:
        gc.enable()


def test_another_context_knows_nothing_of_it(pki):
    """A changed CA makes one (agent/relay/endpoint.py)."""
    ends, others = Ends(pki), Ends(pki)
    others.server = ends.server
    ends.connect()
    assert not others.connect()


def test_a_server_without_tickets_is_no_error(pki):
    ends = Ends(pki)
    ends.server.num_tickets = 0
    assert [ends.connect(), ends.connect()] == [False, False]
    ends.server.num_tickets = 1
    assert [ends.connect(), ends.connect()] == [False, True]


def test_what_is_no_tls_of_ours_is_left_alone():
    resumption.keep(None)
    resumption.keep(object())
    plain = ssl.create_default_context()
    resumption.pause(plain)
    resumption.retire(plain)
    assert resumption.offers(plain) == 0
