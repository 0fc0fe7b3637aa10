"""What was made with a token: the way from a stolen one to all that the thief may have."""

from __future__ import annotations

from hub.auth.tokens import TokenIndex, TokenRecord
from hub.slices import in_slices


async def made_with(index: TokenIndex, token_id: str) -> list[TokenRecord]:
    """What was made with a token, which may be gone, or with one of those; each before what it made."""
    found = [record async for record in in_slices(index) if token_id in record.lineage]
    return sorted(found, key=lambda record: (len(record.lineage), record.id))
