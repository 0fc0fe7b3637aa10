"""The table of causes: every row is complete, and every text can be filled in by whoever finds it."""

import string

import pytest

from proto import causes, findings
from proto.causes import AGENT, OPERATOR, Cause, Step

ROWS = causes.rows(vars(causes))
FACTS = (
    "at", "host", "location", "path", "said", "seconds", "side", "status", "subprotocol", "through", "variable",
)  # fmt: skip


def test_ids_are_unique_and_say_where_they_belong() -> None:
    assert len(causes.by_id(ROWS)) == len(ROWS) > 20
    with pytest.raises(ValueError, match="twice"):
        causes.by_id([ROWS[0], ROWS[0]])
    assert {row.check for row in ROWS} == {step.value for step in Step} | {"clock"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
@pytest.mark.parametrize("names", [AGENT, OPERATOR], ids=["agent", "operator"])
def test_every_row_speaks_to_both_readers(row: Cause, names: dict[str, str]) -> None:
    found = findings.bad(row, names, **dict.fromkeys(FACTS, "THIS"))
    assert "{" not in f"{found.what}{found.cure}"
    assert (found.check, found.cause, found.level) == (row.check, row.id, row.level)
    assert found.what
    assert found.cure
    wanted = {name for _, name, _, _ in string.Formatter().parse(row.cure) if name}
    assert wanted <= AGENT.keys() == OPERATOR.keys(), "a cure holds names of settings only"


def test_a_diagnosis_keeps_its_row() -> None:
    found = causes.PIN_OTHER_CA.found(AGENT, retry_s=2.0)
    assert (found.step, found.cause, found.retry_s, found.is_slow) == (Step.PIN, "pin-other-ca", 2.0, True)
    assert "--hub-ca-pin" in str(found)


@pytest.mark.parametrize(
    ("names", "new"),
    [
        (AGENT, "--hub-ca-pin (and --hub-ca-file)"),
        (
            OPERATOR,
            "CA (riata login --hub URL --ca-file FILE --token-file FILE, with the --profile that is to have it)",
        ),
    ],
)
def test_another_ca_is_answered_in_a_sentence(names: dict[str, str], new: str) -> None:
    cure = causes.PIN_OTHER_CA.found(names).cure
    assert cure.startswith(f"If the hub's CA was replaced, give its new {new}; if a TLS terminator")
    assert f"give that one's {new}; else" in cure


def test_what_was_met_is_never_a_template() -> None:
    found = causes.PIN_NO_CA.found(AGENT, said="a file with {braces} and {url}")
    assert found.what == "a file with {braces} and {url}"
