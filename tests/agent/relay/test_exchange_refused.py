"""agent/relay/exchange.py: whose a 401 is, and what becomes of it (design P10)."""

import pytest

from proto.errors import Code
from tests.agent.relay.stream import Conversation

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UNAUTHORIZED_BODY = b'{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Unauthorized","code":401}'
UNAUTHORIZED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\n\r\n%b" % (
    len(UNAUTHORIZED_BODY),
    UNAUTHORIZED_BODY,
)


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


def refused_twice(talk: Conversation) -> None:
    """With the token in use and with the fresh one: the agent asks whether that is good."""
    talk.exchange.end()
    talk.answer(UNAUTHORIZED)
    talk.pool.waiters.pop().on_connection(talk.pool.connect())
    talk.pool.idle.clear()
    talk.answer(UNAUTHORIZED)
    talk.pool.waiters.pop().on_connection(talk.pool.connect())
    assert talk.written.startswith(b"HEAD /version ")


async def test_a_second_401_is_no_401_for_the_user():
    talk = Conversation()
    refused_twice(talk)
    talk.answer(BAD)
    assert talk.stream.log == [("reset", "KUBE_UNAUTHORIZED")]
    assert talk.stream.body == b""
    assert (talk.counts.active, talk.counts.unauthorized) == (0, 2)


@pytest.mark.parametrize("path", [b"/apis/metrics.k8s.io/v1beta1/nodes", b"/api/v1/namespaces/n/pods/p/log"])
async def test_a_401_of_what_stands_behind_the_api_server_is_not_the_tokens(path: bytes):
    """An extension API server that does not take the front proxy's certificate says it word for word; a kubelet too."""
    talk = Conversation(path=path)
    refused_twice(talk)
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


@pytest.mark.parametrize("query", [b"?x=1", b"?", b"?next=/a"])
async def test_a_query_behind_the_proxy_path_is_no_part_of_it(query: bytes):
    """The root of a proxied program: nothing but the query stands behind the word."""
    root = b"/api/v1/namespaces/n/services/s/proxy" + query
    talk = Conversation("POST", path=root, ready=2)
    talk.exchange.end()
    talk.answer(UNAUTHORIZED)
    assert talk.written.startswith(b"HEAD /version ")
    talk.answer(GOOD)
    assert talk.stream.log == ["accept", ("head", 401, False), "end"]
    assert talk.stream.body == UNAUTHORIZED_BODY
    assert (talk.credential.reads, talk.pool.waiters, talk.counts.unauthorized) == (0, [], 0)
    long = Conversation("POST", path=root)
    long.exchange.end()
    long.answer(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 9000\r\n\r\n" + b"x" * 9000)
    assert long.stream.log == ["accept", ("head", 401, False), "end"]
    assert (len(long.stream.body), long.credential.reads, long.pool.waiters) == (9000, 0, [])


async def test_a_query_that_names_a_proxy_path_makes_no_proxied_request():
    talk = Conversation("DELETE", path=b"/api/v1/pods?x=/api/v1/nodes/n/proxy/")
    talk.exchange.end()
    talk.answer(UNAUTHORIZED)
    assert talk.credential.reads == 1
    assert len(talk.pool.waiters) == 1


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
