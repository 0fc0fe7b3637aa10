"""Each source file has its test file of the same name; what has none is listed here, and the list only shrinks."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("agent", "ctl", "hub", "proto")
WITHOUT = {
    "agent/errors.py",
    "agent/relay/context.py",
    "ctl/commands/about.py",
    "ctl/demo/borrowed.py",
    "ctl/demo/running.py",
    "hub/api/routes.py",
    "hub/api/services.py",
    "hub/edge/application.py",
    "hub/edge/limits.py",
    "hub/edge/state.py",
    "hub/route.py",
    "hub/store/interface.py",
    "hub/store/statements.py",
    "proto/aio/owner.py",
    "proto/redaction.py",
}
"""Types and tables without behaviour of their own, or proven through the file that uses them (tests/e2e/test_demo.py,
tests/hub/store/conformance.py, tests/proto/test_logs.py)."""


def test_every_source_file_has_its_test_file() -> None:
    lacking = set()
    for source in (file for package in PACKAGES for file in (ROOT / package).rglob("*.py")):
        place = source.relative_to(ROOT)
        if source.name.startswith("__"):
            continue
        if not (ROOT / "tests" / place.parent / f"test_{source.name}").exists():
            lacking.add(str(place))
    assert lacking == WITHOUT, "write the test file, or take from the list what now has one"
