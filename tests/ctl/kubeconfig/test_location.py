"""Which files kubectl reads and writes (the cases of client-go's PathOptions)."""

import pathlib

import pytest

from ctl.kubeconfig import location


@pytest.mark.parametrize(
    ("kubeconfig", "paths"),
    [
        ("", ["/h/.kube/config"]),
        ("a", ["a"]),
        ("a:b:a", ["a", "b"]),
        (":a::b:", ["a", "b"]),
        (":", ["/h/.kube/config"]),
    ],
)
def test_precedence(kubeconfig: str, paths: list[str]) -> None:
    assert [str(p) for p in location.precedence({"HOME": "/h", "KUBECONFIG": kubeconfig})] == paths


@pytest.mark.parametrize(("existing", "chosen"), [("", "c"), ("a", "a"), ("bc", "b"), ("c", "c")])
def test_destination(existing: str, chosen: str) -> None:
    files = [pathlib.Path(p) for p in "abc"]
    assert location.destination(files, lambda p: str(p) in existing) == pathlib.Path(chosen)
