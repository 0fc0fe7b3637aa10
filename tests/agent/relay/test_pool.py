"""The pool: who gets which connection, who waits, who is refused; and real dials on loopback with their errors."""

import asyncio
import shutil
import socket
import ssl

import pytest

from agent.counts import Counts
from agent.relay.addresses import AGAIN_S, LOOK_INTERVAL_S, Addresses
from agent.relay.endpoint import Endpoint, KubeTrust
from agent.relay.pool import ANY_IDLE, MUTATION_IDLE_MAX, Pool, PoolLimits
from proto.aio.dial import ClosedAtOnceError
from proto.aio.tasks import TaskGroup
from proto.errors import Code
from tests.agent.apiserver import Pki, api_server
from tests.agent.relay.stream import FakePool
from tests.agent.waiting import until


class Waiter:
    def __init__(self):
        self.connection = None
        self.code = None
        self.text = ""

    def on_connection(self, connection):
        self.connection = connection

    def on_no_connection(self, code, text):
        self.code, self.text = code, text

    @property
    def is_settled(self):
        return self.connection is not None or self.code is not None


class OfflinePool(Pool):
    """A pool whose dials the test completes by hand."""

    def __init__(self, group, **limits):
        endpoint = Endpoint.from_url("https://kube.test:6443")
        super().__init__(endpoint, KubeTrust(ca_file=None), PoolLimits(**limits), owner=group, counts=Counts())
        self.dials = []

    async def _connect(self):
        future = asyncio.get_running_loop().create_future()
        self.dials.append(future)
        return await future

    async def finish_dial(self):
        await until(lambda: any(not dial.done() for dial in self.dials), turns=0)
        connection = FakePool.connect(self.Maker(self))
        next(dial for dial in self.dials if not dial.done()).set_result(connection)
        await until(lambda: True)
        return connection

    class Maker:
        """What FakePool.connect needs of its pool."""

        def __init__(self, pool):
            self.made = []
            self.on_idle, self.on_lost = pool.on_idle, pool.on_lost


@pytest.fixture
async def group():
    async with TaskGroup("test") as it:
        yield it


def ask(pool, max_idle=ANY_IDLE):
    waiter = Waiter()
    pool.acquire(waiter, max_idle=max_idle)
    return waiter


async def test_a_warm_connection_is_given_at_once(group):
    pool = OfflinePool(group)
    first = ask(pool)
    connection = await pool.finish_dial()
    assert first.connection is connection
    pool.on_idle(connection)
    assert pool.idle_connections == 1
    assert ask(pool).connection is connection
    assert len(pool.dials) == 1


async def test_mutations_get_no_connection_that_was_idle_for_long(group):
    pool = OfflinePool(group)
    ask(pool)
    connection = await pool.finish_dial()
    pool.on_idle(connection)
    connection.idle_since -= MUTATION_IDLE_MAX + 1
    mutation = ask(pool, MUTATION_IDLE_MAX)
    assert mutation.connection is None
    fresh = await pool.finish_dial()
    assert mutation.connection is fresh
    assert ask(pool).connection is connection


async def test_a_freed_connection_goes_to_the_oldest_waiter(group):
    pool = OfflinePool(group, connections=1)
    ask(pool)
    connection = await pool.finish_dial()
    second, third = ask(pool), ask(pool)
    assert pool.waiting == 2
    pool.on_idle(connection)
    assert second.connection is connection
    assert third.connection is None
    pool.cancel(third)
    pool.on_idle(connection)
    assert third.connection is None
    assert pool.idle_connections == 1


async def test_bounds_of_dials_connections_and_queue(group):
    pool = OfflinePool(group, dials=2, connections=3, queue=5)
    waiters = [ask(pool) for _ in range(5)]
    refused = ask(pool)
    assert refused.code is Code.REFUSED
    await until(lambda: len(pool.dials) == 2)
    assert len(pool.dials) == 2
    for _ in range(3):
        await pool.finish_dial()
    assert [waiter.connection is not None for waiter in waiters] == [True, True, True, False, False]
    assert len(pool.dials) == 3
    waiters[0].connection.abort()
    pool.on_lost(waiters[0].connection)
    await pool.finish_dial()
    assert waiters[3].connection is not None


@pytest.mark.parametrize(("connections", "code"), [(0, Code.REFUSED), (1, Code.DIAL_TIMEOUT)])
async def test_waiting_has_an_end(group, connections, code):
    """Nothing was sent; a full pool is nobody's outage."""
    pool = OfflinePool(group, connections=connections, queue_timeout=0.0)
    waiter = ask(pool)
    pool._run_sweep()
    assert waiter.code is code
    assert pool._sweep is None or pool._sweep.cancelled() or pool.waiting == 0


async def test_idle_connections_have_an_end_and_a_number(group):
    pool = OfflinePool(group, idle_connections=1, idle_timeout=5.0)
    ask(pool), ask(pool)
    first, second = await pool.finish_dial(), await pool.finish_dial()
    pool.on_idle(first)
    pool.on_idle(second)
    assert (first.is_open, second.is_open) == (True, False)
    first.idle_since -= 6
    pool._run_sweep()
    assert not first.is_open
    assert pool.idle_connections == 0


async def test_connections_that_closed_while_idle_are_not_given(group):
    pool = OfflinePool(group)
    ask(pool)
    connection = await pool.finish_dial()
    pool.on_idle(connection)
    connection._transport.close()
    assert ask(pool).connection is None


async def test_all_connections_are_looked_at_and_one_that_fails_does_not_end_that(group):
    pool = OfflinePool(group)
    looked = []
    ask(pool)
    connection = await pool.finish_dial()
    assert pool._sweep is not None

    class Curious:
        def __init__(self, failure):
            self.failure = failure

        def look(self, now):
            looked.append(now)
            if self.failure:
                raise self.failure

    pool._connections = {Curious(None), Curious(ZeroDivisionError())}
    first = pool._sweep
    with pytest.raises(ZeroDivisionError):
        pool._run_sweep()
    first.cancel()
    assert looked
    assert pool._sweep is not None
    pool._connections = {connection}
    await pool.close()


async def test_bytes_on_an_idle_connection_end_it(group):
    pool = OfflinePool(group)
    ask(pool)
    connection = await pool.finish_dial()
    pool.on_idle(connection)
    connection.get_buffer(-1)[:1] = b"x"
    connection.buffer_updated(1)
    assert not connection.is_open
    connection.connection_lost(None)
    assert pool.idle_connections == pool.open_connections == 0


async def test_closing(group):
    pool = OfflinePool(group)
    used = ask(pool)
    await pool.finish_dial()
    waiting = ask(pool)
    await pool.close()
    assert not used.connection.is_open
    assert waiting.code is Code.CLOSED
    assert ask(pool).code is Code.REFUSED


async def real_pool(group, url, ca_file, **limits):
    return Pool(Endpoint.from_url(url), KubeTrust(ca_file=ca_file), PoolLimits(**limits), owner=group, counts=Counts())


async def settled(pool):
    waiter = ask(pool)
    await until(lambda: waiter.is_settled)
    return waiter


async def idle_script(head, reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


async def test_dial_errors_have_codes_and_words(group, tmp_path):
    pki, other = Pki(tmp_path), Pki(tmp_path, "other")
    async with api_server(pki, idle_script) as (_, port):
        cases = [
            (f"https://localhost:{port}", other.ca_file, Code.DIAL_UNREACHABLE, "not trusted"),
            ("https://no-such-host.invalid:1", pki.ca_file, Code.DIAL_DNS, "does not resolve"),
            (f"https://localhost:{port}", tmp_path / "no-ca", Code.DIAL_UNREACHABLE, "No such file"),
        ]
        for url, ca_file, code, words in cases:
            waiter = await settled(await real_pool(group, url, ca_file))
            assert (waiter.code, words in waiter.text) == (code, True), waiter.text
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        closed = await real_pool(group, f"https://localhost:{sock.getsockname()[1]}", pki.ca_file)
        assert (await settled(closed)).code is Code.DIAL_REFUSED


async def test_a_dial_that_hangs_ends(group, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://localhost:{silent.getsockname()[1]}"
        pool = await real_pool(group, url, Pki(tmp_path).ca_file, dial_timeout=0.05)
        assert (await settled(pool)).code is Code.DIAL_TIMEOUT


async def test_one_failed_dial_ends_all_who_waited_for_it_but_no_later_ones(group):
    pool = OfflinePool(group, dials=1)
    early = [ask(pool), ask(pool)]
    await until(lambda: len(pool.dials) == 1)
    late = ask(pool)
    pool.dials[0].set_exception(ConnectionRefusedError())
    await until(lambda: early[0].is_settled)
    assert [waiter.code for waiter in early] == [Code.DIAL_REFUSED] * 2
    assert late.code is None
    await pool.finish_dial()
    assert late.connection is not None


async def test_a_changed_ca_retires_idle_connections(group, tmp_path):
    pki, other = Pki(tmp_path), Pki(tmp_path, "other")
    live = tmp_path / "live.crt"
    shutil.copy(pki.ca_file, live)
    async with api_server(pki, idle_script) as (_, port):
        pool = await real_pool(group, f"https://localhost:{port}", live)
        first = (await settled(pool)).connection
        second = (await settled(pool)).connection
        pool.on_idle(first)
        pool.on_idle(second)
        shutil.copy(other.ca_file, live)
        ask(pool), ask(pool)
        waiter = await settled(pool)
        assert waiter.code is Code.DIAL_UNREACHABLE
        assert pool.idle_connections == 0
        await pool.close()
        await until(lambda: pool.open_connections == 0)


# --- around the Service


async def answered(pool):
    waiter = Waiter()
    pool.acquire(waiter, max_idle=ANY_IDLE)
    await until(lambda: waiter.is_settled)
    return waiter


async def nothing(head, reader, writer):
    await reader.read()


async def test_an_endpoint_is_used_while_the_service_is_no_way_and_no_longer(tmp_path):
    """The certificate must be for the Service's name whatever the address."""
    pki = Pki(tmp_path, "kube.test", "10.0.0.1")
    now = 0.0
    with socket.socket() as service:  # bound and not listening: refuses
        service.bind(("127.0.0.1", 0))
        port = service.getsockname()[1]
        async with TaskGroup("test") as group, api_server(pki, nothing) as (server, real):
            (tmp_path / "endpoints").write_text(f"127.0.0.1:{real}\n")
            endpoint = Endpoint.from_url(f"https://127.0.0.1:{port}", server_name="kube.test")
            addresses = Addresses(endpoint, tmp_path / "endpoints", clock=lambda: now)
            counts = Counts()
            trust = KubeTrust(ca_file=pki.ca_file)
            pool = Pool(endpoint, trust, PoolLimits(), owner=group, counts=counts, addresses=addresses)
            assert (await answered(pool)).connection is not None
            assert counts.is_around_service is True
            assert (await answered(pool)).connection is not None
            await pool.close()
        assert server.connections == 2


async def test_an_endpoint_with_another_certificate_gets_no_request(tmp_path):
    pki, other = Pki(tmp_path, "kube.test", "10.0.0.1"), Pki(tmp_path, "other.test", "127.0.0.1")
    for server_side, trusted in ((other, pki), (pki, other)):
        async with TaskGroup("test") as group, api_server(server_side, nothing) as (server, real):
            (tmp_path / "endpoints").write_text(f"127.0.0.1:{real}\n")
            endpoint = Endpoint.from_url("https://127.0.0.1:1", server_name="kube.test")
            addresses = Addresses(endpoint, tmp_path / "endpoints", clock=lambda: 0.0)
            trust = KubeTrust(ca_file=trusted.ca_file)
            pool = Pool(endpoint, trust, PoolLimits(), owner=group, counts=Counts(), addresses=addresses)
            waiter = await answered(pool)
            assert (waiter.connection, waiter.code) == (None, Code.DIAL_REFUSED)
            await pool.close()
        assert server.heads == []


async def test_the_service_is_tried_again_beside_what_works(tmp_path):
    pki = Pki(tmp_path)
    now = 0.0
    async with (
        TaskGroup("test") as group,
        api_server(pki, nothing) as (service, port),
        api_server(pki, nothing) as (
            _,
            other,
        ),
    ):
        (tmp_path / "endpoints").write_text(f"127.0.0.1:{other}\n")
        endpoint = Endpoint.from_url(f"https://localhost:{port}")
        addresses = Addresses(endpoint, tmp_path / "endpoints", clock=lambda: now)
        addresses.candidates()
        addresses.worked(("127.0.0.1", other))
        counts = Counts()
        trust = KubeTrust(ca_file=pki.ca_file)
        pool = Pool(endpoint, trust, PoolLimits(), owner=group, counts=counts, addresses=addresses)
        await answered(pool)
        assert (service.connections, counts.is_around_service) == (0, True)
        now += AGAIN_S
        await answered(pool)
        await until(lambda: not counts.is_around_service)
        assert service.connections == 1
        assert (await answered(pool)).connection.is_open
        assert service.connections == 1  # what the probe made was taken
        await pool.close()


class ClosingServer:
    """Whom a pool reaches: some addresses close each connection before anybody has used it."""

    def __init__(self, pool, *closing):
        self.closing = closing
        self.reached = []
        self.maker = OfflinePool.Maker(pool)
        pool._open = self.open

    async def open(self, address, context):
        self.reached.append(address)
        connection = FakePool.connect(self.maker)
        if address in self.closing:
            connection.connection_lost(None)
        return connection


def pool_of_two(group, tmp_path, *, clock=lambda: 0.0):
    """With a Service and one endpoint, nobody there."""
    (tmp_path / "endpoints").write_text("10.0.0.2:6443\n")
    endpoint = Endpoint.from_url("https://kube.test:443")
    addresses = Addresses(endpoint, tmp_path / "endpoints", clock=clock)
    counts = Counts()
    trust = KubeTrust(ca_file=None)
    return Pool(endpoint, trust, PoolLimits(), owner=group, counts=counts, addresses=addresses), counts


SERVICE, ENDPOINT = ("kube.test", 443), ("10.0.0.2", 6443)


async def test_a_connection_that_worked_while_the_trust_changed_is_not_used_again(group, tmp_path):
    """Its API server may be somebody else by now, and would get the next request's token."""
    pool, _ = pool_of_two(group, tmp_path)
    trust = pool._trust = Changing()
    ClosingServer(pool)
    busy = (await settled(pool)).connection
    trust.now = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    fresh = (await settled(pool)).connection
    pool.on_idle(busy)
    pool.on_idle(fresh)
    assert not busy.is_open
    assert ask(pool).connection is fresh


class Changing:
    """Trust that changes when the test says so."""

    def __init__(self):
        self.now = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def context(self):
        return self.now


async def test_a_service_that_closes_at_once_is_no_way(group, tmp_path):
    pool, counts = pool_of_two(group, tmp_path)
    server = ClosingServer(pool, SERVICE)
    assert (await settled(pool)).connection.is_open
    assert server.reached == [SERVICE, ENDPOINT]
    assert counts.is_around_service is True


async def test_the_service_is_not_gone_around_where_there_is_nothing_else(group, tmp_path):
    """Somebody empties the ConfigMap."""
    now = 0.0
    pool, counts = pool_of_two(group, tmp_path, clock=lambda: now)
    server = ClosingServer(pool, SERVICE)
    await settled(pool)
    assert counts.is_around_service is True
    (tmp_path / "endpoints").write_text("")
    now += LOOK_INTERVAL_S
    server.closing = ()
    pool.retire_idle()
    assert (await settled(pool)).connection.is_open
    assert counts.is_around_service is False


async def test_a_probe_of_the_service_that_closes_at_once_changes_nothing(group, tmp_path):
    now = 0.0
    pool, counts = pool_of_two(group, tmp_path, clock=lambda: now)
    server = ClosingServer(pool, SERVICE)
    await settled(pool)
    now += AGAIN_S
    assert (await settled(pool)).connection.is_open
    await until(lambda: server.reached.count(SERVICE) == 2)
    assert counts.is_around_service is True
    assert (pool.open_connections, pool.idle_connections) == (2, 0)


async def test_where_all_close_at_once_each_dial_ends_one_who_waited(group, tmp_path):
    pool, counts = pool_of_two(group, tmp_path)
    ClosingServer(pool, SERVICE, ENDPOINT)
    waiters = [ask(pool) for _ in range(3)]
    await until(lambda: all(waiter.is_settled for waiter in waiters))
    assert {(waiter.code, waiter.text) for waiter in waiters} == {
        (Code.DIAL_UNREACHABLE, "the API server closed the connection at once")
    }
    assert (counts.dials, counts.dials_failed, pool.open_connections) == (0, 3, 0)


async def test_one_that_was_closed_at_once_ends_nobody_who_gets_another(group):
    pool = OfflinePool(group)
    waiters = [ask(pool) for _ in range(3)]
    await until(lambda: len(pool.dials) == 3)
    pool.dials[1].set_exception(ClosedAtOnceError())
    await until(lambda: waiters[0].is_settled)
    await pool.finish_dial()
    await pool.finish_dial()
    assert [waiter.code for waiter in waiters] == [Code.DIAL_UNREACHABLE, None, None]
    assert all(waiter.connection for waiter in waiters[1:])
