"""Every message: its wire form is a map of exactly its fields, and defaults stay at home."""

import msgpack
import pytest

from proto import codec, messages
from tests.proto.pair import INSTANCE, NONCE

BOUNDS = messages.Bounds(data=1, streams=2, backlog=3, window=4, session_window=5)
EXAMPLES: list[messages.Wire] = [
    messages.HttpRequest(method="GET", path=b"/", headers=((b"a", b"b"),)),
    messages.TcpTarget(host="h", port=1),
    messages.Command(verb="v"),
    messages.Result(),
    messages.Subscription(topics=("t",)),
    messages.Accepted(),
    messages.HttpHead(status=200, headers=()),
    messages.Trailers(headers=()),
    messages.Goodbye(),
    messages.HubHello(hub_id="h", nonce=NONCE, versions=(1, 1), limits=BOUNDS),
    messages.AgentAuth(
        role="cluster",
        instance=INSTANCE,
        epoch=0,
        versions=(1, 1),
        limits=BOUNDS,
        credential=messages.Credential(scheme="bearer", value=b"x"),
    ),
    messages.Welcome(session_id="s", version=1, limits=BOUNDS),
    messages.Refused(code=18),
    messages.SignatureProof(cluster="u", key=NONCE, pins=("p",), signed_at=1, signature=NONCE * 2),
    messages.JoinProof(token=b"t", key=NONCE, pins=("p",), signed_at=1, signature=NONCE * 2),
    messages.Transcript(
        purpose="join",
        hub_id="h",
        nonce=NONCE,
        pins=("p",),
        cluster="u",
        token_sha256=b"d",
        role="cluster",
        instance=INSTANCE,
        epoch=1,
        signed_at=1,
        key=NONCE,
    ),
]


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_required_fields_only(message: messages.Wire) -> None:
    payload = codec.encode(message)
    required = [
        name for name in message.__struct_fields__ if getattr(message, name) not in ("", {}, 0) or name == "epoch"
    ]
    assert list(msgpack.unpackb(payload)) == required
    assert codec.decode(type(message), payload) == message


def test_every_message_has_an_example_and_room_to_grow() -> None:
    assert {type(example) for example in EXAMPLES} == set(codec._TYPES)
    for kind in codec._TYPES:
        assert kind.__struct_fields__[-1] == "ext"


def test_each_kind_has_its_opening() -> None:
    assert set(messages.OPENING_OF_KIND) == set(messages.StreamKind)
