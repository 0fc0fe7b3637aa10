"""What an agent says of its node: exact, bounded, and no reason to refuse anybody."""

import pytest

from proto.facts import FACTS, NO_FACTS, NodeFacts, from_ext, to_ext

SOME = NodeFacts(boot_id="b" * 36, kernel="6.18.0", architecture="x86_64", addresses="10.0.0.5 fd00::1")


def test_there_and_back():
    assert from_ext(to_ext(SOME)) == SOME
    assert to_ext(SOME)[FACTS]["kernel"] == "6.18.0"
    assert "roles" not in to_ext(SOME)[FACTS]


def test_nothing_known_is_nothing_said():
    assert to_ext(NO_FACTS) == {}
    assert from_ext({}) == NO_FACTS


@pytest.mark.parametrize(
    "said",
    [
        "text", 7, None, True, [], {"kernel": 6}, {"kernel": None}, {"kernel": "x" * 129}, {"boot_id": "x" * 65},
        {"addresses": "1" * 513}, {"kernel": "6.1", "more": "x"}, {"kernel": "a\nb"}, {"roles": "\x1b[31m"},
    ],
)  # fmt: skip
def test_what_does_not_fit_is_nothing(said):
    assert from_ext({FACTS: said, "other": 1}) == NO_FACTS
