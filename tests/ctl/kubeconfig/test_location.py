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


def test_without_a_home_it_is_below_the_working_directory_as_for_kubectl() -> None:
    for env in ({}, {"HOME": ""}):
        assert location.precedence(env) == [pathlib.Path(".kube/config")]


@pytest.mark.parametrize(("existing", "chosen"), [("", "c"), ("a", "a"), ("bc", "b"), ("c", "c")])
def test_destination(existing: str, chosen: str) -> None:
    files = [pathlib.Path(p) for p in "abc"]
    assert location.destination(files, lambda p: str(p) in existing) == pathlib.Path(chosen)
