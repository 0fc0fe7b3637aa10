"""Options that many commands share."""

import pathlib

import pytest

from ctl import errors, logins, options
from tests.ctl.conftest import Riata


def test_assignments() -> None:
    assert options.assignments(["a=1", "b=", "c=x=y"]) == {"a": "1", "b": "", "c": "x=y"}


@pytest.mark.parametrize("pairs", [["a"], ["=1"], ["a=1", "a=2"]])
def test_what_is_none(pairs: list[str]) -> None:
    with pytest.raises(errors.UsageError):
        options.assignments(pairs)


async def test_the_doctor_that_is_advised_looks_at_the_same_login(riata: Riata, home: pathlib.Path) -> None:
    """The current one may be another hub's, and well."""
    gone = logins.Login(hub="http://127.0.0.1:1", token="riata_x")
    logins.save(home / ".config" / "riata" / "config.yaml", logins.LoginFile(hubs={"my hub": gone}))
    for command in (["clusters", "list"], ["whoami"], ["logout", "--revoke"]):
        failed = await riata(*command, "--profile", "my hub")
        assert "riata doctor --profile 'my hub' looks closer" in failed.err, command
