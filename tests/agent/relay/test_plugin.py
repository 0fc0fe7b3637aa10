"""Credential plugins."""

import asyncio
import json
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest

from agent.errors import TokenUnavailable
from agent.relay import plugin as plugins
from agent.relay.plugin import RENEW_BEFORE, RETRY_INTERVAL, ExecPlugin

V1 = "client.authentication.k8s.io/v1"
COUNTER = """
import json, os, pathlib, sys
assert json.loads(os.environ["KUBERNETES_EXEC_INFO"])["kind"] == "ExecCredential"
path = pathlib.Path(sys.argv[1]); number = int(path.read_text()) + 1; path.write_text(str(number))
status = {"token": f"token-{number}-{os.environ['EXTRA']}"}
if sys.argv[2]: status["expirationTimestamp"] = sys.argv[2]
print(json.dumps({"status": status}))
"""


class Clock:
    """Time that passes when it is told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def plugin(tmp_path, expiry="", clock=None):
    (tmp_path / "count").write_text("0")
    section = {
        "apiVersion": V1,
        "command": sys.executable,
        "args": ["-c", COUNTER, str(tmp_path / "count"), expiry],
        "env": [{"name": "EXTRA", "value": "x"}],
    }
    return ExecPlugin.from_kubeconfig(section, tmp_path, clock=clock or Clock())


def soon(seconds=100):
    """An expiry that asks for a renewal after so many seconds."""
    return (datetime.now(UTC) + timedelta(seconds=RENEW_BEFORE + seconds)).isoformat()


def joined():
    for thread in threading.enumerate():
        if thread.name == "credential plugin":
            thread.join()


def test_a_token_without_an_end_is_fetched_once(tmp_path):
    it = plugin(tmp_path)
    assert it.authorization(0.0) == it.authorization(1e9) == b"Bearer token-1-x"


def test_a_token_is_renewed_before_its_end_without_waiting(tmp_path):
    it = plugin(tmp_path, soon())
    assert it.authorization(0.0) == b"Bearer token-1-x"
    it.authorization(50.0)
    joined()
    assert it.authorization(60.0) == b"Bearer token-1-x"
    it.authorization(110.0)
    joined()
    assert it.authorization(111.0) == b"Bearer token-2-x"


def test_a_tokens_life_begins_when_it_was_fetched(tmp_path):
    """Not when somebody asks for it first, which may be when it has ended: of the first one, and of each other."""
    clock = Clock()
    it = plugin(tmp_path, soon(), clock)
    for number in (2, 3):
        clock.now += 1000.0
        it.authorization(clock.now)
        joined()
        assert it._token.authorization(clock.now) == b"Bearer token-%d-x" % number


async def test_a_token_that_nobody_asks_for_is_renewed_in_time(tmp_path):
    """A change behind a quiet hour would be refused, and cannot be repeated with its body."""
    clock = Clock()
    it = plugin(tmp_path, soon(), clock)

    async def sleep(seconds):
        joined()
        clock.now += seconds
        if clock.now > 160.0:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await it.tend(sleep)
    assert it._token.authorization(clock.now) == b"Bearer token-2-x"


def test_who_waits_for_a_renewal_is_told_of_its_end(tmp_path):
    clock = Clock()
    it = plugin(tmp_path, clock=clock)
    it.refresh().result(timeout=30)
    assert it.authorization(clock.now) == b"Bearer token-2-x"
    assert it.refresh() is None, "it was renewed a moment ago"
    clock.now += RETRY_INTERVAL
    (tmp_path / "count").write_text("nonsense")
    it.refresh().result(timeout=30)
    assert it.authorization(clock.now) == b"Bearer token-2-x"


def test_a_plugin_that_hangs_is_named_without_its_arguments(tmp_path, monkeypatch):
    """A client's secret is often among them, and this is logged."""
    monkeypatch.setattr(plugins, "RUN_TIMEOUT", 0.05)
    hang = "import threading; threading.Event().wait()"
    section = {"command": sys.executable, "args": ["-c", hang, "--client-secret=hunter2"]}
    with pytest.raises(TokenUnavailable) as caught:
        ExecPlugin.from_kubeconfig(section, tmp_path)
    assert str(caught.value) == f"the exec plugin {sys.executable} gave no answer within 0.05 s"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_refused_token_is_renewed_but_not_in_a_storm(tmp_path):
    clock = Clock()
    it = plugin(tmp_path, clock=clock)
    for _ in range(4):
        clock.now += 1.0
        it.refresh()
        joined()
    assert it.authorization(5.0) == b"Bearer token-2-x"
    clock.now = 1.0 + RETRY_INTERVAL
    it.refresh()
    joined()
    assert it.authorization(20.0) == b"Bearer token-3-x"


@pytest.mark.parametrize(
    ("printed", "words"),
    [
        ("", "no ExecCredential"),
        ("[]", "no ExecCredential"),
        ("{}", "no ExecCredential"),
        (json.dumps({"status": {}}), "client certificate"),
        (json.dumps({"status": {"token": "a b"}}), "bearer token"),
        (json.dumps({"status": {"token": "a", "expirationTimestamp": "soon"}}), "malformed"),
        (json.dumps({"status": {"token": "a", "expirationTimestamp": "2026-01-01T00:00:00"}}), "malformed"),
    ],
)
def test_unusable_output(tmp_path, printed, words):
    section = {"apiVersion": V1, "command": sys.executable, "args": ["-c", f"print({printed!r})"]}
    with pytest.raises(TokenUnavailable, match=words):
        ExecPlugin.from_kubeconfig(section, tmp_path)


def test_a_plugin_that_fails_is_not_quoted(tmp_path):
    section = {"apiVersion": V1, "command": sys.executable, "args": ["-c", "print('secret'); raise SystemExit(3)"]}
    with pytest.raises(TokenUnavailable, match="exit code 3") as caught:
        ExecPlugin.from_kubeconfig(section, tmp_path)
    assert "secret" not in str(caught.value)


def test_a_thread_that_cannot_be_had_is_tried_again(tmp_path, monkeypatch):
    """What looks after the token must not end of it."""
    clock = Clock()
    it = plugin(tmp_path, clock=clock)

    def refuse(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert it.refresh() is None
    clock.now += RETRY_INTERVAL
    it.refresh().result(timeout=30)
    assert it.authorization(clock.now) == b"Bearer token-2-x"
