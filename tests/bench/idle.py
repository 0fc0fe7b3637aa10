"""Idle tunnels: many sessions of one process against the hub, held without traffic.

    python -m tests.bench.idle HUB_URL CA_FILE TOKENS_FILE

The tokens file has one agent token a line; each carries up to five instances. Prints the number of open sessions once
all are up, then waits for end of file on standard input.
"""

import asyncio
import secrets
import ssl
import sys
from pathlib import Path

import websockets.asyncio.client

from proto import handshake, limits, messages, versions
from proto.aio import tasks
from tests.bench import processes, rig
from tests.harness import tools

PER_TOKEN = 5
CLUSTERS = 40
TUNNELS = CLUSTERS * PER_TOKEN
SETTLE_S = 3.0


async def grown_kib(directory: Path, url: str, ca: Path, admin: Path, hub_pid: int) -> float:
    """KiB of the hub's RSS for each of TUNNELS idle tunnels, which a process of their own holds meanwhile."""
    tokens = []
    for number in range(CLUSTERS):
        name = f"idle-{secrets.token_hex(4)}-{number}"
        await rig.call(url, ca, admin, "POST", "/v1/clusters", {"name": name})
        minted = await rig.call(url, ca, admin, "POST", f"/v1/clusters/{name}/agent-tokens", {"name": "idle"})
        tokens.append(minted["token"])
    path = rig.write(directory / "idle.tokens", "\n".join(tokens))
    before = processes.rss_bytes(hub_pid)
    process = await asyncio.create_subprocess_exec(
        tools.interpreter(), "-m", __name__, url, str(ca), str(path),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdin is not None
    opened = int(await process.stdout.readline() or 0)
    await asyncio.sleep(SETTLE_S)
    grown = processes.rss_bytes(hub_pid) - before
    process.stdin.close()
    await process.wait()
    if opened != TUNNELS:
        raise RuntimeError(f"{opened} idle tunnels instead of {TUNNELS}")
    return grown / opened / 1024


async def _open(url: str, context: ssl.SSLContext, token: str) -> websockets.asyncio.client.ClientConnection:
    connection = await websockets.asyncio.client.connect(
        url, ssl=context, subprotocols=[websockets.Subprotocol(versions.SUBPROTOCOL)], compression=None,
        ping_interval=None, proxy=None, close_timeout=1,
    )  # fmt: skip
    side = handshake.AgentHandshake("cluster", secrets.token_bytes(16), 0, limits.Limits())
    side.receive_hello(await connection.recv(decode=False))
    await connection.send(side.auth(messages.Credential(scheme="bearer", value=token.encode())))
    answer = side.receive_answer(await connection.recv(decode=False))
    if isinstance(answer, messages.Refused):
        raise RuntimeError(f"refused: {answer.text}")
    return connection


async def _answer_pings(connection: websockets.asyncio.client.ClientConnection) -> None:
    """Echo each PING frame (type 7) with the ACK flag, as the protocol asks; nothing else is expected."""
    async for message in connection:
        data = message if isinstance(message, bytes) else message.encode()
        if data[0] == 7 and not data[1] & 1:
            await connection.send(data[:1] + b"\x01" + data[2:16])


async def hold(url: str, ca: str, tokens: list[str]) -> None:
    """Open every session, report the count, hold them until standard input ends."""
    context = ssl.create_default_context(cafile=ca)
    address = url.replace("https://", "wss://", 1) + "/v1/tunnel"
    connections = []
    for token in tokens:
        connections += await asyncio.gather(*(_open(address, context, token) for _ in range(PER_TOKEN)))
    async with tasks.TaskGroup("idle") as readers:
        for number, each in enumerate(connections):
            readers.spawn(_answer_pings(each), name=str(number))
        print(len(connections), flush=True)
        await asyncio.to_thread(sys.stdin.read)
    for connection in connections:
        connection.transport.abort()


if __name__ == "__main__":
    asyncio.run(hold(sys.argv[1], sys.argv[2], Path(sys.argv[3]).read_text().split()))
