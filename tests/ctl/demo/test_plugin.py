"""Credential plugins: what is run, and what is said when it gives no token."""

import pathlib
import sys
from typing import Any

import pytest

from ctl import errors
from ctl.demo import plugin

SHOW = """
import json, os, sys
wish = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
assert wish["kind"] == "ExecCredential" and wish["spec"] == {"interactive": False}
assert not sys.stdin.read()
print(json.dumps({"status": {"token": " ".join([wish["apiVersion"], os.environ["X"], *sys.argv[1:]])}}))
"""


def _python(code: str, *arguments: str, **more: Any) -> dict[str, Any]:
    return {"command": sys.executable, "args": ["-c", code, *arguments], **more}


async def test_arguments_environment_and_version_reach_it(tmp_path: pathlib.Path) -> None:
    version = "client.authentication.k8s.io/v1beta1"
    section = _python(SHOW, "get-token", apiVersion=version, env=[{"name": "X", "value": "x"}])
    assert await plugin.token(section, tmp_path) == f"{version} x get-token"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("print('secret'); raise SystemExit(3)", "exit code 3"),
        ("print('secret')", "no ExecCredential"),
        ("""print('{"status": {"clientCertificateData": "secret"}}')""", "gives no token"),
        ("import time; time.sleep(60)", "not done after"),
    ],
)
async def test_without_a_token_it_says_why_and_shows_nothing_it_printed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, code: str, words: str
) -> None:
    if "sleep" in code:
        monkeypatch.setattr(plugin, "RUN_TIMEOUT_S", 0.1)
    with pytest.raises(errors.CommandError, match=words) as caught:
        await plugin.token(_python(code), tmp_path)
    assert "secret" not in caught.value.render()


async def test_a_plugin_that_is_not_there(tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.CommandError, match="cannot be run: No such file"):
        await plugin.token({"command": "./none"}, tmp_path)


@pytest.mark.parametrize("section", ["aws", {}, {"command": "x", "env": [{}]}, {"command": "x", "apiVersion": "v9"}])
async def test_what_is_no_plugin_is_a_usage_error(tmp_path: pathlib.Path, section: object) -> None:
    with pytest.raises(errors.UsageError):
        await plugin.token(section, tmp_path)
