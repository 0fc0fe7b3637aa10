"""Logging of hub and agent: the standard library's, JSON for machines or lines for people.

Every module logs through `logging.getLogger(__name__)`. The message is a short constant phrase, variables go into
`extra`. (structlog in its place loads rich where that is installed: 8 of an agent's 50 MiB.) Three promises, whatever
a stranger managed to get into a record: credentials are redacted (proto.redaction), a record is one line, and it is
plain ASCII (no control characters, no bidirectional tricks).
"""

import datetime
import json
import logging
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Literal, TextIO

from proto.directlog import DirectLog
from proto.redaction import REDACTED, TRACEBACK_MAX, is_secret_field, redact_text, redact_value

LogFormat = Literal["json", "console"]
LEVELS: Final = ("debug", "info", "warning", "error")

Record = dict[str, Any]

_OF_EVERY_RECORD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What the standard library puts into a record; anything else came as `extra`."""
_logger = logging.getLogger(__name__)
_direct: DirectLog | None = None


def direct() -> DirectLog | None:
    """The short way for clean records of level info; None where the format is not JSON or the level is above."""
    return _direct


def configure(*, component: str, log_format: LogFormat, level: str, stream: TextIO | None = None) -> None:
    """Route everything to `stream` (stderr) in one format. Call once, early; a later call replaces the first.

    `component` is the program's name in each record. Raises ValueError for an unknown level.
    """
    if level not in LEVELS:
        raise ValueError(f"log level must be one of {', '.join(LEVELS)}")
    global _direct
    number = logging.getLevelNamesMapping()[level.upper()]
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Formatter(component, render_json if log_format == "json" else render_console))
    root = logging.getLogger()
    for old in tuple(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(number)
    _quiet_libraries(number)
    _direct = DirectLog(stream, component) if log_format == "json" and number <= logging.INFO else None
    logging.captureWarnings(True)


def log_uncaught() -> None:
    """Send what would be printed raw by the interpreter through the log, so that it is redacted there too."""
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(
        args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback
    )


class Formatter(logging.Formatter):
    """Makes a record's fields, takes the secrets out, renders them."""

    def __init__(self, component: str, render: Callable[[Record], str]) -> None:
        super().__init__()
        self._component = component
        self._render = render

    def format(self, record: logging.LogRecord) -> str:
        made_at = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        fields: Record = {
            "time": made_at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "component": self._component,
            "logger": record.name,
            "event": record.getMessage(),
        }
        for name, value in extras(record).items():
            fields[f"{name}_" if name in fields else name] = value  # an extra does not hide what happened
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = record.stack_info
        return self._render(redact(fields))


def extras(record: logging.LogRecord) -> Record:
    """What the caller gave as `extra`."""
    return {name: value for name, value in vars(record).items() if name not in _OF_EVERY_RECORD}


def redact(fields: Record) -> Record:
    """No secret passes. Runs last before rendering, after exceptions became text."""
    clean: Record = {}
    for name, value in fields.items():
        if is_secret_field(name):
            clean[name] = REDACTED
        else:
            clean[redact_text(name)] = redact_value(value, **({"limit": TRACEBACK_MAX} if name == "exception" else {}))
    return clean


def render_json(fields: Record) -> str:
    """One JSON object in one ASCII line."""
    return json.dumps(fields, ensure_ascii=True, separators=(",", ":")).replace("\x7f", "\\u007f")


def render_console(fields: Record) -> str:
    """`time level event key=value …`. A traceback follows on lines that begin with ` | `, so none can pose as a
    record."""
    exception = fields.pop("exception", None)
    head = f"{fields.pop('time', '')} {fields.pop('level', ''):<7} {escape(str(fields.pop('event', '')))}"
    fields.pop("component", None)
    pairs = "".join(f" {escape(name)}={_console_value(value)}" for name, value in fields.items())
    trace = "".join(f"\n | {escape(line)}" for line in str(exception).split("\n")) if exception else ""
    return f"{head}{pairs}{trace}"


def escape(text: str) -> str:
    """Printable ASCII only: anything else as a backslash escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if char.isascii() and char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def _console_value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=True)
    if text and " " not in text and '"' not in text and "=" not in text:
        return escape(text)
    return json.dumps(text, ensure_ascii=True).replace("\x7f", "\\u007f") if isinstance(value, str) else escape(text)


def _quiet_libraries(level: int) -> None:
    """Debug output of libraries shows frames and headers: never ours to print below warning unless they are ours."""
    for name in ("asyncio", "aiohttp", "websockets", "urllib3"):
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    _logger.critical("uncaught exception", exc_info=(kind, error, trace))
