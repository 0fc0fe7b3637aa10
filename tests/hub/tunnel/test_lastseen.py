"""Who was here: the latest are remembered."""

from hub.tunnel.lastseen import LastSeen


def test_the_oldest_is_forgotten_first_and_one_seen_again_is_new() -> None:
    seen: LastSeen[int] = LastSeen(keep=2)
    for who, moment in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        seen.note(who, moment)
    assert [seen.get(who) for who in "abc"] == [3, None, 4]
    seen.forget("a")
    seen.forget("x")
    assert len(seen) == 1
