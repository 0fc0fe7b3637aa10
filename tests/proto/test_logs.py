"""Canaries in every place where a secret has leaked in somebody's log; one record is one line."""

import io
import json
import logging

import pytest

from proto import logs

SECRET = "c0ffee" * 10 + "abcd"
CANARIES = {
    "user token": f"riata_abcdefghij_{SECRET}",
    "agent token": f"riataagent_abcdefghij_{SECRET}",
    "bearer header": f"Authorization: Bearer {SECRET}",
    "basic header": f"authorization: Basic {SECRET}",
    "header in a dict's repr": f"{{'Authorization': 'Digest {SECRET}'}}",
    "header in bytes' repr": f"b'Cookie: session={SECRET}\\r\\n'",
    "raw header pair": f"(b'cookie', b'{SECRET}')",
    "impersonation": f"Impersonate-User: {SECRET}",
    "impersonation, underscore": f"Impersonate_Extra_a: {SECRET}",
    "jwt": f"eyJhbGciOiJSUzI1NiJ9.{SECRET}.{SECRET}",
    "websocket bearer": f"base64url.bearer.authorization.k8s.io.{SECRET}",
    "websocket protocols": f"Sec-WebSocket-Protocol: v5.channel.k8s.io, {SECRET}",
    "query": f"GET /x?token={SECRET}&watch=1",
    "later in a query": f"/x?a=b&access_token={SECRET}",
    "private key": f"-----BEGIN EC PRIVATE KEY-----\n{SECRET}\n-----END EC PRIVATE KEY-----",
    "cut private key": f"-----BEGIN PRIVATE KEY-----\n{SECRET}",
}


def configured(log_format: logs.LogFormat) -> io.StringIO:
    stream = io.StringIO()
    logs.configure(component="hub", log_format=log_format, level="debug", stream=stream)
    return stream


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("canary", CANARIES.values(), ids=CANARIES.keys())
def test_no_canary_comes_through(log_format: logs.LogFormat, canary: str) -> None:
    stream = configured(log_format)
    logger = logging.getLogger("somewhere")
    logger.info("message %s", canary)
    logger.info("constant", extra={"target": canary, "nested": {"list": [canary]}, "raw": canary.encode()})
    logger.info("constant", extra={"text": canary, "mapping": {canary: 1}})
    try:
        raise ValueError(canary)
    except ValueError:
        logger.exception("it broke")
    assert SECRET not in stream.getvalue()
    assert "redacted" in stream.getvalue()


@pytest.mark.parametrize("name", ["authorization", "Cookie", "impersonate_user", "token", "password", "X-Remote-Group"])
def test_a_field_with_a_secret_name_loses_its_value(name: str) -> None:
    stream = configured("json")
    pairs = ((name.encode(), b"anything"),)
    logging.getLogger("x").info("request", extra={"headers": {name: "anything"}, "pairs": pairs})
    logging.getLogger("x").info("request", extra={name: "anything"})
    assert "anything" not in stream.getvalue()


def test_the_token_id_stays_so_that_the_token_can_be_found() -> None:
    stream = configured("json")
    logging.getLogger("x").info("refused", extra={"shown": CANARIES["user token"]})
    assert json.loads(stream.getvalue())["shown"] == "riata_abcdefghij_[redacted]"


def test_harmless_text_is_left_alone() -> None:
    stream = configured("json")
    logging.getLogger("x").info("served", extra={"target": "/api/v1/pods?watch=1", "token_id": "abcdefghij", "n": 3})
    record = json.loads(stream.getvalue())
    assert (record["target"], record["token_id"], record["n"]) == ("/api/v1/pods?watch=1", "abcdefghij", 3)
    assert (record["event"], record["level"], record["component"], record["logger"]) == ("served", "info", "hub", "x")


EVIL = 'a\nb\r\n{"forged":1}\x1b[31m\x00\x7f\u2028\u202e\ud800é'


def test_a_json_record_is_one_ascii_line() -> None:
    stream = configured("json")
    logging.getLogger("x").info("first %s", EVIL, extra={"path": EVIL, f"key {EVIL}": 1})
    logging.getLogger("x").info("second")
    text = stream.getvalue()
    assert text.isascii()
    assert text.count("\n") == 2
    assert all(char.isprintable() or char == "\n" for char in text)
    assert [json.loads(line)["level"] for line in text.splitlines()] == ["info", "info"]


def test_a_console_record_starts_a_line_and_nothing_else_does() -> None:
    stream = configured("console")
    logger = logging.getLogger("x")
    logger.info("first %s", EVIL, extra={"path": EVIL, f"key {EVIL}": 1})
    try:
        raise ValueError(EVIL)
    except ValueError:
        logger.exception("second")
    lines = stream.getvalue().splitlines()
    assert stream.getvalue().isascii()
    assert len([line for line in lines if not line.startswith(" | ")]) == 2


def test_long_values_are_cut() -> None:
    stream = configured("json")
    logging.getLogger("x").info("served", extra={"target": "a" * 100_000})
    assert len(stream.getvalue()) < 3000


def test_a_secret_at_the_cut_is_still_redacted() -> None:
    stream = configured("json")
    logging.getLogger("x").info("served", extra={"target": "a" * 2020 + " " + CANARIES["user token"]})
    assert SECRET[:8] not in stream.getvalue()


def test_an_extra_does_not_hide_what_happened() -> None:
    stream = configured("json")
    logging.getLogger("x").info("delivery failed", extra={"event": "DataReceived", "level": 3})
    record = json.loads(stream.getvalue())
    assert (record["event"], record["level"]) == ("delivery failed", "info")
    assert (record["event_"], record["level_"]) == ("DataReceived", 3)


def test_the_level_applies() -> None:
    stream = io.StringIO()
    logs.configure(component="hub", log_format="json", level="warning", stream=stream)
    logging.getLogger("x").info("no")
    logging.getLogger("x").warning("yes")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["yes"]
    with pytest.raises(ValueError, match="log level"):
        logs.configure(component="hub", log_format="json", level="loud")


def test_libraries_cannot_print_frames_at_debug() -> None:
    stream = configured("json")
    logging.getLogger("websockets.client").debug("> TEXT secret")
    logging.getLogger("aiohttp.access").info("secret")
    assert stream.getvalue() == ""


def test_uncaught_exceptions_are_logged_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import threading

    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    stream = configured("json")
    logs.log_uncaught()
    error = RuntimeError(CANARIES["jwt"])
    sys.excepthook(RuntimeError, error, None)
    assert "uncaught exception" in stream.getvalue()
    assert SECRET not in stream.getvalue()
