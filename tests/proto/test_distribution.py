import sys
import types

import pytest

from proto import distribution


def test_our_own_package_passes() -> None:
    distribution.check()


def test_a_foreign_package_is_named_with_the_cure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = types.ModuleType("proto")
    foreign.__file__ = "/somewhere/site-packages/proto/__init__.py"
    monkeypatch.setitem(sys.modules, "proto", foreign)
    with pytest.raises(SystemExit) as caught:
        distribution.check()
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "/somewhere/site-packages/proto/__init__.py" in said
    assert "virtual environment" in said
