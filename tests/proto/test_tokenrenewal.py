"""A fresher token as what differs: small, exact, and never more than the token itself."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto import codec, commands, websocket
from proto.commands import CHANGES_MAX, PresentToken, RenewToken
from proto.errors import Code, StreamReset
from proto.messages import Accepted, Command, Result, StreamClass, StreamKind
from proto.tokenrenewal import difference, renewed, signed_part
from tests.hub.auth.issuing import Cluster
from tests.proto.pair import Pair

TEXT = st.text("abcABC019-_", max_size=200)


def projected(cluster: Cluster, now: int, jti: str) -> str:
    return cluster.token(now, jti=jti).decode()


@pytest.mark.parametrize("kind", ["RS256", "ES256"])
def test_most_of_a_renewed_token_is_not_said_again(kind: str) -> None:
    cluster = Cluster("7b1f9b0e-5a53-4c63-9c2e-1f6a6b8c0d11", kind)
    before = projected(cluster, 1_764_200_000, "5d2c1b6e-6f0a-4b1d-8f44-0a9b3f1c7e21")
    after = projected(cluster, 1_764_200_480, "c4a7e0d9-13f8-4e77-b2c5-77d0e9a4f3b6")
    changes = difference(signed_part(before), after)
    assert changes is not None
    assert renewed(signed_part(before), changes) == after
    said = len(codec.encode(Command(verb="renew-token", args=commands.to_ext(changes))))
    signature = len(after.rpartition(".")[2])
    print(f"\n{kind}: {len(after)} characters, {said} bytes, of which {signature} are the signature")
    assert said <= signature + 160
    assert "c4a7" not in repr(changes)


@given(TEXT, TEXT, TEXT)
def test_what_is_put_together_is_the_token(before: str, payload: str, signature: str) -> None:
    token = f"{payload}.{signature}"
    changes = difference(before, token)
    if changes is not None:
        assert renewed(before, changes) == token
    else:
        assert not before or len(before) != len(payload) or len(payload) > CHANGES_MAX


def test_a_token_that_differs_everywhere_is_said_whole() -> None:
    assert difference("a" * 1000, ("b" + "a" * 9) * 100 + ".s") is None
    assert difference("a.b", "a.bb.s") is None
    assert difference("", ".s") is None
    assert difference("a.b", "a.b." + "s" * 4000) is None


@pytest.mark.parametrize(
    "args",
    [
        RenewToken(at=(0,), texts=(), signature="s"),
        RenewToken(at=(8,), texts=("abc",), signature="s"),
        RenewToken(at=(4, 0), texts=("a", "b"), signature="s"),
        RenewToken(at=(0, 1), texts=("abc", "b"), signature="s"),
        RenewToken(at=(16_383,), texts=("",), signature="s"),
    ],
)
def test_changes_outside_of_what_was_shown_are_refused(args: RenewToken) -> None:
    with pytest.raises(StreamReset) as caught:
        renewed("aaaa.bbbbb", args)
    assert caught.value.code is Code.PROTOCOL


DAY_S = 86_400
RENEWAL_S = 480
"""The kubelet renews a token of 600 s when four fifths of it are over."""
TLS_RECORD = 22
"""Bytes that TLS 1.3 adds to a record: its header, the content type, the tag."""


def on_the_wire(message: bytes, *, is_masked: bool) -> int:
    """TCP payload of a message: one WebSocket frame in one TLS record."""
    return len(websocket.frame(websocket.BINARY, message, b"mask" if is_masked else None)) + TLS_RECORD


def test_a_day_of_an_idle_node_agent_whose_cluster_signs_with_rsa_is_well_below_a_megabyte() -> None:
    """In virtual time: pings, and 180 renewals with their answers and whatever they wake."""
    cluster, pair = Cluster("7b1f9b0e-5a53-4c63-9c2e-1f6a6b8c0d11"), Pair()
    issuer = "https://kubernetes.default.svc.cluster.local"
    pair.pump()
    before = ""
    for renewal in range(DAY_S // RENEWAL_S):
        jti = str(uuid.uuid5(uuid.NAMESPACE_OID, str(renewal)))
        token = cluster.token(1_764_200_000 + renewal * RENEWAL_S, jti=jti, iss=issuer).decode()
        changes = difference(signed_part(before), token)
        args = changes or PresentToken(token=token)
        command = Command(verb="renew-token" if changes else "present-token", args=commands.to_ext(args))
        before = token
        pair.agent.session.open_stream(command, kind=StreamKind.CMD, cls=StreamClass.NORMAL, end=True, now=pair.now)
        pair.pump()
        taken = pair.hub.taken()
        pair.hub.session.accept(taken, Accepted())
        pair.hub.send(taken, codec.encode(Result()), end=True)
        pair.pump()
        pair.consume(pair.agent)
        for side in (pair.hub, pair.agent):
            side.log.clear()
        pair.advance(RENEWAL_S)
    sent = [
        sum(on_the_wire(message, is_masked=is_masked) for message in side.sent)
        for side, is_masked in ((pair.hub, False), (pair.agent, True))
    ]
    print(f"\na day of an idle node agent: {sum(sent):,} bytes, {sent[0]:,} of the hub and {sent[1]:,} of the agent")
    assert sum(sent) <= 850_000
