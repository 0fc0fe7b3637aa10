"""The keyring: what was last seen, and compare-and-swap until it holds."""

import pytest

from agent.keys import Kept, KeyConflict, KeyPair, KeyState
from agent.uplink.keyring import Keyring
from tests.agent.uplink.rotating import Store

ONE = KeyState(KeyPair(b"1" * 32, 1.0))


async def test_change_repeats_until_nobody_was_faster():
    store = Store()
    ring = Keyring(store, lambda: 5.0)
    assert (await ring.load(), ring.is_loaded) == (None, False)
    save, lost = store.save, []

    async def lose_twice(state, version):
        if len(lost) < 2:
            lost.append(version)
            raise KeyConflict("changed")
        return await save(state, version)

    store.save = lose_twice
    await ring.change(lambda state: state or ONE)
    assert (ring.state, len(lost), store.version) == (ONE, 2, 1)
    await ring.change(lambda state: None)
    await ring.change(lambda state: state)
    assert store.version == 1


async def test_it_gives_up_against_a_store_that_never_holds_still():
    store = Store()

    async def lose(state, version):
        raise KeyConflict("changed")

    store.save = lose
    ring = Keyring(store, lambda: 5.0)
    with pytest.raises(KeyConflict, match="all the time"):
        await ring.change(lambda state: ONE)
    ring.assume(ONE)
    assert ring.state == ONE
    assert ring.new_pair().made_at == 5.0
    assert await store.load() == Kept(None, "0")
