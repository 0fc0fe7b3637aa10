"""What a doctor found: one line a check, the same from `riata doctor` and `riata-agent doctor`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from proto import causes
from proto.causes import Cause, Diagnosis, Level

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
CLOCK_OFF_S: Final = 30.0
CLOCK_WRONG_S: Final = 240.0
"""Nearly what a signature's window is (proto.credentials.SKEW_MAX_S): a Date header is as old as its way."""
_ROWS: Final = causes.by_id(causes.rows(vars(causes)))
_WIDTH: Final = max(len(level.value) for level in Level)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check came to."""

    check: str
    level: Level
    what: str
    """What was found, or why the check was not run."""
    cure: str = ""
    cause: str = ""
    """Id of the row in the table of causes; empty where nothing is wrong."""

    def document(self) -> dict[str, str]:
        """As an element of the JSON report."""
        return {
            "check": self.check,
            "level": self.level.value,
            "cause": self.cause,
            "what": self.what,
            "cure": self.cure,
        }

    def line(self, width: int) -> str:
        """One line; `width`: of the column with the checks."""
        told = f"{self.cause}: {self.what}. {self.cure}" if self.cause else self.what
        # What an agent, a proxy or a hub said must neither break the line nor drive a terminal.
        told = "".join(each if each.isprintable() else " " for each in told)
        return f"{self.level.value:<{_WIDTH}}  {self.check:<{width}}  {told}"


def good(check: str, what: str) -> Finding:
    return Finding(check, Level.OK, what)


def bad(cause: Cause, names: Mapping[str, str], /, *, check: str = "", **facts: object) -> Finding:
    """A row of the table, filled in. `check`: where one row serves several checks."""
    known = {**names, **facts}
    return Finding(check or cause.check, cause.level, cause.what.format(**known), cause.cure.format(**known), cause.id)


def of_diagnosis(diagnosis: Diagnosis) -> Finding:
    """A failed attempt to connect as the finding of its step."""
    row = _ROWS.get(diagnosis.cause)
    level = Level.FAIL if row is None else row.level
    return Finding(diagnosis.step.value, level, diagnosis.what, diagnosis.cure, diagnosis.cause)


def of_clock(here: float, there: float | None, names: Mapping[str, str]) -> Finding:
    """Two clocks, in seconds since the epoch; `there` None: unknown."""
    if there is None:
        return bad(causes.CLOCK_UNKNOWN, names)
    ahead = here - there
    if abs(ahead) < CLOCK_OFF_S:
        return good("clock", f"within {max(1, round(abs(ahead)))} s of the hub's")
    cause = causes.CLOCK_WRONG if abs(ahead) >= CLOCK_WRONG_S else causes.CLOCK_OFF
    return bad(cause, names, seconds=round(abs(ahead)), side="ahead of" if ahead > 0 else "behind")


def not_run(check: str, because: str) -> Finding:
    """`because`: the check whose failure leaves nothing to be learnt here."""
    return Finding(check, Level.NOT_RUN, f"not run: {because} failed")


def render(findings: Sequence[Finding]) -> str:
    """The report for a person, a line each and a newline at its end."""
    width = max((len(finding.check) for finding in findings), default=0)
    return "".join(f"{finding.line(width)}\n" for finding in findings)


def document(findings: Iterable[Finding]) -> dict[str, object]:
    """The report for a program."""
    listed = list(findings)
    return {"ok": exit_code(listed) == EXIT_OK, "findings": [finding.document() for finding in listed]}


def exit_code(findings: Iterable[Finding]) -> int:
    """1 when a check failed. A warning is no failure, nor is what was not run."""
    return EXIT_FAILED if any(finding.level is Level.FAIL for finding in findings) else EXIT_OK
