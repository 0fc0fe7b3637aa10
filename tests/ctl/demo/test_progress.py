"""Steps without a terminal: a line each, and none for one that fails."""

import pytest

from ctl.demo import progress


def test_a_line_for_each_step_that_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Steps() as steps:
        with steps.step("hub"), steps.step("inner"):
            steps.note("a \x1b remark")
        with pytest.raises(RuntimeError), steps.step("broken"):
            raise RuntimeError
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert lines[0] == "a � remark"
    assert [line.split(":")[0] for line in lines[1:]] == ["inner", "hub"]
    assert captured.out == ""
