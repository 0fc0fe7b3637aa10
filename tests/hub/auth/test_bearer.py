"""The text form of tokens, and a comparison that tells nothing."""

import hashlib
import re

import pytest

from hub.auth import bearer


@pytest.mark.parametrize("prefix", [bearer.USER_PREFIX, bearer.AGENT_PREFIX])
def test_a_minted_token_is_parsed_and_matches(prefix: str) -> None:
    minted = bearer.mint(prefix)
    assert re.fullmatch(rf"{prefix}_[a-z0-9]{{10}}_[0-9a-f]{{64}}", minted.text)
    presented = bearer.parse(minted.text.encode())
    assert presented is not None
    assert (presented.prefix, presented.id) == (prefix, minted.id)
    assert presented.digest == minted.digest == hashlib.sha256(minted.text.split("_")[2].encode()).digest()
    assert bearer.matches(presented, minted.digest)
    assert len(minted.text) <= bearer.TOKEN_BYTES_MAX


def test_tokens_are_not_repeated_and_not_shown() -> None:
    minted = [bearer.mint("riata") for _ in range(100)]
    assert len({item.text for item in minted}) == len({item.id for item in minted}) == 100
    assert minted[0].text not in repr(minted[0])


GOOD = b"riata_" + b"a" * 10 + b"_" + b"0" * 64


@pytest.mark.parametrize(
    "text",
    [
        b"", b"riata", GOOD[:-1], GOOD + b"0", GOOD + b"\n", b" " + GOOD, GOOD.upper(), GOOD.replace(b"a", b"A"),
        GOOD.replace(b"0", b"g"), b"riatax" + GOOD[5:], GOOD.replace(b"_", b"-"), b"\xff" * 81, b"x" * 100_000,
        "rіata".encode() + GOOD[5:],  # noqa: RUF001 the second letter is Cyrillic
    ],
)  # fmt: skip
def test_anything_else_is_none(text: bytes) -> None:
    assert bearer.parse(text) is None


def test_another_secret_and_no_record_do_not_match() -> None:
    presented = bearer.parse(GOOD)
    assert presented is not None
    assert not bearer.matches(presented, bearer.mint("riata").digest)
    assert not bearer.matches(presented, None)
    assert not bearer.matches(bearer.Presented("riata", "a" * 10, bytes(32)), None)


def test_a_credential_is_read_once_and_never_shown() -> None:
    minted = bearer.mint(bearer.USER_PREFIX)
    shown = bearer.Bearer(minted.text.encode())
    assert shown.presented == bearer.parse(minted.text.encode())
    assert shown.presented is shown.presented
    assert bearer.Bearer(b"x").presented is None
    assert minted.text.split("_")[2] not in f"{shown!r} {shown}"
