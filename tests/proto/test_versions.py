import re

import pytest

from proto import errors, versions


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"), [((1, 1), (1, 1), 1), ((1, 3), (2, 5), 3), ((2, 2), (1, 9), 2), ((1, 9), (1, 2), 2)]
)
def test_the_highest_common_version(ours: tuple[int, int], theirs: tuple[int, int], agreed: int) -> None:
    assert versions.negotiate(ours, theirs) == agreed


@pytest.mark.parametrize(("ours", "theirs"), [((1, 1), (2, 3)), ((4, 5), (1, 3)), ((1, 9), (5, 4))])
def test_no_common_version(ours: tuple[int, int], theirs: tuple[int, int]) -> None:
    with pytest.raises(errors.VersionMismatch):
        versions.negotiate(ours, theirs)


def test_the_product_version_is_a_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", versions.PRODUCT_VERSION)
    assert versions.OURS == (versions.WIRE_MIN, versions.WIRE_VERSION)
