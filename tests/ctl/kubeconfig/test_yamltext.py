"""Splices in YAML text."""

import pytest

from ctl.kubeconfig import yamltext


def test_edits_apply_in_order_of_place() -> None:
    edits = [yamltext.Edit(3, 4, "D"), yamltext.Edit(0, 1, "A"), yamltext.Edit(2, 2, "+")]
    assert yamltext.apply("abcd", edits) == "Ab+cD"
    with pytest.raises(ValueError, match="overlap"):
        yamltext.apply("abcd", [yamltext.Edit(0, 2, ""), yamltext.Edit(1, 3, "")])


@pytest.mark.parametrize("text", ["", "# comment\n", "---\n", "null"])
def test_texts_that_hold_nothing(text: str) -> None:
    assert yamltext.compose(text) is None


@pytest.mark.parametrize("text", ["a: [", "---\na: [", "a: [\n---b", "a: [\n ---\n"])
def test_what_is_plainly_one_document_is_not_parsed_to_learn_that(text: str) -> None:
    assert yamltext.split(text) == (text, "")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\x85", "\u2028", "\u2029"])
def test_another_document_begins_behind_each_line_end_of_yaml(end: str) -> None:
    assert yamltext.split(f"a: 1{end}---{end}") == (f"a: 1{end}", f"---{end}")


@pytest.mark.parametrize("text", ["- a", "a", "{", "a: 1\n---\nb: 2\n", "\x00", "[" * 3000])
def test_texts_that_hold_something_else(text: str) -> None:
    with pytest.raises(ValueError, match=r"^it is not"):
        yamltext.compose(text)


@pytest.mark.parametrize("text", ["a: 1\nb:\tc\n", "a: 1\nb: c\t\n", "# x\n---\n- {a:\t1}\n", "a: 1\nb: \t- c\n"])
def test_a_tab_is_named_since_kubectl_may_take_it(text: str) -> None:
    for read in (yamltext.compose, yamltext.load):
        with pytest.raises(ValueError, match=r"^line [23] has a tab where riata's YAML reader takes none"):
            read(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: 1\nb: %c\n", "line 2, found character '%' that cannot start any token"),
        ("a: 1\nb: {\n", "line 3, expected the node content, but found '<stream end>'"),
        ("a: 1\n---\n# x\n---\n*secret\n", "line 5, found undefined alias"),
    ],
)
def test_what_is_not_valid_is_named_with_nothing_of_the_file(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=r"^it is not valid YAML") as caught:
        yamltext.compose(text)
    assert str(caught.value) == f"it is not valid YAML: {why}"


def test_scalars_are_read_as_they_are_spelt_except_null() -> None:
    text = "a: 1e3\nb: yes\nc: 2020-01-01\nd: ~\ne: 0x10\nf: null\n"
    assert yamltext.load(text) == {"a": "1e3", "b": "yes", "c": "2020-01-01", "d": None, "e": "0x10", "f": None}


def test_a_key_that_stands_there_twice_is_refused() -> None:
    root = yamltext.compose("a: 1\na: 2\n")
    assert root is not None
    with pytest.raises(ValueError, match="twice"):
        yamltext.value(root, "a")


@pytest.mark.parametrize("text", ["1e3", "yes", "", "a b", "x: y", "é", "0x1", "n", "#", "null", "-", "012"])
def test_every_string_that_another_reader_may_misread_is_quoted(text: str) -> None:
    written = yamltext.block({"key": text}, "\n")
    assert written.startswith(("key: '", 'key: "'))
    assert yamltext.load(written) == {"key": text}
