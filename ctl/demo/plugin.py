"""Credential plugins of a kubeconfig (`users[].user.exec`), for the demo's own two requests to the user's cluster.

The same plugins, on the same terms, as the agent runs for everything else (agent/relay/plugin.py); neither package may
import the other.
"""

import asyncio
import contextlib
import json
import os
import pathlib
from typing import Any

from ctl import errors

RUN_TIMEOUT_S = 30.0
"""How long one run may take."""

_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


async def token(section: Any, base: pathlib.Path) -> str:
    """The token that the plugin `section` prints. A command with a slash is relative to `base`. CommandError."""
    command, environment, version = _parsed(section, base)
    wish = {"apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": False}}
    printed = await _run(command, {**environment, "KUBERNETES_EXEC_INFO": json.dumps(wish)})
    try:
        found = json.loads(printed)["status"].get("token")
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise _failed(command[0], "printed no ExecCredential") from exc
    if not isinstance(found, str) or not found:
        raise _failed(command[0], "gives no token; client certificates of plugins are not supported")
    return found


def _parsed(section: Any, base: pathlib.Path) -> tuple[list[str], dict[str, str], str]:
    try:
        version = section.get("apiVersion", _VERSIONS[0])
        command = [str(section["command"]), *map(str, section.get("args") or [])]
        environment = {str(row["name"]): str(row["value"]) for row in section.get("env") or []}
    except (AttributeError, KeyError, TypeError) as exc:
        raise errors.UsageError("the exec section of the kubeconfig is malformed") from exc
    if version not in _VERSIONS:
        raise errors.UsageError(f"the exec plugin {command[0]} wants {version}; known: {', '.join(_VERSIONS)}")
    if os.sep in command[0]:
        command[0] = str(base / command[0])
    return command, environment, version


async def _run(command: list[str], environment: dict[str, str]) -> bytes:
    """What `command` prints; it has no terminal. What goes wrong is told by its exit code: its output is secret."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, **environment},
        )
    except OSError as exc:
        raise _failed(command[0], f"cannot be run: {exc.strerror}") from exc
    try:
        async with asyncio.timeout(RUN_TIMEOUT_S):
            printed, _ = await process.communicate()
    except TimeoutError:
        raise _failed(command[0], f"was not done after {RUN_TIMEOUT_S:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        raise _failed(command[0], f"failed with exit code {process.returncode}")
    return printed


def _failed(command: str, what: str) -> errors.CommandError:
    return errors.CommandError(
        f"the credential plugin {command} {what}", cure="check: kubectl --context NAME auth whoami; then again"
    )
