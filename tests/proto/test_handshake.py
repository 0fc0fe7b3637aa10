import msgspec
import pytest

from proto import codec, errors, frames, limits, messages
from proto.errors import Code
from proto.frames import FrameType
from proto.handshake import CONTROL_PLANE, AgentHandshake, HubHandshake, TrialNotOffered
from proto.limits import Limits
from proto.transitions import SessionState
from tests.proto.pair import INSTANCE, NONCE, shake

BEARER = messages.Credential(scheme="bearer", value=b"riataagent_x_y")


def peers(
    hub_versions: tuple[int, int] = (1, 1), agent_versions: tuple[int, int] = (1, 1)
) -> tuple[HubHandshake, AgentHandshake]:
    return (
        HubHandshake("hub-1", NONCE, Limits(), wire_versions=hub_versions),
        AgentHandshake("node", INSTANCE, 7, Limits(streams=100), node="n1", wire_versions=agent_versions),
    )


def test_the_whole_exchange() -> None:
    hub, agent = peers()
    hello = agent.receive_hello(hub.hello())
    assert (hello.hub_id, hello.nonce) == ("hub-1", NONCE)
    auth = hub.receive(agent.auth(BEARER))
    assert (auth.role, auth.node, auth.instance, auth.epoch, auth.credential) == ("node", "n1", INSTANCE, 7, BEARER)
    welcome = agent.receive_answer(hub.welcome(hub.make_welcome("s1", "prod")))
    assert isinstance(welcome, messages.Welcome)
    assert (welcome.session_id, welcome.cluster, welcome.version) == ("s1", "prod", 1)
    assert hub.negotiated == agent.negotiated
    assert hub.negotiated.limits.streams == 100
    assert hub.state is agent.state is SessionState.OPEN


def test_both_sides_take_the_smaller_limit() -> None:
    one, two = shake(Limits(data_bytes=1000), Limits(open_backlog=7, window_bytes=5000))
    assert one == two
    assert (one.limits.data, one.limits.backlog, one.limits.window) == (1000, 7, 5000)


def test_a_refusal_ends_it_before_and_after_auth() -> None:
    for step in range(2):
        hub, agent = peers()
        agent.receive_hello(hub.hello())
        if step:
            hub.receive(agent.auth(BEARER))
        answer = agent.receive_answer(hub.refuse(messages.Refused(code=Code.UNAUTHENTICATED, text="no", retry_ms=5)))
        assert answer == messages.Refused(code=Code.UNAUTHENTICATED, text="no", retry_ms=5)
        assert hub.state is agent.state is SessionState.CLOSED


def test_versions_that_do_not_meet_are_a_version_mismatch() -> None:
    hub, agent = peers((3, 4), (1, 2))
    with pytest.raises(errors.VersionMismatch) as caught:
        agent.receive_hello(hub.hello())
    assert caught.value.code is Code.VERSION


def test_the_hub_negotiates_the_newest_common_version() -> None:
    hub, agent = peers((1, 3), (2, 5))
    agent.receive_hello(hub.hello())
    hub.receive(agent.auth(BEARER))
    assert hub.negotiated.version == 3
    agent.receive_answer(hub.welcome(hub.make_welcome("s", "c")))
    assert agent.negotiated.version == 3


def test_an_agent_that_lies_about_versions_is_refused_with_a_code() -> None:
    hub, agent = peers((2, 2), (2, 2))
    agent.receive_hello(hub.hello())
    agent._versions = (1, 1)
    with pytest.raises(errors.VersionMismatch):
        hub.receive(agent.auth(BEARER))
    hub.refuse(messages.Refused(code=Code.VERSION))


@pytest.mark.parametrize("change", [{"version": 2}, {"limits": Limits(streams=4).offer()}])
def test_a_welcome_that_nobody_offered_is_refused(change: dict[str, object]) -> None:
    hub, agent = peers()
    agent.receive_hello(hub.hello())
    hub.receive(agent.auth(BEARER))
    good = hub.make_welcome("s", "c")
    fields = {"session_id": "s", "cluster": "c", "version": good.version, "limits": good.limits, **change}
    bad = messages.Welcome(**fields)  # type: ignore[arg-type] # built from a parametrised map
    with pytest.raises(errors.UsageError):
        hub.welcome(bad)
    with pytest.raises(errors.ProtocolError):
        agent.receive_answer(frames.encode(FrameType.WELCOME, 0, 0, codec.encode(bad)))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"x",
        bytes(limits.HANDSHAKE_MAX_BYTES + 1),
        frames.encode(FrameType.DATA, 0, 1, b"x"),
        frames.encode(FrameType.OPEN, 0, 1, b"x"),
        frames.encode(FrameType.HELLO, 0, 0, b"\x80"),
        frames.encode(FrameType.AUTH, 0, 0, b"\x80"),
        frames.encode(FrameType.AUTH, 1, 0, b"\x80"),
        frames.encode(FrameType.AUTH, 0, 2, b"\x80"),
        frames.encode(0x80, 0, 0, b""),
        frames.encode(0x80, 0, 0, b"") * 2,
    ],
)
def test_nothing_but_the_next_message_is_understood(message: bytes) -> None:
    hub, agent = peers()
    hub.hello()
    with pytest.raises(errors.ProtocolError):
        hub.receive(message)
    with pytest.raises(errors.ProtocolError):
        agent.receive_hello(message)


def test_no_step_is_taken_twice_or_early() -> None:
    hub, agent = peers()
    with pytest.raises(errors.UsageError):
        hub.make_welcome("s", "c")
    with pytest.raises(errors.UsageError):
        agent.auth(BEARER)
    with pytest.raises(errors.UsageError):
        hub.refuse(messages.Refused(code=Code.INTERNAL))
    hello = hub.hello()
    with pytest.raises(errors.UsageError):
        hub.hello()
    agent.receive_hello(hello)
    with pytest.raises(errors.ProtocolError):
        agent.receive_hello(hello)
    auth = agent.auth(BEARER)
    hub.receive(auth)
    with pytest.raises(errors.ProtocolError):
        hub.receive(auth)
    with pytest.raises(errors.ProtocolError):
        agent.receive_answer(hello)


@pytest.mark.parametrize(
    "change",
    [{"role": "hub"}, {"role": "cluster\n"}, {"instance": b"short"}, {"epoch": -1}, {"epoch": 2**63}, {"nonce": b""}],
)
def test_fields_of_auth_are_exact(change: dict[str, object]) -> None:
    fields: dict[str, object] = {
        "role": "cluster",
        "instance": INSTANCE,
        "epoch": 1,
        "versions": (1, 1),
        "limits": Limits().offer(),
        "credential": BEARER,
    }
    hub, _ = peers()
    hub.hello()
    plain = msgspec.msgpack.encode(fields | change)
    with pytest.raises(errors.ProtocolError):
        hub.receive(frames.encode(FrameType.AUTH, 0, 0, plain))


def test_a_credential_does_not_show_its_value() -> None:
    assert "riataagent" not in repr(BEARER)
    assert "riataagent" not in repr(
        messages.AgentAuth(
            role="cluster", instance=INSTANCE, epoch=1, versions=(1, 1), limits=Limits().offer(), credential=BEARER
        )
    )


@pytest.mark.parametrize(
    ("said", "understood"),
    [({}, 20.0), ({"pings": 300}, 300.0), ({"pings": 0}, 20.0), ({"pings": -5}, 20.0), ({"pings": "many"}, 20.0),
     ({"pings": True}, 20.0), ({"later": 1}, 20.0)],
)  # fmt: skip
def test_what_the_other_side_bears_of_pings(said: messages.Ext, understood: float) -> None:
    hub = HubHandshake("hub-1", NONCE, Limits())
    agent = AgentHandshake("cluster", INSTANCE, 1, Limits())
    hello = codec.decode(messages.HubHello, frames.split(hub.hello())[0][3])
    assert hello.ext == {"pings": 200}
    agent.receive_hello(frames.encode(FrameType.HELLO, 0, 0, codec.encode(msgspec.structs.replace(hello, ext=said))))
    auth = codec.decode(messages.AgentAuth, frames.split(agent.auth(BEARER))[0][3])
    assert auth.ext == {"pings": 200}
    hub.receive(frames.encode(FrameType.AUTH, 0, 0, codec.encode(msgspec.structs.replace(auth, ext=said))))
    agent.receive_answer(hub.welcome(hub.make_welcome("session-1", "demo")))
    assert hub.negotiated.pings_per_s == agent.negotiated.pings_per_s == understood


def test_the_first_versions_figure_is_not_said() -> None:
    hub = HubHandshake("hub-1", NONCE, Limits(ping_per_s=20.0))
    assert codec.decode(messages.HubHello, frames.split(hub.hello())[0][3]).ext == {}


@pytest.mark.parametrize("is_trial", [False, True])
def test_a_trial_is_asked_of_a_hub_that_offers_it(is_trial: bool) -> None:
    hub = HubHandshake("hub-1", NONCE, Limits(), tries=True)
    agent = AgentHandshake("node", INSTANCE, 1, Limits(), is_trial=is_trial)
    assert agent.receive_hello(hub.hello()).ext == {"pings": 200, "trial": True}
    hub.receive(agent.auth(BEARER))
    assert hub.is_trial is is_trial


@pytest.mark.parametrize("is_control_plane", [False, True])
def test_an_agent_says_whether_its_node_is_one_of_the_control_plane(is_control_plane: bool) -> None:
    hub = HubHandshake("hub-1", NONCE, Limits())
    agent = AgentHandshake("node", INSTANCE, 1, Limits(), is_control_plane=is_control_plane)
    agent.receive_hello(hub.hello())
    assert hub.receive(agent.auth(BEARER)).ext.get(CONTROL_PLANE, False) is is_control_plane


def test_a_hub_that_would_take_a_trial_for_a_session_is_told_nothing() -> None:
    hub, agent = HubHandshake("hub-1", NONCE, Limits()), AgentHandshake("node", INSTANCE, 1, Limits(), is_trial=True)
    with pytest.raises(TrialNotOffered, match="older than the trial"):
        agent.receive_hello(hub.hello())


@pytest.mark.parametrize(("hub_wants", "agent_wants"), [(False, False), (False, True), (True, False), (True, True)])
def test_bodies_are_compressed_only_where_both_sides_want_it(hub_wants: bool, agent_wants: bool) -> None:
    """A side that does not know of it says nothing, and gets what it always got."""
    hub = HubHandshake("hub-1", NONCE, Limits(), compresses=hub_wants)
    agent = AgentHandshake("cluster", INSTANCE, 1, Limits(), compresses=agent_wants)
    hello = agent.receive_hello(hub.hello())
    auth = hub.receive(agent.auth(BEARER))
    agent.receive_answer(hub.welcome(hub.make_welcome("s", "c")))
    assert hello.ext == {"pings": 200} | ({"zstd": 1} if hub_wants else {})
    assert auth.ext == {"pings": 200} | ({"zstd": 1} if hub_wants and agent_wants else {})
    assert hub.negotiated == agent.negotiated
    assert hub.negotiated.compresses is (hub_wants and agent_wants)
