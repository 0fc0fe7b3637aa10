"""How docstrings and types become tables; the pages themselves are compared in tests/docs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from hub import reference
from proto.errors import Code


@dataclasses.dataclass
class Sample:
    one: int = 1
    """First
    line and second."""
    two: str = ""
    three: tuple[str, ...] = ()
    """Third."""


def test_docstrings_belong_to_the_field_above() -> None:
    assert reference.attribute_docs(Sample) == {"one": "First line and second.", "three": "Third."}


def test_types_in_words() -> None:
    assert reference._type(int) == "number"
    assert reference._type(Path | None) == "path"
    assert reference._type(tuple[str, ...]) == "list of text"
    assert reference._type(Literal["a", "b"]) == "`a` or `b`"
    assert reference._default(None) == reference._default(()) == "none"
    assert reference._default(False) == "false"


def test_a_code_that_is_answered_by_what_becomes_of_its_session_has_both_answers() -> None:
    said = reference._fate(Code.REFUSED, is_mutation=True)
    assert said.startswith("429 TooManyRequests, Retry-After 1 while the session lives; else 503 ")
    assert reference._fate(Code.FORBIDDEN, is_mutation=True) == "403 Forbidden"


def test_shapes_in_words() -> None:
    assert reference._shape({"anyOf": [{"type": "string"}, {"type": "null"}]}) == "string or null."
    assert reference._shape({"type": "array", "items": {"$ref": "#/components/schemas/X"}}) == "List of X."
    assert reference._shape({"enum": ["a", "b"]}) == "`a` or `b`."
