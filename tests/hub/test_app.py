"""A whole hub process on loopback: start, API, TLS, metrics, reload, drain, and the ways it refuses to start."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub import rlimits, tls
from hub.app import serve
from hub.config import Settings
from tests.harness.records import written

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**{k: v for k, v in os.environ.items() if not k.startswith("RIATA_")}, "PYTHONPATH": str(ROOT)}


def hub(*arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hub", *map(str, arguments)]
    return subprocess.run(command, env=ENVIRONMENT, check=check, capture_output=True, text=True, timeout=30)


class Running:
    """A hub process with its ready file read."""

    def __init__(self, directory: Path, *arguments: object, environment: dict[str, str] | None = None) -> None:
        self.data, self.log = directory / "hub", directory / "log"
        ready = directory / "ready"
        command = [sys.executable, "-m", "hub", "serve", "--data", self.data, "--ready-file", ready]
        command += ["--metrics-listen", "127.0.0.1:0", *arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(list(map(str, command)), env=ENVIRONMENT | (environment or {}), stderr=log)
        deadline = time.monotonic() + 60
        while not ready.exists():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, "not ready"
            time.sleep(0.02)
        self.ready_file = ready
        self.ready: dict[str, Any] = json.loads(ready.read_text())
        self.token = (directory / "token").read_text().strip()

    def call(self, method: str, path: str, body: object = None, named: str = "", token: str = "") -> tuple[int, Any]:
        """`named`: what the Host header says instead of the address. `token`: instead of the administrator's."""
        host, port = self.ready["urls"][0].split("//")[1].rsplit(":", 1)
        if self.ready["urls"][0].startswith("https"):
            context = ssl.create_default_context(cafile=self.ready["ca_file"])
            context.verify_flags |= ssl.VERIFY_X509_STRICT
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(host, int(port), context=context)
        else:
            connection = http.client.HTTPConnection(host, int(port))
        headers = {"Authorization": f"Bearer {token or self.token}", "Content-Type": "application/json"}
        headers |= {"Host": named} if named else {}
        with contextlib.closing(connection):
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
            content = response.read()
        is_json = response.headers.get("Content-Type", "").startswith("application/json")
        return response.status, json.loads(content) if is_json and content else content

    def raw(self, *lines: bytes, named: str) -> bytes:
        """Requests in one piece over one connection; what comes until it ends."""
        host, port = self.ready["urls"][0].split("//")[1].rsplit(":", 1)
        context = ssl.create_default_context(cafile=self.ready["ca_file"])
        head = b"%b HTTP/1.1\r\nHost: %b\r\n\r\n"
        said = b""
        with (
            socket.create_connection((host, int(port)), 20) as below,
            context.wrap_socket(below, server_hostname=host) as connection,
        ):
            connection.sendall(b"".join(head % (line, named.encode()) for line in lines))
            while piece := connection.recv(65_536):
                said += piece
        return said

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(20)

    def lines(self) -> list[dict[str, Any]]:
        return written(self.log)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    hub("init", "--data", tmp_path / "hub", "--admin-token-file", tmp_path / "token")
    return tmp_path


@pytest.fixture
def running(directory: Path) -> Iterator[Running]:
    process = Running(directory, "--listen", "127.0.0.1:0", "--listen", "[::1]:0")
    yield process
    process.stop()


def test_a_hub_from_init_to_sigterm(running: Running) -> None:
    assert running.ready["ca_pin"].startswith("sha256:")
    assert running.call("GET", "/readyz") == (200, b"ok\n")
    assert running.call("GET", "/v1/whoami", token="riata_x")[0] == 401
    assert running.call("POST", "/v1/clusters", {"name": "a"})[0] == 201
    status, made = running.call("POST", "/v1/clusters/a/agent-tokens", {"name": "t"})
    assert status == 201
    assert running.call("GET", "/k8s/clusters/a/version")[0] == 503
    assert running.call("GET", "/k8s/clusters/b/version")[0] == 403
    metrics_host, metrics_port = running.ready["metrics_url"].split("/")[2].split(":")
    metrics = http.client.HTTPConnection(metrics_host, int(metrics_port))
    with contextlib.closing(metrics):
        metrics.request("GET", "/metrics")
        exposition = metrics.getresponse().read()
        assert b"riata_hub_requests_total" in exposition
        assert b"\nriata_hub_connections " in exposition
        assert b"\nprocess_resident_memory_bytes " in exposition
        assert b'\nriata_hub_cluster_connected{cluster="a"} 0.0\n' in exposition
        assert b'\nriata_hub_refusals_total{reason="unauthenticated"} 1.0' in exposition
        counted = next(line for line in exposition.splitlines() if line.startswith(b"riata_hub_tasks "))
        assert float(counted.split()[1]) >= 4  # the follower, expiry, retention and this very scrape at least
        assert b"\nriata_hub_buffer_used_bytes " in exposition
        assert b"\nriata_hub_buffer_limit_bytes 0.0\n" not in exposition
        while b"\nriata_hub_event_loop_lag_seconds_count 0.0\n" in exposition:
            time.sleep(0.1)
            metrics.request("GET", "/metrics")
            exposition = metrics.getresponse().read()
        assert running.call("DELETE", "/v1/clusters/a")[0] == 200
        metrics.request("GET", "/metrics")
        assert b"riata_hub_cluster_connected{" not in metrics.getresponse().read()
    assert stat.S_IMODE(running.data.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in running.data.rglob("*") if p.is_file()} == {0o600}
    assert running.stop() == 0
    assert not running.ready_file.exists()
    log = running.log.read_text()
    assert running.token not in log
    assert made["token"] not in log
    assert running.lines()[-1]["event"] == "hub stopped"


def test_state_survives_sigkill(directory: Path) -> None:
    first = Running(directory, "--listen", "127.0.0.1:0")
    _, made = first.call("POST", "/v1/clusters", {"name": "a"})
    first.process.kill()
    first.process.wait()
    first.ready_file.unlink()
    second = Running(directory, "--listen", "127.0.0.1:0")
    try:
        status, found = second.call("GET", "/v1/clusters/a")
        assert (status, found["uid"], found["createdAt"]) == (200, made["uid"], made["createdAt"])
    finally:
        second.stop()


def test_a_new_certificate_is_loaded_on_sighup(running: Running, tmp_path: Path) -> None:

    host, port = running.ready["urls"][0].split("//")[1].rsplit(":", 1)
    before = ssl.get_server_certificate((host, int(port)))
    now = datetime.datetime.now(datetime.UTC)
    assert tls.ensure_leaf(running.data / tls.DIRECTORY, ["127.0.0.1", "localhost", "::1", "new.example.org"], now)
    running.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 60
    while ssl.get_server_certificate((host, int(port))) == before:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert running.call("GET", "/livez")[0] == 200


def test_readiness_flips_before_anything_ends_and_a_second_signal_does_not_wait(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENVIRONMENT, "RIATA_HUB_DRAIN_DELAY_S", "60")
    process = Running(directory, "--listen", "127.0.0.1:0")
    try:
        process.process.terminate()
        deadline = time.monotonic() + 60
        while process.call("GET", "/readyz")[0] == 200:
            assert time.monotonic() < deadline
        assert process.call("GET", "/readyz") == (503, b"failed: draining\n")
        assert process.call("GET", "/v1/whoami")[0] == 200
        process.process.terminate()
        assert process.process.wait(30) == 128 + signal.SIGTERM
    finally:
        process.process.kill()
        process.process.wait()


class Failing:
    """A hub that can no longer do its work."""

    def __init__(self, *, may_drain: bool) -> None:
        self.calls: list[str] = []
        self._may_drain = may_drain

    async def start(self) -> None:
        self.calls.append("start")

    async def drain(self) -> None:
        self.calls.append("drain")

    async def close(self) -> None:
        self.calls.append("close")

    async def failed(self) -> bool:
        return self._may_drain

    def reload_certificate(self, *, is_asked: bool) -> None:
        self.calls.append("reload")

    def ready(self) -> dict[str, object]:
        return dict.fromkeys(("url", "urls", "metrics_url", "ca_pin", "hub_id"))


@pytest.mark.parametrize(("may_drain", "calls"), [(True, ["start", "drain", "close"]), (False, ["start", "close"])])
async def test_a_hub_that_hears_of_no_revocation_any_more_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, may_drain: bool, calls: list[str]
) -> None:
    """A drain takes seconds in which a deleted token would work."""
    monkeypatch.setattr(rlimits, "prepare", lambda: None)  # of the process that runs the tests
    hub = Failing(may_drain=may_drain)

    async def build(settings: Settings) -> Failing:
        return hub

    assert await serve(Settings(data=tmp_path), build) == 1
    assert hub.calls == calls


def test_only_configured_host_names_are_answered(directory: Path) -> None:
    """B4: the setting arrives at the listener."""
    running = Running(directory, "--listen", "127.0.0.1:0", environment={"RIATA_HUB_HOST_NAMES": "hub.test,localhost"})
    try:
        assert running.call("GET", "/version", named="hub.test")[0] == 200
        assert running.call("GET", "/version", named="other.test")[0] == 400
        assert running.call("GET", "/livez", named="other.test")[0] == 200  # as a kubelet asks
        assert running.raw(b"GET /livez", b"GET /version", named="other.test").count(b"HTTP/1.1 ") == 1, (
            "lets nobody in"
        )
    finally:
        running.stop()


def test_a_hub_with_all_its_connections_taken_is_alive(directory: Path) -> None:
    """Who knocks waits then, a kubelet too: its probe of the main port would end a hub that does its work."""
    running = Running(directory, "--listen", "127.0.0.1:0", environment={"RIATA_HUB_EDGE_CONNECTIONS_MAX": "16"})
    try:
        host, port = running.ready["urls"][0].split("//")[1].rsplit(":", 1)
        context = ssl.create_default_context(cafile=running.ready["ca_file"])
        with contextlib.ExitStack() as stack:
            for _ in range(16):
                below = stack.enter_context(socket.create_connection((host, int(port)), 20))
                held = stack.enter_context(context.wrap_socket(below, server_hostname=host))
                held.sendall(b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n")
                assert held.recv(65_536).startswith(b"HTTP/1.1 200")
            late = stack.enter_context(socket.create_connection((host, int(port)), 0.5))
            with pytest.raises(TimeoutError):
                context.wrap_socket(late, server_hostname=host)
            alive = http.client.HTTPConnection(running.ready["metrics_url"].split("/")[2], timeout=20)
            with contextlib.closing(alive):
                alive.request("GET", "/livez")
                assert alive.getresponse().read() == b"ok\n"
    finally:
        running.stop()


def test_a_second_hub_on_the_same_data_is_refused(running: Running) -> None:
    answer = hub("serve", "--data", running.data, "--listen", "127.0.0.1:0", check=False)
    assert answer.returncode == 1
    assert "in use by another riata-hub" in answer.stderr


def test_plain_http_on_loopback_only_when_asked(directory: Path) -> None:
    process = Running(directory, "--listen", "127.0.0.1:0", "--plain-http")
    try:
        assert process.ready["urls"][0].startswith("http://")
        assert process.ready["ca_file"] is None
        assert process.call("GET", "/v1/whoami")[0] == 200
        assert process.call("GET", "/v1/ca")[0] == 404
    finally:
        process.stop()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--listen", "192.0.2.1:1"], 1, "cannot listen on 192.0.2.1:1"),
        (["--plain-http", "--listen", "0.0.0.0:0"], 2, "only allowed on loopback"),
        (["--tls-cert", "none.pem", "--tls-key", "none.pem", "--listen", "127.0.0.1:0"], 1, "none.pem"),
        (["--listen", "127.0.0.1:0", "--metrics-listen", "192.0.2.1:1"], 1, "for metrics"),
    ],
)
def test_a_refusal_says_why(directory: Path, arguments: list[str], status: int, message: str) -> None:
    if "--metrics-listen" not in arguments:
        arguments = [*arguments, "--metrics-listen", "127.0.0.1:0"]
    answer = hub("serve", "--data", directory / "hub", *arguments, check=False)
    assert answer.returncode == status
    assert message in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_port_that_is_taken_is_named(running: Running) -> None:
    port = running.ready["urls"][0].rsplit(":", 1)[1]
    other = running.data.parent / "other"
    hub("init", "--data", other)
    answer = hub("serve", "--data", other, "--listen", f"127.0.0.1:{port}", "--metrics-listen", "", check=False)
    assert answer.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in answer.stderr
