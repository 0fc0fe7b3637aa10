"""The verbs: exact arguments, and nothing in them that could name somebody else."""

import pytest

from proto import codec, commands
from proto.commands import (
    VERBS,
    CaLearnt,
    Fields,
    KeyProof,
    LearnCa,
    NodesMissing,
    Nothing,
    PresentToken,
    ProveKey,
    RegisterIssuer,
    RegisterNodes,
    RegisterPods,
    RenewToken,
    ReplaceKey,
    TellNodes,
    TellVersion,
)
from proto.errors import Code, StreamReset
from proto.messages import Command

PIN = "sha256:" + "a" * 64
EXAMPLES: list[Fields] = [
    Nothing(),
    ReplaceKey(key="a" * 64, pins=(PIN,), signed_at=1, signature="b" * 128, old_signature="c" * 128),
    ProveKey(key="a" * 64),
    RegisterIssuer(issuer="https://kubernetes.default.svc", jwks="{}", subjects=("system:serviceaccount:a:b",)),
    RegisterPods(part=0, parts=1, pods=("0000-1 node-1",)),
    RegisterNodes(total=1, tags=("0" * 16,)),
    NodesMissing(parts=(0, 255)),
    TellNodes(
        part=0, tag="0" * 16, names=("n",), roles=("",), kubelets=("v1",), systems=("",), kernels=("",),
        architectures=("",), addresses=("",), zones=("",), ready=(True,), fallback=(False,),
    ),
    PresentToken(token="a.b.c"),
    TellVersion(kubernetes="v1.37.2+k3s1"),
    RenewToken(at=(3,), texts=("b",), signature="c"),
    LearnCa(ca="-----BEGIN", pins=(PIN,)),
    CaLearnt(pins=(PIN, PIN), keeps=True),
    KeyProof(pins=(PIN, PIN), signed_at=1, signature="b" * 128),
]  # fmt: skip


@pytest.mark.parametrize("fields", EXAMPLES, ids=lambda fields: type(fields).__name__)
def test_arguments_travel_and_come_back(fields: Fields) -> None:
    sent = Command(verb="v", args=commands.to_ext(fields))
    received = codec.decode(Command, codec.encode(sent))
    assert commands.from_ext(type(fields), received.args) == fields


def test_every_shape_has_an_example() -> None:
    used = {shape for verb in VERBS.values() for shape in (verb.args, verb.result)}
    assert used == {type(example) for example in EXAMPLES}
    assert all(verb.by in {"hub", "agent"} and verb.name == name for name, verb in VERBS.items())


def test_no_verb_can_name_a_cluster_a_node_or_an_agent() -> None:
    """F1 by construction: who is concerned is the session's. A field that could say otherwise fails here."""
    for verb in VERBS.values():
        for shape in (verb.args, verb.result):
            assert not {"cluster", "cluster_uid", "uid", "agent", "id", "node", "credential"} & set(
                shape.__struct_fields__
            )


def test_the_longest_arguments_fit_into_a_command() -> None:
    pods = tuple("u" * 36 + " " + "n" * 263 for _ in range(commands.PODS_MAX))
    issuer = RegisterIssuer(issuer="i" * 2048, jwks="j" * 40_000, subjects=("s" * 512,) * 8)
    learn = LearnCa(ca="c" * commands.CA_MAX, pins=(PIN,) * commands.ACCEPTED_MAX)
    for fields in (RegisterPods(part=255, parts=256, pods=pods), issuer, PresentToken(token="t" * 16_384), learn):
        codec.encode(Command(verb="register-issuer", args=commands.to_ext(fields)))


@pytest.mark.parametrize(
    "change",
    [{"key": "A" * 64}, {"key": "a" * 63}, {"key": 1}, {"pins": []}, {"pins": [PIN] * 3}, {"signed_at": -1}, {"x": 1}],
)
def test_anything_else_is_refused_without_being_quoted(change: dict[str, object]) -> None:
    good = commands.to_ext(EXAMPLES[1])
    with pytest.raises(StreamReset) as caught:
        commands.from_ext(ReplaceKey, {**good, **change})  # type: ignore[dict-item]
    assert (caught.value.code, caught.value.text) == (Code.PROTOCOL, "malformed ReplaceKey")
    del good["key"]
    with pytest.raises(StreamReset):
        commands.from_ext(ReplaceKey, good)
