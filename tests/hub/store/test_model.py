"""Keys as text; the rest of the model is exercised by the conformance suite."""

from hub.store.model import Key


def test_a_key_reads_like_a_path() -> None:
    assert str(Key("thing", "", "a")) == "thing/a"
    assert str(Key("thing", "c", "a")) == "thing/c/a"
    assert Key("a", "", "x") < Key("b", "", "a") < Key("b", "c", "a")
