"""The thinnest line: a GET through the edge to the agent and back."""

from __future__ import annotations

from tests.security import rig


async def test_get() -> None:
    async with rig.line() as line:
        agent = await line.add_agent()
        client = await line.connect()
        await client.send(rig.get(b"/k8s/clusters/c1/api/v1/pods?limit=5"))
        response = await client.response()
        assert response.startswith(b"HTTP/1.1 200 OK\r\n")
        assert response.endswith(b"\r\n\r\nok")
        seen = agent.seen[0]
        assert seen.request.method == "GET"
        assert seen.request.path == b"/api/v1/pods?limit=5"
        assert seen.is_ended
        assert seen.headers_named(b"impersonate-user") == [b"riata:alice"]
        assert seen.headers_named(b"authorization") == []
        await client.send(rig.get())
        assert rig.status_of(await client.response()) == 200
        client.close()
