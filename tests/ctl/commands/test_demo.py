"""`riata demo`: wrong command lines."""

import pytest

from tests.ctl.conftest import Riata


@pytest.mark.parametrize(
    "arguments", [("--context", "x"), ("-o", "yaml"), ("--kubeconfig", "/nowhere"), ("--kubeconfig", "x", "--light")]
)
async def test_usage_errors(riata: Riata, arguments: tuple[str, ...]) -> None:
    assert (await riata("demo", *arguments)).code == 2
