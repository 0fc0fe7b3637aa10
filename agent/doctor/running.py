"""What the agent that runs beside the doctor says of itself: the doctor tries no join token, the agent has."""

import asyncio
from typing import Final

from agent.config import EVERYWHERE, split_listen
from agent.doctor import causes
from proto import findings
from proto.findings import Finding, good

CHECK: Final = "agent"
TIMEOUT: Final = 5.0
ANSWER_BYTES_MAX: Final = 8 * 1024
_EVERYWHERE: Final = {EVERYWHERE: "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where it listens, not where we do


async def examine(listen: str) -> Finding:
    """Ask `/readyz` of the agent with this `--health-listen`."""
    host, port = split_listen("--health-listen", listen) if listen else ("", 0)
    if not port:
        return good(CHECK, "not asked: --health-listen names no port")
    try:
        async with asyncio.timeout(TIMEOUT):
            answer = await _ask(_EVERYWHERE.get(host, host), port)
    except OSError:
        return findings.bad(causes.AGENT_NONE, causes.NAMES, at=listen)
    head, _, body = answer.partition(b"\r\n\r\n")
    said = body.decode("utf-8", "replace").strip()
    if b" 200 " in head.split(b"\r\n", 1)[0]:
        return good(CHECK, f"runs here, {said}")
    return findings.bad(causes.AGENT_UNREADY, causes.NAMES, said=said or "nothing")


async def _ask(host: str, port: int) -> bytes:
    """The answer of HTTP/1.0, which its end ends. Raises OSError."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(b"GET /readyz HTTP/1.0\r\n\r\n")
        answer = b""
        while len(answer) < ANSWER_BYTES_MAX and (data := await reader.read(ANSWER_BYTES_MAX)):
            answer += data
        return answer
    finally:
        writer.transport.abort()
