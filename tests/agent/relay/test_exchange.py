"""Exchanges: what the hub's stream says, what the API server's connection says, and what becomes of both."""

import pytest

from agent.errors import TokenUnavailable
from agent.relay.pool import ANY_IDLE, MUTATION_IDLE_MAX
from proto.errors import Code
from tests.agent.relay.stream import Conversation, FakePool

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UNAUTHORIZED_BODY = b'{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Unauthorized","code":401}'
UNAUTHORIZED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\n\r\n%b" % (
    len(UNAUTHORIZED_BODY),
    UNAUTHORIZED_BODY,
)


async def test_a_get_from_end_to_end():
    talk = Conversation(headers=((b"accept", b"application/json"), (b"x-unknown", b"1")))
    assert talk.pool.asked == []
    talk.exchange.end()
    assert talk.pool.asked == [ANY_IDLE]
    assert talk.written == (
        b"GET /api/v1/pods HTTP/1.1\r\nhost: kube.test:6443\r\naccept: application/json\r\n"
        b"impersonate-user: riata:alice\r\nimpersonate-group: riata:dev\r\nauthorization: Bearer t0\r\n\r\n"
    )
    talk.answer(b"HTTP/1.1 200 OK\r\nAudit-Id: 1\r\nContent-Length: 2\r\n\r\nok")
    assert talk.stream.log == [("head", 200, False), "end"]
    assert talk.stream.headers == ((b"audit-id", b"1"), (b"content-length", b"2"))
    assert talk.stream.body == b"ok"
    assert talk.pool.idle == [talk.connection]
    assert talk.counts.active == 0
    assert talk.counts.by_status[2] == 1


async def test_a_watch_is_passed_on_event_by_event():
    talk = Conversation()
    talk.exchange.end()
    talk.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert talk.stream.log == [("head", 200, False)]
    for event in (b"one\n", b"two\n"):
        talk.answer(b"4\r\n%b\r\n" % event)
        assert talk.stream.body.endswith(event)
    talk.answer(b"0\r\n\r\n")
    assert talk.stream.log == [("head", 200, False), "end"]


async def test_a_mutation_is_accepted_at_once_and_its_body_follows_with_credit():
    talk = Conversation("POST", headers=((b"content-length", b"6"),), ready=0)
    assert talk.stream.log == ["accept"]
    assert talk.pool.asked == [MUTATION_IDLE_MAX]
    talk.data(b"abc")
    assert talk.stream.credit == 0
    talk.exchange.on_connection(talk.pool.connect())
    assert talk.written.endswith(b"\r\n\r\nabc")
    assert talk.stream.credit == 3
    talk.data(b"def")
    talk.exchange.end()
    assert talk.written.endswith(b"abcdef")
    assert talk.stream.credit == 6
    talk.answer(OK)
    assert talk.stream.log == ["accept", ("head", 200, False), "end"]
    assert talk.pool.idle == [talk.connection]


async def test_a_body_of_unknown_length_goes_in_chunks():
    talk = Conversation("PUT")
    assert talk.pool.asked == []
    talk.data(b"abc")
    talk.data(b"0123456789abcdef")
    talk.exchange.end()
    head, _, body = talk.written.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    assert b"content-length" not in head
    assert body == b"3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n"
    talk.answer(OK)
    assert talk.pool.idle


async def test_a_chunked_body_that_waited_for_its_connection_is_whole():
    talk = Conversation("POST", ready=0)
    talk.data(b"abc")
    talk.data(b"def")
    talk.exchange.end()
    talk.exchange.on_connection(talk.pool.connect())
    assert talk.written.endswith(b"\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")
    assert talk.stream.credit == 6


@pytest.mark.parametrize(("method", "says_zero"), [("POST", True), ("PATCH", True), ("DELETE", False), ("GET", False)])
async def test_requests_without_a_body(method, says_zero):
    talk = Conversation(method)
    talk.exchange.end()
    assert (b"content-length: 0\r\n" in talk.written) is says_zero
    assert ("accept" in talk.stream.log) is (method != "GET")


async def test_request_credit_waits_for_a_full_transport():
    talk = Conversation("POST", headers=((b"content-length", b"9"),))
    talk.connection.pause_writing()
    talk.data(b"abc")
    talk.data(b"def")
    assert talk.stream.credit == 0
    talk.connection.resume_writing()
    assert talk.stream.credit == 6
    talk.data(b"ghi")
    assert talk.stream.credit == 9


async def test_a_full_stream_pauses_the_connection():
    talk = Conversation(room=3)
    talk.exchange.end()
    talk.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabcde")
    assert not talk.transport.is_reading_now
    talk.exchange.writable()
    assert talk.transport.is_reading_now
    talk.answer(b"fghij")
    assert talk.stream.body == b"abcdefghij"
    assert talk.pool.idle
    assert talk.transport.is_reading_now


@pytest.mark.parametrize(("sent", "text"), [(b"abc", "shorter"), (b"abcdefg", "longer")])
async def test_a_body_that_is_not_as_long_as_announced_never_reaches_its_end(sent, text):
    talk = Conversation("POST", headers=((b"content-length", b"6"),))
    talk.data(sent)
    talk.exchange.end()
    assert talk.stream.log == ["accept", ("reset", "PROTOCOL")]
    assert text in talk.stream.text
    assert talk.transport.state == "aborted"
    assert talk.counts.active == 0


async def test_the_hubs_reset_aborts_the_connection_at_once():
    talk = Conversation()
    talk.exchange.end()
    talk.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
    talk.exchange.reset(Code.CANCELLED, "")
    assert talk.transport.state == "aborted"
    assert talk.counts.active == 0
    assert talk.stream.log == [("head", 200, False)]


async def test_the_hubs_reset_ends_the_waiting_for_a_connection():
    talk = Conversation(ready=0)
    talk.exchange.end()
    talk.exchange.reset(Code.SESSION_LOST, "")
    assert talk.pool.waiters == []
    assert talk.counts.active == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    ],
)
@pytest.mark.parametrize("exc", [None, ConnectionResetError()])
async def test_a_body_that_is_cut_short_is_a_reset_and_never_an_end(answer, exc):
    talk = Conversation()
    talk.exchange.end()
    talk.answer(answer)
    talk.lose(exc)
    assert talk.stream.log == [("head", 200, False), ("reset", "UPSTREAM")]
    assert talk.pool.lost == [talk.connection]


async def test_nonsense_from_the_api_server_is_a_reset():
    talk = Conversation()
    talk.exchange.end()
    talk.answer(b"SSH-2.0-OpenSSH_9\r\n\r\n")
    assert talk.stream.log == [("reset", "UPSTREAM")]
    assert talk.transport.state == "aborted"


async def reused(method, headers=()):
    """A conversation on a connection that has already served one."""
    pool = FakePool()
    first = Conversation(pool=pool)
    first.exchange.end()
    first.answer(OK)
    talk = Conversation(method, headers=headers, pool=pool, ready=0)
    return talk


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_a_safe_request_on_a_stale_connection_is_repeated_on_a_fresh_one_once(method):
    talk = await reused(method)
    talk.exchange.end()
    talk.lose(ConnectionResetError())
    assert talk.pool.asked[-1] == 0.0
    assert talk.counts.repeats_stale == 1
    talk.pool.waiters.pop().on_connection(talk.pool.connect())
    assert talk.written.startswith(method.encode())
    talk.lose()
    assert talk.stream.log[-1] == ("reset", "UPSTREAM")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_a_mutation_is_never_repeated_blindly(method):
    talk = await reused(method)
    talk.exchange.end()
    talk.lose()
    assert talk.stream.log == ["accept", ("reset", "UPSTREAM")]
    assert len(talk.pool.made) == 1
    assert talk.pool.waiters == []


async def test_an_upgrade_is_never_repeated_though_it_is_a_get():
    """WebSocket exec is a GET that runs a command."""
    pool = FakePool()
    first = Conversation(pool=pool)
    first.exchange.end()
    first.answer(OK)
    talk = Conversation("GET", upgrade="websocket", pool=pool, ready=0)
    talk.exchange.begin()
    assert talk.pool.asked[-1] == MUTATION_IDLE_MAX
    talk.lose()
    assert talk.stream.log[-1] == ("reset", "UPSTREAM")
    assert len(talk.pool.made) == 1
    assert talk.pool.waiters == []


async def test_a_safe_request_that_was_partly_answered_is_not_repeated():
    talk = await reused("GET")
    talk.exchange.end()
    talk.answer(b"HTTP/1.1 2")
    talk.lose()
    assert talk.stream.log == [("reset", "UPSTREAM")]


async def test_a_fresh_connection_that_closes_is_no_stale_one():
    talk = Conversation()
    talk.exchange.end()
    talk.lose()
    assert talk.stream.log == [("reset", "UPSTREAM")]


async def test_no_connection():
    talk = Conversation(ready=0)
    talk.exchange.end()
    talk.pool.waiters.pop().on_no_connection(Code.DIAL_REFUSED, "the API server refused the connection")
    assert talk.stream.log == [("reset", "DIAL_REFUSED")]
    assert talk.counts.by_code[Code.DIAL_REFUSED] == 1


async def test_a_401_makes_the_agent_read_its_token_again_and_repeat():
    talk = Conversation("DELETE")
    talk.exchange.end()
    talk.answer(UNAUTHORIZED)
    assert talk.credential.reads == 1
    assert talk.stream.log == ["accept"]
    talk.pool.waiters.pop().on_connection(talk.pool.connect())
    assert b"authorization: Bearer t1\r\n" in talk.written
    talk.answer(OK)
    assert talk.stream.log == ["accept", ("head", 200, False), "end"]
    assert talk.counts.unauthorized == 1


@pytest.mark.parametrize(
    "body",
    [
        b'k8s\x00\n\x0c\n\x02v1\x12\x06Status\x12-\n\x06\n\x00\x12\x00\x1a\x00\x12\x07Failure\x1a\x0cUnauthorized"\x0cUnauthorized0\x91\x03',
        b"apiVersion: v1\ncode: 401\nkind: Status\nmessage: Unauthorized\nreason: Unauthorized\nstatus: Failure\n",
    ],
    ids=["protobuf", "yaml"],
)
async def test_the_api_servers_own_401_is_known_in_each_of_its_forms(body):
    """A change that it refused to look at is repeated with a fresh token, and not called unknown."""
    talk = Conversation("PUT")
    talk.exchange.end()
    talk.answer(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert talk.credential.reads == 1
    talk.pool.waiters.pop().on_connection(talk.pool.connect())
    assert talk.written.startswith(b"PUT ")


async def test_a_second_401_is_no_401_for_the_user():
    talk = Conversation()
    talk.exchange.end()
    talk.answer(UNAUTHORIZED)
    talk.pool.waiters.pop().on_connection(talk.pool.connect())
    talk.pool.idle.clear()
    talk.answer(UNAUTHORIZED)
    talk.pool.waiters.pop().on_connection(talk.pool.connect())
    assert talk.written.startswith(b"HEAD /version ")
    talk.answer(BAD)
    assert talk.stream.log == [("reset", "KUBE_UNAUTHORIZED")]
    assert talk.stream.body == b""
    assert (talk.counts.active, talk.counts.unauthorized) == (0, 2)


@pytest.mark.parametrize("path", [b"/apis/metrics.k8s.io/v1beta1/nodes", b"/api/v1/namespaces/n/pods/p/log"])
async def test_a_401_of_what_stands_behind_the_api_server_is_not_the_tokens(path: bytes):
    """An extension API server that does not take the front proxy's certificate says it word for word; a kubelet too."""
    talk = Conversation(path=path)
    talk.exchange.end()
    talk.answer(UNAUTHORIZED)
    talk.pool.waiters.pop().on_connection(talk.pool.connect())
    talk.pool.idle.clear()
    talk.answer(UNAUTHORIZED)
    talk.pool.waiters.pop().on_connection(talk.pool.connect())
    assert talk.written.startswith(b"HEAD /version ")
    assert talk.written.endswith(b"authorization: Bearer t1\r\n\r\n")
    talk.answer(GOOD)
    assert talk.stream.log == [("head", 401, False), "end"]
    assert talk.stream.body == UNAUTHORIZED_BODY
    assert (talk.pool.waiters, talk.counts.active) == ([], 0)


async def test_a_401_behind_a_sent_body_is_not_repeated():
    for verdict, log in ((BAD, [("reset", "KUBE_UNAUTHORIZED")]), (GOOD, [("head", 401, False), "end"])):
        talk = Conversation("POST", headers=((b"content-length", b"1"),), ready=2)
        talk.data(b"x")
        talk.exchange.end()
        talk.answer(UNAUTHORIZED)
        talk.answer(verdict)
        assert talk.stream.log == ["accept", *log]
        assert talk.pool.waiters == []


async def test_a_401_of_a_proxied_program_is_its_own_business():
    talk = Conversation(path=b"/api/v1/namespaces/n/services/grafana:80/proxy/login")
    talk.exchange.end()
    talk.answer(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 5\r\n\r\nlogin")
    assert talk.stream.log == [("head", 401, False), "end"]
    assert talk.stream.body == b"login"


@pytest.mark.parametrize("word", [b"%70roxy", b"pro%78y", b"proxy%2Fx"])
async def test_a_program_that_is_reached_by_another_spelling_is_not_asked_twice(word: bytes):
    """The API server decodes the path, so the program has executed what its 401 answers."""
    talk = Conversation("POST", path=b"/api/v1/namespaces/n/services/shop:80/" + word + b"/order")
    talk.exchange.end()
    talk.answer(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 5\r\n\r\nlogin")
    assert talk.pool.waiters == []
    assert talk.stream.log == ["accept", ("head", 401, False), "end"]


async def test_a_long_401_of_a_proxied_program_streams():
    talk = Conversation(path=b"/api/v1/nodes/n/proxy/")
    talk.exchange.end()
    talk.answer(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 9000\r\n\r\n" + b"x" * 5000)
    assert talk.stream.log == [("head", 401, False)]
    talk.answer(b"x" * 4000)
    assert talk.stream.log == [("head", 401, False), "end"]
    assert len(talk.stream.body) == 9000


@pytest.mark.parametrize("size", [4096, 4097, 9000])
async def test_a_401_of_a_proxied_program_that_comes_in_one_piece_ends(size: int):
    talk = Conversation(path=b"/api/v1/nodes/n/proxy/")
    talk.exchange.end()
    talk.answer(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
    assert talk.stream.log == [("head", 401, False), "end"]
    assert (len(talk.stream.body), talk.counts.active) == (size, 0)


AGGREGATED = b"/apis/subresources.example.io/v1/namespaces/n/machines/m/restart"
LOGIN = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 5\r\n\r\nlogin"


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_a_401_that_is_no_status_is_whose_the_api_server_says(method):
    """An aggregated API server's own: not the agent's token, and what it has executed is not executed again."""
    talk = Conversation(method, path=AGGREGATED, ready=2)
    talk.exchange.end()
    talk.answer(LOGIN)
    assert talk.written.startswith(b"HEAD /version ")
    talk.answer(GOOD)
    assert talk.stream.log[-2:] == [("head", 401, False), "end"]
    assert talk.stream.body == b"login"
    assert (talk.credential.reads, talk.pool.waiters, talk.counts.active) == (0, [], 0)


@pytest.mark.parametrize(("method", "last"), [("GET", ("head", 200, False)), ("PUT", ("reset", "UPSTREAM"))])
async def test_a_401_that_is_no_status_may_be_about_the_agents_token_all_the_same(method, last):
    """Something in front of the API server: reads are repeated with a fresh token, changes by nobody."""
    talk = Conversation(method, path=AGGREGATED, ready=3)
    talk.exchange.end()
    talk.answer(LOGIN)
    talk.pool.idle.clear()
    talk.answer(BAD)
    assert talk.credential.reads == 1
    if method == "GET":
        talk.answer(OK)
    assert last in talk.stream.log
    assert talk.counts.active == 0


PROXIED = b"/api/v1/namespaces/n/services/vcluster:443/proxy/api/v1/pods"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
BAD = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 5\r\n\r\n"


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_a_program_that_answers_as_the_api_server_does_is_asked_once(method):
    """An API server behind a Service: its 401 is for the user, and what it has executed is not executed again."""
    talk = Conversation(method, path=PROXIED, ready=2)
    talk.exchange.end()
    accepted = list(talk.stream.log)
    talk.answer(UNAUTHORIZED)
    assert talk.stream.log == accepted
    assert talk.written == b"HEAD /version HTTP/1.1\r\nhost: kube.test:6443\r\nauthorization: Bearer t0\r\n\r\n"
    talk.answer(GOOD)
    assert talk.stream.log == [*accepted, ("head", 401, False), "end"]
    assert talk.stream.body == UNAUTHORIZED_BODY
    assert (len(talk.pool.made), talk.pool.idle, talk.pool.waiters) == (2, talk.pool.made, [])
    assert (talk.credential.reads, talk.counts.active, talk.counts.unauthorized) == (0, 0, 0)


async def test_the_api_servers_own_401_on_a_proxy_path_is_still_about_the_agents_token():
    talk = Conversation(path=PROXIED, ready=3)
    talk.exchange.end()
    talk.answer(UNAUTHORIZED)
    talk.pool.idle.clear()
    talk.answer(BAD)
    assert talk.stream.log == []
    assert (talk.credential.reads, talk.counts.unauthorized) == (1, 1)
    assert talk.written.endswith(b"authorization: Bearer t1\r\n\r\n")
    assert talk.written.startswith(b"GET " + PROXIED)
    talk.answer(OK)
    assert talk.stream.log == [("head", 200, False), "end"]


async def test_a_401_without_a_body_says_nothing_of_whose_it_is():
    """To HEAD: the program's own is passed on, the API server's never."""
    for verdict, log in ((BAD, []), (GOOD, [("head", 401, True)])):
        talk = Conversation("HEAD", path=PROXIED, ready=3)
        talk.exchange.end()
        talk.answer(UNAUTHORIZED.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
        talk.pool.idle.clear()
        talk.answer(verdict)
        assert talk.stream.log == log
        assert talk.counts.unauthorized == (verdict == BAD)


async def test_a_proxied_change_behind_a_refused_token_is_not_asked_again_by_anybody():
    """KUBE_UNAUTHORIZED would have the hub ask the next agent: who knows what happened before the token ended."""
    talk = Conversation("POST", path=PROXIED, ready=2)
    talk.exchange.end()
    talk.answer(UNAUTHORIZED)
    talk.answer(BAD)
    assert talk.stream.log == ["accept", ("reset", "UPSTREAM")]
    assert (talk.credential.reads, talk.counts.active) == (1, 0)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_proxied_401_of_which_the_api_server_says_nothing_is_no_answer(method):
    talk = Conversation(method, path=PROXIED, ready=2)
    talk.exchange.end()
    talk.answer(UNAUTHORIZED)
    talk.lose()
    assert talk.stream.log[-1] == ("reset", "UPSTREAM")
    assert talk.pool.waiters == []
    assert talk.counts.active == 0


async def test_who_leaves_meanwhile_is_not_answered():
    talk = Conversation(path=PROXIED, ready=3)
    talk.exchange.end()
    talk.answer(UNAUTHORIZED)
    talk.exchange.reset(Code.CANCELLED, "")
    assert talk.transport.state == "aborted"
    assert talk.stream.log == []
    assert talk.counts.active == 0


async def test_an_endless_401_is_cut():
    talk = Conversation()
    talk.exchange.end()
    talk.answer(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 900000\r\n\r\n" + b"x" * 5000)
    assert talk.stream.log == [("reset", "KUBE_UNAUTHORIZED")]
    assert talk.transport.state == "aborted"


async def test_without_a_token_nothing_is_sent():
    talk = Conversation(ready=0)

    def fail(now):
        raise TokenUnavailable("no token")

    talk.credential.authorization = fail
    talk.exchange.end()
    talk.exchange.on_connection(talk.pool.connect())
    assert talk.written == b""
    assert talk.stream.log == [("reset", "KUBE_UNAUTHORIZED")]


async def test_an_answer_before_the_body_was_read_ends_the_connection_and_swallows_the_rest():
    talk = Conversation("POST", headers=((b"content-length", b"6"),))
    talk.data(b"abc")
    talk.answer(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    assert talk.stream.log == ["accept", ("head", 413, True)]
    assert talk.transport.state == "aborted"
    assert talk.pool.idle == []
    talk.data(b"def")
    talk.exchange.end()
    assert talk.stream.credit == 6


async def test_redirects_are_passed_on():
    talk = Conversation()
    talk.exchange.end()
    talk.answer(b"HTTP/1.1 302 Found\r\nLocation: https://evil.test/\r\nContent-Length: 0\r\n\r\n")
    assert talk.stream.log == [("head", 302, True)]
    assert (b"location", b"https://evil.test/") in talk.stream.headers
    assert len(talk.pool.made) == 1


async def test_a_head_request_has_no_body():
    talk = Conversation("HEAD")
    talk.exchange.end()
    talk.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")
    assert talk.stream.log == [("head", 200, True)]
    assert talk.pool.idle == [talk.connection]
