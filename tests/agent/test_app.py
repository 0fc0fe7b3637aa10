"""The whole agent in one process, between a scripted hub and a scripted API server on loopback."""

import asyncio
import contextlib
import json
import subprocess
import sys
import urllib.error
import urllib.request

from agent import app, cli
from proto.aio.shutdown import Shutdown
from proto.aio.tasks import TaskGroup
from proto.errors import Code
from proto.messages import HttpRequest, StreamClass, StreamKind
from proto.pins import pins_of_pem
from tests.agent.apiserver import Pki, api_server, json_answer
from tests.agent.relay.stream import IDENTITY
from tests.agent.relay.test_line import HubSide
from tests.agent.uplink.hub import TOKEN, ServerTransport, websocket_hub, welcome
from tests.agent.waiting import until


def flags(tmp_path, hub_port, kube_port, pki):
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "kube-token").write_text("kube")
    return [
        *("--hub-url", f"https://localhost:{hub_port}"),
        *("--hub-ca-file", str(pki.ca_file)),
        *("--hub-ca-pin", pins_of_pem(pki.ca_file.read_bytes())[0]),
        *("--token-file", str(tmp_path / "token")),
        *("--kube-url", f"https://localhost:{kube_port}"),
        *("--kube-ca-file", str(pki.ca_file)),
        *("--kube-token-file", str(tmp_path / "kube-token")),
        *("--health-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"),
        *("--ready-file", str(tmp_path / "ready.json")),
    ]


async def ask(url):
    def get():
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    return await asyncio.to_thread(get)


@contextlib.asynccontextmanager
async def agent(tmp_path, handler, script):
    """Yields (ready, shutdown, running): the agent after it announced itself."""
    pki = Pki(tmp_path)
    async with websocket_hub(pki, handler) as hub_port, api_server(pki, script) as (_, kube_port):
        settings = cli.settings(["cluster", *flags(tmp_path, hub_port, kube_port, pki)], {})
        shutdown = Shutdown()
        async with TaskGroup("test") as group, TaskGroup("agent") as agent_group:
            running = group.spawn(app._serve(settings, agent_group, shutdown), name="agent")
            async with asyncio.timeout(30):
                while not (tmp_path / "ready.json").exists():  # noqa: ASYNC110 - a file has no event
                    await asyncio.sleep(0.01)
            yield json.loads((tmp_path / "ready.json").read_text()), shutdown, running


async def kube(head, reader, writer):
    writer.write(json_answer(b'{"gitVersion":"v1.37.2"}' if head.startswith(b"GET /version") else b"{}"))


async def test_from_start_to_drain(tmp_path):
    link_of_hub = asyncio.get_running_loop().create_future()
    seen = []

    async def hub(connection):
        link = await welcome(ServerTransport(connection), seen=seen)
        link_of_hub.set_result(link)
        await link.run()

    async with agent(tmp_path, hub, kube) as (ready, shutdown, running):
        link = await link_of_hub
        assert seen[0].kubernetes == "v1.37.2"
        assert ready["instance"] == seen[0].instance.hex()
        side = HubSide()
        request = HttpRequest(method="GET", path=b"/api", headers=IDENTITY)
        side.stream = link.open(request, side, kind=StreamKind.HTTP, cls=StreamClass.NORMAL, end=True)
        assert (await side.done).body == b"{}"
        assert await ask(ready["health_url"] + "/livez") == (200, b"ok\n")
        assert await ask(ready["health_url"] + "/readyz") == (200, b"connected\n")
        status, text = await ask(ready["metrics_url"] + "/metrics")
        assert status == 200
        assert b"riata_agent_connected 1.0" in text
        shutdown.request()
        assert await running == app.EXIT_OK
        await until(lambda: link.end_reason is not None)
        assert link.end_reason.code is Code.CLOSED


async def test_without_a_hub_it_lives_and_says_why_it_is_not_ready(tmp_path):
    async def hub(connection):
        await welcome(ServerTransport(connection), refuse=Code.UNAUTHENTICATED)

    async with agent(tmp_path, hub, kube) as (ready, shutdown, running):
        async with asyncio.timeout(30):
            while b"refuses the agent's credential" not in (answer := await ask(ready["health_url"] + "/readyz"))[1]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert answer[0] == 503
        assert (await ask(ready["health_url"] + "/livez"))[0] == 200
        assert not running.done()
        shutdown.request()
        assert await running == app.EXIT_OK


async def test_a_plugins_token_is_looked_after(tmp_path):
    pki, kubeconfig = Pki(tmp_path), tmp_path / "config"
    printed = json.dumps({"status": {"token": "made"}})
    plugin = {"command": sys.executable, "args": ["-c", f"print({printed!r})"]}
    document = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://localhost:1"}}],
        "users": [{"name": "u", "user": {"exec": plugin}}],
    }
    kubeconfig.write_text(json.dumps(document))
    given = flags(tmp_path, 1, 1, pki)
    at = given.index("--kube-url")
    given[at : at + 6] = ["--kubeconfig", str(kubeconfig)]
    async with TaskGroup("test") as group, TaskGroup("agent") as agent_group:
        settings = cli.settings(["cluster", *given], {})
        shutdown = Shutdown()
        running = group.spawn(app._serve(settings, agent_group, shutdown), name="agent")
        await until(lambda: "agent/credential plugin" in {task.get_name() for task in asyncio.all_tasks()})
        shutdown.request()
        assert await running == app.EXIT_OK


async def test_a_wrong_pin_is_said_and_the_agent_stays(tmp_path):
    """CA file or pin may be mended while it runs; a crash loop would only hide the reason."""
    pki = Pki(tmp_path)
    given = flags(tmp_path, 1, 1, pki)
    given[given.index("--hub-ca-pin") + 1] = "sha256:" + "0" * 64
    shutdown = Shutdown()
    async with TaskGroup("test") as group, TaskGroup("agent") as agent_group:
        settings = cli.settings(["cluster", *given], {})
        running = group.spawn(app._serve(settings, agent_group, shutdown), name="agent")
        async with asyncio.timeout(15):
            while not (tmp_path / "ready.json").exists():  # noqa: ASYNC110 - a file has no event
                await asyncio.sleep(0.01)
            ready = json.loads((tmp_path / "ready.json").read_text())
            while b"holds no CA with the pin" not in (answer := await ask(ready["health_url"] + "/readyz"))[1]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert answer[0] == 503
        assert not running.done()
        shutdown.request()
        assert await running == app.EXIT_OK


def test_a_stuck_loop_fails_the_liveness_probe():
    pulse = app.Pulse(float("-inf"))
    assert pulse.is_alive()[0] is False


def test_the_agent_loads_no_heavy_library():
    code = "import agent.app, agent.cli, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30).stdout
    # websockets loads python_socks by itself where it is installed.
    heavy = {"aiohttp", "kubernetes_asyncio", "kubernetes", "pydantic", "cyclopts", "yaml", "rich", "pygments", "attr"}
    assert heavy & set(loaded.split()) == set()
    assert not {name for name in loaded.split() if name == "hub" or name.startswith("hub.")}
