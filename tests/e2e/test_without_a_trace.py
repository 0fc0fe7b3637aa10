"""No secret of the run is in any log: the tokens that were used, and canaries in every place where a client puts one.

Named to come last: by then the hub and the agents have logged everything that the other modules do.
"""

import base64

import pytest

from tests.e2e.entry import Entry
from tests.e2e.line import Line
from tests.e2e.rawhttp import raw_connection

pytestmark = [pytest.mark.light, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

CANARY = "CANARY7f3a9b"


async def test_no_secret_is_in_any_log(hub_line: Line, light: Entry) -> None:
    encoded = base64.urlsafe_b64encode(f"{CANARY}-protocol".encode()).decode().rstrip("=")
    places = [
        ("/api", f"Cookie: session={CANARY}-cookie"),
        ("/api", f"X-Api-Key: {CANARY}-key"),
        ("/api", f"Impersonate-User: {CANARY}-user"),
        ("/api", f"Proxy-Authorization: Basic {CANARY}-proxy"),
        (f"/api?token={CANARY}-query", "X-None: 1"),
        (f"/api/v1/namespaces/default/pods/x/exec?command={CANARY}-command", "X-None: 1"),
        ("/api", f"Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.{encoded}"),
        ("/api", f"Authorization: Bearer {CANARY}-second"),
        ("/api", f"Bad Header: {CANARY}-malformed"),
    ]
    for path, field in places:
        async with raw_connection(light) as connection:
            await connection.request("GET", path, field)
            await connection.head()
    wrong = hub_line.entry(hub_line.light.name, f"riata_aaaaaaaaaa_{CANARY}")
    async with wrong.session() as session, session.get(wrong.at("/api")) as answer:
        assert answer.status == 401
    logs = {"hub": hub_line.hub.log, **{name: agent.log for name, agent in hub_line.agents.items()}}
    secrets = [CANARY, encoded, *hub_line.api.made]
    secrets += [token.rsplit("_", 1)[-1] for token in hub_line.api.made]
    for agent in hub_line.agents.values():
        secrets.append((agent.directory / "agent.token").read_text())
        secrets.append(agent.pod.token_file.read_text())
    for name, path in logs.items():
        text = path.read_text()
        assert text, f"{name} logged nothing"
        found = [number for number, secret in enumerate(secrets) if secret in text]
        assert not found, f"{name}: secrets number {found} of {len(secrets)} are in {path}"
    print(
        f"\n{len(secrets)} secrets looked for in {len(logs)} logs of {sum(p.stat().st_size for p in logs.values())} B"
    )
