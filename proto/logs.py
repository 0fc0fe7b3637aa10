"""Logging of hub and agent: structlog over the standard library, JSON for machines or lines for people.

Every module logs through `logging.getLogger(__name__)` or structlog; both end here. The message is a short constant
phrase, variables go into `extra`. Three promises, whatever a stranger managed to get into a record: credentials are
redacted (proto.redaction), a record is one line, and it is plain ASCII (no control characters, no bidirectional
tricks).
"""

import json
import logging
import sys
import threading
from types import TracebackType
from typing import Any, Final, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from proto.directlog import DirectLog
from proto.redaction import REDACTED, TRACEBACK_MAX, is_secret_field, redact_text, redact_value

LogFormat = Literal["json", "console"]
LEVELS: Final = ("debug", "info", "warning", "error")

_FIELDS_FIRST: Final = ("time", "level", "component", "logger", "event")
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
    shared = _shared_processors(component)
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                redact,
                render_json if log_format == "json" else render_console,
            ],
        )
    )
    root = logging.getLogger()
    for old in tuple(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(number)
    _quiet_libraries(number)
    _direct = DirectLog(stream, component) if log_format == "json" and number <= logging.INFO else None
    logging.captureWarnings(True)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(number),
        cache_logger_on_first_use=False,
    )


def log_uncaught() -> None:
    """Send what would be printed raw by the interpreter through the log, so that it is redacted there too."""
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(
        args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback
    )


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """structlog processor: no secret passes. Runs last before rendering, after exceptions became text."""
    clean: EventDict = {}
    for name, value in event.items():
        if is_secret_field(name):
            clean[name] = REDACTED
        else:
            clean[redact_text(name)] = redact_value(value, **({"limit": TRACEBACK_MAX} if name == "exception" else {}))
    return clean


def render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """One JSON object in one ASCII line, the usual fields first."""
    ordered = {name: event[name] for name in _FIELDS_FIRST if name in event}
    ordered.update(event)
    return json.dumps(ordered, ensure_ascii=True, separators=(",", ":")).replace("\x7f", "\\u007f")


def render_console(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """`time level event key=value …`. A traceback follows on lines that begin with ` | `, so none can pose as a
    record."""
    exception = event.pop("exception", None)
    head = f"{event.pop('time', '')} {event.pop('level', ''):<7} {escape(str(event.pop('event', '')))}"
    event.pop("component", None)
    pairs = "".join(f" {escape(name)}={_console_value(value)}" for name, value in event.items())
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


def _shared_processors(component: str) -> list[Processor]:
    def add_component(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["component"] = component
        return event

    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.StackInfoRenderer(),
        add_component,
    ]


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
