"""What was made with a token is found, whatever in between is gone."""

from __future__ import annotations

from hub.auth.descendants import made_with
from hub.auth.tokens import TokenIndex
from tests.hub.auth.records import made, token


async def test_all_below_a_token_are_found_each_before_what_it_made() -> None:
    index = TokenIndex()
    for token_id, lineage in (("d", ("a", "gone", "c")), ("c", ("a", "gone")), ("a", ()), ("b", ("x", "c")), ("x", ())):
        index.apply(made(token(token_id, lineage=lineage)))
    assert [record.id for record in await made_with(index, "a")] == ["c", "d"]
    assert [record.id for record in await made_with(index, "gone")] == ["c", "d"]
    assert [record.id for record in await made_with(index, "c")] == ["b", "d"]
    assert await made_with(index, "d") == []
