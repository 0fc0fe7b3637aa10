"""A scripted kube-apiserver on loopback, with TLS: it answers what the test says and writes down what it got."""

import asyncio
import contextlib
import ssl

import trustme


class Pki:
    """A CA, a server certificate for localhost, and the CA's file."""

    def __init__(self, directory, name="localhost", ip="127.0.0.1"):
        self.ca = trustme.CA()
        self.ca_file = directory / f"{name}-ca.crt"
        self.ca.cert_pem.write_to_path(str(self.ca_file))
        self.leaf = self.ca.issue_cert(name, ip)

    def server_context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.leaf.configure_cert(context)
        return context


class ScriptedServer:
    """Calls `script(request_head, reader, writer)` for each request; a connection lives until the script closes it."""

    def __init__(self, script):
        self.script = script
        self.connections = 0
        self.heads = []

    async def serve(self, reader, writer):
        self.connections += 1
        while not writer.is_closing():
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            await self.script(head, reader, writer)
            await writer.drain()


def drop(writer):
    with contextlib.suppress(AttributeError):  # what asyncio's TLS has to say of one that its client has reset
        writer.transport.abort()


@contextlib.asynccontextmanager
async def serving(handler, context=None):
    """`handler(reader, writer)` on a loopback port, which is yielded; at the end every connection and task is gone."""
    tasks, writers = set(), []

    async def handle(reader, writer):
        tasks.add(asyncio.current_task())
        writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await handler(reader, writer)
        drop(writer)

    listener = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        for writer in writers:
            drop(writer)
        if tasks:
            await asyncio.wait(tasks)
        await listener.wait_closed()


@contextlib.asynccontextmanager
async def api_server(pki, script):
    """Yields (server, port)."""
    server = ScriptedServer(script)
    async with serving(server.serve, pki.server_context()) as port:
        yield server, port


def json_answer(body, status=b"200 OK"):
    """A response with a length."""
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)
