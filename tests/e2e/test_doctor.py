"""Both doctors against a real hub, a real agent and a real API server: all is well, and faults made for real."""

import asyncio
import contextlib
import datetime
import json
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from agent.doctor import rights
from proto import pins
from tests import harness
from tests.e2e.line import Line
from tests.e2e.waiting import until
from tests.harness import Hub, Result, tools
from tests.harness.agents import Agent
from tests.harness.pki import write_private

pytestmark = [pytest.mark.light, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

BEHIND_A_PROXY = ("--hub-url", "https://hub.test")
"""No proxy leads to a loopback address, whatever HTTPS_PROXY says: as Go programs read it."""


def findings(done: Result) -> dict[str, tuple[str, str, str]]:
    """By check: level, cause, and the whole of the words."""
    listed = json.loads(done.stdout)["findings"]
    return {each["check"]: (each["level"], each["cause"], f"{each['what']}. {each['cure']}") for each in listed}


async def examined(
    agent: Agent, *options: str, rc: int, variables: Mapping[str, str] | None = None
) -> dict[str, tuple[str, str, str]]:
    done = await agent.doctor("-o", "json", *options, variables=variables)
    assert done.rc == rc, done.stdout + done.stderr
    return findings(done)


async def test_an_agent_that_is_well_and_keeps_its_session(hub_line: Line) -> None:
    async with harness.agent(hub_line.hub, hub_line.light, name="patient", enrol=True) as agent:
        before = (await hub_line.api.must("GET", "/v1/clusters/patient"))["tunnels"]
        found = await examined(agent, rc=0)
        assert {level for level, _, _ in found.values()} == {"ok"}, found
        assert "the hub takes it for cluster patient" in found["credential"][2]
        assert re.search(r"has the [0-9]+ rights of profile impersonate", found["rbac"][2])
        after = (await hub_line.api.must("GET", "/v1/clusters/patient"))["tunnels"]
        assert [tunnel["instance"] for tunnel in after] == [tunnel["instance"] for tunnel in before]
        assert after[0]["connectedSince"] == before[0]["connectedSince"]


async def test_faults_of_an_agent(hub_line: Line, tmp_path: Path) -> None:
    """Each beside an agent that works: a wrong pin, another CA, a closed port, a dead proxy's name, a wrong token."""
    async with harness.agent(hub_line.hub, hub_line.light, name="ill") as agent:
        (tmp_path / "token").write_text("riataagent_" + "a" * 10 + "_" + "0" * 64)
        cases = (
            (("--hub-ca-pin", "sha256:abc"), "settings", "settings-pin", "64 hex digits"),
            (("--hub-ca-pin", "sha256:" + "0" * 64), "pin", "pin-no-ca", "riata-hub init"),
            (("--hub-url", "https://hub.invalid"), "dns", "dns-unresolved", "resolv.conf"),
            (("--hub-url", "https://127.0.0.1:1"), "tcp", "tcp-refused", "right port"),
            (
                ("--token-file", str(tmp_path / "token")),
                "credential",
                "credential-refused",
                "riata agent-tokens create",
            ),
            (("--kube-ca-file", str(hub_line.hub.ca_file)), "kube", "kube-other-ca", "kube-root-ca.crt"),
            (("--kube-token-file", str(tmp_path / "token")), "kube-token", "kube-unauthorized", "restart the pod"),
        )
        answers = await asyncio.gather(*(examined(agent, *options, rc=1) for options, *_ in cases))
        for found, (_, check, cause, cure) in zip(answers, cases, strict=True):
            level, found_cause, words = found[check]
            assert (level, found_cause) == ("fail", cause), found
            assert cure in words


@contextlib.asynccontextmanager
async def front(hub: Hub, directory: Path) -> AsyncIterator[list[str]]:
    """A load balancer that ends TLS and passes no upgrade; yields the options that lead an agent through it."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(directory / "front.crt"))
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(shown)
    there = urlsplit(hub.url)
    trusted = ssl.create_default_context(cafile=hub.ca_file)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
            kept = [line for line in head if not line.lower().startswith((b"upgrade:", b"connection:"))]
            back, out = await asyncio.open_connection(there.hostname, there.port, ssl=trusted)
            out.write(b"\r\n".join(kept).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            writer.write(await back.read())
            await writer.drain()
            out.transport.abort()
        writer.close()

    server = await asyncio.start_server(carry, "127.0.0.1", 0, ssl=shown)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        pin = pins.pins_of_pem(ca.cert_pem.bytes())[0]
        yield ["--hub-url", url, "--hub-ca-file", str(directory / "front.crt"), "--hub-ca-pin", pin]


async def test_a_load_balancer_that_passes_no_upgrade(hub_line: Line, tmp_path: Path) -> None:
    async with (
        harness.agent(hub_line.hub, hub_line.light, name="stripped") as agent,
        front(hub_line.hub, tmp_path) as options,
    ):
        found = await examined(agent, *options, rc=1)
    assert found["websocket"][:2] == ("fail", "websocket-stripped"), found
    assert "Connection and Upgrade" in found["websocket"][2]
    assert [found[check][0] for check in ("tls", "pin", "http", "clock", "credential")] == ["ok"] * 4 + ["not-run"]


@contextlib.asynccontextmanager
async def expired(directory: Path) -> AsyncIterator[tuple[str, Path, str]]:
    """A hub's place whose certificate, of a CA that is pinned and good, ended yesterday: URL, CA file and pin."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(directory / "expired.crt"))
    ended = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1", not_before=ended - datetime.timedelta(days=1), not_after=ended).configure_cert(shown)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=shown)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield url, directory / "expired.crt", pins.pins_of_pem(ca.cert_pem.bytes())[0]


@contextlib.asynccontextmanager
async def dying_proxy() -> AsyncIterator[str]:
    """An HTTP proxy that dies of the first request."""

    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n")
        writer.transport.abort()

    server = await asyncio.start_server(die, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def clock(directory: Path, seconds: float) -> dict[str, str]:
    """The variables of a Python process whose clock is wrong by so much."""
    (directory / "sitecustomize.py").write_text(
        f"""import time
def _wrong(clock, _read=time.clock_gettime):
    return _read(clock) + ({seconds} if clock == time.CLOCK_REALTIME else 0)
time.clock_gettime = _wrong
time.time = lambda: _wrong(time.CLOCK_REALTIME)
"""
    )
    return {"PYTHONPATH": str(directory)}


async def test_a_certificate_that_has_ended(hub_line: Line, tmp_path: Path) -> None:
    async with (
        harness.agent(hub_line.hub, hub_line.light, name="late", enrol=True) as agent,
        expired(tmp_path) as (url, file, pin),
    ):
        found = await examined(agent, "--hub-url", url, "--hub-ca-file", str(file), "--hub-ca-pin", pin, rc=1)
    assert found["tls"][:2] == ("fail", "tls-dates"), found
    assert "expired" in found["tls"][2]
    assert "Renew it at the hub" in found["tls"][2]


async def test_a_proxy_that_is_dead_or_dies(hub_line: Line) -> None:
    async with harness.agent(hub_line.hub, hub_line.light, name="proxied", enrol=True) as agent, dying_proxy() as proxy:
        dead = await examined(agent, *BEHIND_A_PROXY, rc=1, variables={"HTTPS_PROXY": "http://127.0.0.1:1"})
        dying = await examined(agent, *BEHIND_A_PROXY, rc=1, variables={"HTTPS_PROXY": proxy})
    assert dead["proxy"][:2] == ("fail", "proxy-unreachable"), dead
    assert dying["proxy"][:2] == ("fail", "proxy-refused"), dying
    assert "HTTPS_PROXY" in dead["proxy"][2]
    assert "HTTPS_PROXY" in dying["proxy"][2]


@pytest.mark.parametrize(("seconds", "side"), [(-400, "behind"), (400, "ahead of")])
async def test_a_clock_that_is_wrong(hub_line: Line, tmp_path: Path, seconds: float, side: str) -> None:
    """The doctor measures it, and what it signs is outside of the hub's window."""
    async with harness.agent(hub_line.hub, hub_line.light, name=f"untimely{seconds}", enrol=True) as agent:
        (agent.directory / "join.token").unlink()
        found = await examined(agent, rc=1, variables=clock(tmp_path, seconds))
    assert found["clock"][:2] == ("fail", "clock-wrong"), found
    assert f"{side} the hub's" in found["clock"][2]
    assert found["credential"][0] == "fail"
    assert f"s {side} the hub's" in found["credential"][2]


async def test_missing_rights_are_named(hub_line: Line, tmp_path: Path) -> None:
    """With the token of a ServiceAccount that nobody gave anything."""
    (await hub_line.light.kubectl("create", "serviceaccount", "nobody", "--namespace", "default")).check()
    token = (await hub_line.light.kubectl("create", "token", "nobody", "--namespace", "default")).check()
    write_private(tmp_path / "nobody", token.stdout.encode())
    async with harness.agent(hub_line.hub, hub_line.light, name="powerless") as agent:
        level, cause, words = (await examined(agent, "--kube-token-file", str(tmp_path / "nobody"), rc=1))["rbac"]
    assert (level, cause) == ("fail", "rbac-missing")
    for right in rights.PROFILES["impersonate"]:
        assert str(right) in words
    assert "system:serviceaccount:default:nobody" in words


async def test_a_revoked_agent(hub_line: Line) -> None:
    async with harness.agent(hub_line.hub, hub_line.light, name="dismissed", enrol=True) as agent:
        token_id = (agent.directory / "join.token").read_text().split("_")[1]
        (agent.directory / "join.token").unlink()
        await hub_line.api.must("DELETE", f"/v1/agents/{token_id}")

        async def told() -> bool:
            return "revoked" in (await agent.doctor()).stdout

        await until(told, what="the agent to be told")
        found = await examined(agent, rc=1)
        assert found["credential"][:2] == ("fail", "credential-revoked")
        assert found["agent"][:2] == ("fail", "agent-unready")
        assert "was revoked at" in found["agent"][2]


async def test_the_operators_side(hub_line: Line, tmp_path: Path) -> None:
    """Through the whole line: login, WebSockets, clusters that answer, a cluster that is away, kubectl's own file."""
    environment = {
        "HOME": str(tmp_path), "KUBECONFIG": "", "XDG_CONFIG_HOME": "", "RIATA_HUB": hub_line.hub.url,
        "RIATA_CA_FILE": str(hub_line.hub.ca_file), "RIATA_TOKEN_FILE": str(hub_line.hub.admin_token_file),
    }  # fmt: skip

    async def riata(*arguments: str, **variables: str) -> Result:
        command = [*tools.console_script("riata", "ctl"), *arguments]
        return await harness.execute(command, env=environment | variables, timeout=60)

    name = hub_line.light.name
    (await riata("kubeconfig", name, "--merge")).check()
    done = await riata("doctor", name, "-o", "json")
    found = findings(done)
    assert done.rc == 0, done.stdout
    assert {level for level, _, _ in found.values()} == {"ok"}, found
    await hub_line.hub.api.create_cluster("never-there")
    done = await riata("doctor", "never-there", "-o", "json")
    assert done.rc == 1
    assert findings(done)["clusters"][:2] == ("fail", "cluster-away")
    _, behind = BEHIND_A_PROXY
    done = await riata("doctor", "-o", "json", RIATA_HUB=behind, HTTPS_PROXY="http://127.0.0.1:1")
    assert findings(done)["proxy"][:2] == ("fail", "proxy-unreachable"), done.stdout
    async with dying_proxy() as proxy:
        done = await riata("doctor", "-o", "json", RIATA_HUB=behind, HTTPS_PROXY=proxy)
        assert findings(done)["proxy"][:2] == ("fail", "proxy-refused"), done.stdout
    async with expired(tmp_path) as (url, file, _):
        done = await riata("doctor", "-o", "json", RIATA_HUB=url, RIATA_CA_FILE=str(file))
        assert findings(done)["tls"][:2] == ("fail", "tls-dates"), done.stdout
    done = await riata("doctor", "-o", "json", **clock(tmp_path, 3_600))
    assert findings(done)["clock"][:2] == ("fail", "clock-wrong"), done.stdout
    environment["RIATA_CA_FILE"] = str(next(hub_line.light.directory.rglob("ca.crt")))
    done = await riata("doctor", "-o", "json")
    assert findings(done)["pin"][:2] == ("fail", "pin-other-ca"), done.stdout
