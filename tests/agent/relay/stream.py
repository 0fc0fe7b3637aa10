"""A hub's stream as the exchange sees it, written down instead of sent; and a connection's transport likewise."""

import asyncio

from agent.counts import Counts
from agent.relay.admission import Admission
from agent.relay.connection import KubeConnection
from agent.relay.context import RelayContext
from agent.relay.endpoint import Endpoint
from agent.relay.policy import Policy
from proto.compression import Histories
from proto.messages import HttpRequest, StreamClass, StreamKind

IDENTITY = ((b"impersonate-user", b"riata:alice"), (b"impersonate-group", b"riata:dev"))


class FakeStream:
    """proto.aio.link.LinkStream for tests."""

    def __init__(self, room=10**9):
        self.log = []
        self.compresses = False
        self.is_near = False
        self.window = 256 * 1024
        self.body = b""
        self.credit = 0
        self.room = room
        self.is_dead = False

    def accept(self, message=None):
        self.log.append("accept")

    def head(self, message, *, end=False):
        self.log.append(("head", message.status, end))
        self.headers = message.headers
        self.ext = message.ext

    def send(self, data, *, end=False):
        self.body += bytes(data)
        self.room -= len(data)
        if end:
            self.log.append("end")
        return self.room > 0

    def end(self):
        self.log.append("end")

    def trailers(self, headers):
        self.log.append(("trailers", headers))

    def reset(self, code, text=""):
        self.log.append(("reset", code.name))
        self.text = text
        self.is_dead = True

    def consumed(self, n):
        self.credit += n


class FakeTransport(asyncio.Transport):
    """What a KubeConnection writes, and whether it is open and reading."""

    def __init__(self):
        super().__init__()
        self.written = b""
        self.is_reading_now = True
        self.state = "open"

    def write(self, data):
        assert self.state == "open"
        self.written += bytes(data)

    def set_write_buffer_limits(self, high=None, low=None):
        pass

    def get_extra_info(self, name, default=None):
        return default

    def is_closing(self):
        return self.state != "open"

    def pause_reading(self):
        self.is_reading_now = False

    def resume_reading(self):
        self.is_reading_now = True

    def close(self):
        self.state = "closed"

    def abort(self):
        self.state = "aborted"


class FakePool:
    """Hands out connections as the test says; `ready` ones at once."""

    def __init__(self):
        self.asked = []
        self.waiters = []
        self.idle = []
        self.lost = []
        self.ready = 0
        self.made = []

    def acquire(self, waiter, *, max_idle):
        self.asked.append(max_idle)
        if self.idle and max_idle > 0:
            waiter.on_connection(self.idle.pop())
        elif self.ready:
            self.ready -= 1
            waiter.on_connection(self.connect())
        else:
            self.waiters.append(waiter)

    def connect(self):
        connection = KubeConnection(self)
        connection.connection_made(FakeTransport())
        self.made.append(connection)
        return connection

    def cancel(self, waiter):
        if waiter in self.waiters:
            self.waiters.remove(waiter)

    def on_idle(self, connection):
        self.idle.append(connection)

    def on_lost(self, connection):
        self.lost.append(connection)


class FakeCredential:
    """Tokens t0, t1, … one further with each refresh."""

    def __init__(self):
        self.reads = 0
        self.renewal = None
        """What `refresh` has to wait for."""

    def authorization(self, now):
        return b"Bearer t%d" % self.reads

    def refresh(self):
        self.reads += 1
        return self.renewal


def context(pool, counts, credential, policy=None, histories=None):
    """A relay in front of kube.test."""
    return RelayContext(
        endpoint=Endpoint.from_url("https://kube.test:6443"),
        pool=pool,
        credential=credential,
        policy=policy or Policy(),
        counts=counts,
        histories=histories or Histories(0),
    )


class Conversation:
    """One exchange with everything around it."""

    def __init__(
        self,
        method="GET",
        path=b"/api/v1/pods",
        headers=(),
        *,
        upgrade="",
        ready=1,
        room=10**9,
        pool=None,
        histories=None,
    ):
        self.histories = histories or Histories(0)
        self.pool = pool or FakePool()
        self.pool.ready += ready
        self.counts = Counts()
        self.credential = FakeCredential()
        self.stream = FakeStream(room)
        admission = Admission(context(self.pool, self.counts, self.credential, histories=self.histories))
        request = HttpRequest(method=method, path=path, headers=(*headers, *IDENTITY), upgrade=upgrade)
        self.exchange = admission.on_open(self.stream, StreamKind.HTTP, StreamClass.NORMAL, request)

    def data(self, chunk):
        self.exchange.data(memoryview(chunk))

    @property
    def connection(self):
        return self.pool.made[-1]

    @property
    def transport(self):
        return self.connection._transport

    @property
    def written(self):
        return self.transport.written

    def answer(self, data):
        while data:
            room = self.connection.get_buffer(-1)
            size = min(len(room), len(data))
            room[:size] = data[:size]
            self.connection.buffer_updated(size)
            data = data[size:]

    def lose(self, exc=None, *, announced=True):
        """The connection ends; `announced`: with TLS's close_notify, unless `exc` says otherwise."""
        connection = self.connection
        if announced and exc is None:
            connection.eof_received()
        connection._transport.state = "closed"
        connection.connection_lost(exc)
