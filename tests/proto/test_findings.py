"""One line a check; a failure, and only a failure, is exit code 1."""

import pytest

from proto import causes, findings
from proto.causes import AGENT, OPERATOR, Level
from proto.findings import Finding


def test_the_report_is_a_line_a_check() -> None:
    found = [
        findings.good("dns", "hub.test is 10.0.0.1"),
        findings.bad(causes.TCP_REFUSED, AGENT, at="hub.test:443"),
        findings.not_run("websocket", "tcp"),
    ]
    assert findings.render(found) == (
        "ok       dns        hub.test is 10.0.0.1\n"
        "fail     tcp        tcp-refused: hub.test:443 refused the connection."
        " Check that the hub runs and that --hub-url has the right port\n"
        "not-run  websocket  not run: tcp failed\n"
    )
    assert findings.document(found)["ok"] is False
    assert findings.exit_code(found) == 1


def test_a_warning_and_what_was_not_run_are_no_failure() -> None:
    found = [findings.of_clock(0, None, AGENT), findings.not_run("tls", "tcp")]
    assert [finding.level for finding in found] == [Level.WARN, Level.NOT_RUN]
    assert findings.exit_code(found) == 0
    assert findings.document(found) == {"ok": True, "findings": [finding.document() for finding in found]}


def test_what_others_say_stays_on_its_line() -> None:
    assert (
        findings.render([Finding("dns", Level.OK, "one\ntwo\x1b[31m\u2028three")])
        == "ok       dns  one two [31m three\n"
    )


def test_a_diagnosis_keeps_its_rows_level() -> None:
    assert findings.of_diagnosis(causes.CREDENTIAL_NOT_JOINED.found(AGENT)).level is Level.WARN
    assert findings.of_diagnosis(causes.TLS_NONE.found(OPERATOR, at="x")).level is Level.FAIL
    assert findings.of_diagnosis(causes.Diagnosis(causes.Step.TCP, "what", "cure")).level is Level.FAIL


@pytest.mark.parametrize(
    ("ahead", "cause"),
    [(0, ""), (29, ""), (31, "clock-off"), (-31, "clock-off"), (300, "clock-wrong"), (-9999, "clock-wrong")],
)
def test_clocks(ahead: float, cause: str) -> None:
    finding = findings.of_clock(1_000_000 + ahead, 1_000_000, AGENT)
    assert finding.cause == cause
    if cause:
        assert f"{abs(ahead)} s {'ahead of' if ahead > 0 else 'behind'}" in finding.what
