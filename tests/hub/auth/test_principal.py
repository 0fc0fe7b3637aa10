"""Names that may exist, and those that must not (facts/security.md A19, design P1)."""

import pytest

from hub.auth.principal import check_name


@pytest.mark.parametrize("name", ["jane", "jane@example.org", "a b", "x" * 253, "CN=jane,O=dev", "team:ops", "hubert"])
def test_ordinary_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "", "x" * 254, " jane", "jane ", "ja\x00ne", "ja\r\nne", "jane\n", "jän", "\u202ejane", "\ud800", "*",
        "hub:cluster-admins", "HUB:x", "system:masters", "System:admin", "system:anonymous",
        "system:serviceaccount:kube-system:x",
    ],
)  # fmt: skip
def test_names_that_must_not_exist(name: str) -> None:
    with pytest.raises(ValueError, match="must"):
        check_name(name)
