"""What the harness raises: one class, whose text shows the component's last log lines."""

from pathlib import Path

_TAIL_BYTES = 6_000


class HarnessError(Exception):
    """A component did not start, answer or stop within its limit."""


class MissingTool(HarnessError):
    """A program, package or right that the machine lacks; the text names the cure."""


def tail(log: Path, limit: int = _TAIL_BYTES) -> str:
    """The last `limit` bytes of a log, from a line's start; empty when there is none."""
    try:
        data = log.read_bytes()
    except OSError:
        return ""
    text = data[-limit:].decode(errors="replace")
    return text if len(data) <= limit else text.partition("\n")[2]
