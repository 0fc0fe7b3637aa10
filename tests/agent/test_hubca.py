"""What the hub says of its CAs, kept in a file beside the agent's key."""

import base64
import stat

import pytest

from agent import hubca
from agent.hubca import CaFile, CaUnusable, HubCa, Unkept

KNOWN = HubCa(("sha256:" + "a" * 64,), "-----BEGIN")


async def test_a_file_is_kept_whole_and_private(tmp_path):
    store = CaFile(tmp_path / "agent.key")
    assert await store.load() is None
    await store.save(KNOWN)
    await store.save(KNOWN)
    file = tmp_path / "agent.key.hub-ca"
    assert await CaFile(tmp_path / "agent.key").load() == KNOWN
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


async def test_what_a_crash_left_of_the_writing_is_no_hindrance(tmp_path):
    (tmp_path / ".agent.key.hub-ca.new").write_text("half")
    await CaFile(tmp_path / "agent.key").save(KNOWN)
    assert await CaFile(tmp_path / "agent.key").load() == KNOWN


@pytest.mark.parametrize("content", [b"", b"x", b"{}", b'{"settings":[],"ca":1}', b"\xff", b"[" * 2000])
async def test_a_damaged_file_is_named_with_its_cure(tmp_path, content):
    (tmp_path / "agent.key.hub-ca").write_bytes(content)
    with pytest.raises(CaUnusable, match=r"agent.key.hub-ca does not hold .* remove it"):
        await CaFile(tmp_path / "agent.key").load()


async def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(CaUnusable, match=r"none/agent\.key\.hub-ca cannot be written"):
        await CaFile(tmp_path / "none" / "agent.key").save(KNOWN)


async def test_without_a_place_nothing_is_kept():
    assert await Unkept().load() is None
    with pytest.raises(CaUnusable):
        await Unkept().save(KNOWN)


def test_what_is_kept_is_exact():
    assert hubca.decode(hubca.encode(KNOWN), "x") == KNOWN
    assert base64.b64encode(hubca.encode(KNOWN))
