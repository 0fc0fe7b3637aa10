"""Opening a session: the handshake, and what each way of failing is called."""

import asyncio
import contextlib

import pytest

from agent.uplink import session as module
from agent.uplink.credentials import AgentTokenFile
from agent.uplink.diagnose import ConnectFailed, Diagnosis, Step
from agent.uplink.session import Identity, Opener
from agent.uplink.trust import HubTrust
from agent.uplink.wsclient import open_transport
from proto.aio.tasks import TaskGroup
from proto.aio.transport import pipe
from proto.errors import Code
from proto.handshake import HubHandshake
from proto.limits import Limits
from tests.agent.apiserver import Pki
from tests.agent.uplink.hub import TOKEN, settings, websocket_hub, welcome


async def version():
    return "v1.37.2"


def opener(tmp_path, dial, *, compresses=False, **more):
    hub = settings(Pki(tmp_path), 1, tmp_path, **more)
    return Opener(
        hub,
        Identity(b"i" * 16),
        HubTrust(hub),
        AgentTokenFile(hub.token_file),
        proxy_environment={},
        kubernetes=version,
        compresses=compresses,
        dial=dial,
    )


def piped(group, play):
    """A dial whose far end is played by `play(transport)`."""

    async def dial(hub_settings, context, proxy):
        ours, theirs = pipe()
        group.spawn(play(theirs), name="hub")
        return ours

    return dial


async def test_a_session_is_opened_with_identity_version_and_a_higher_epoch_each_time(tmp_path):
    seen = []

    async def play(transport):
        await welcome(transport, seen=seen)

    async with TaskGroup("test") as group:
        under_test = opener(tmp_path, piped(group, play))
        first = await under_test.open()
        await under_test.open()
        assert first.welcome.cluster == "alpha"
        assert first.proven.hello.hub_id == "hub-1"
        assert [auth.epoch for auth in seen] == [1, 2]
        assert seen[0].instance == b"i" * 16
        assert seen[0].role == "cluster"
        assert seen[0].kubernetes == "v1.37.2"
        assert seen[0].credential.value == TOKEN.encode()


@pytest.mark.parametrize(
    ("code", "step", "is_slow"),
    [(Code.UNAUTHENTICATED, Step.CREDENTIAL, True), (Code.OVERLOADED, Step.SESSION, False)],
)
async def test_a_refusal(tmp_path, code, step, is_slow):
    async def play(transport):
        await welcome(transport, refuse=code)

    async with TaskGroup("test") as group:
        with pytest.raises(ConnectFailed) as caught:
            await opener(tmp_path, piped(group, play)).open()
        diagnosis = caught.value.diagnosis
        assert (diagnosis.step, diagnosis.is_slow, diagnosis.retry_s) == (step, is_slow, 0.5)


async def close(transport):
    await transport.close(1000, "")


async def vanish(transport):
    transport.abort()


async def nonsense(transport):
    await transport.send(b"\x00" * 40)


@pytest.mark.parametrize("play", [close, vanish, nonsense])
async def test_a_hub_that_does_not_shake_hands(tmp_path, play):
    async with TaskGroup("test") as group:
        with pytest.raises(ConnectFailed) as caught:
            await opener(tmp_path, piped(group, play)).open()
        assert caught.value.diagnosis.step is Step.SESSION


async def test_a_hub_that_says_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "HANDSHAKE_TIMEOUT", 0.0)

    async def play(transport):
        await asyncio.Event().wait()

    async with TaskGroup("test") as group:
        with pytest.raises(ConnectFailed, match="in time"):
            await opener(tmp_path, piped(group, play)).open()


async def test_a_hub_of_another_generation_is_named(tmp_path):
    async def play(transport):
        hub = HubHandshake("hub-1", b"n" * 32, Limits(), wire_versions=(8, 9))
        await transport.send(hub.hello())

    async with TaskGroup("test") as group:
        with pytest.raises(ConnectFailed, match="no protocol version in common") as caught:
            await opener(tmp_path, piped(group, play)).open()
    assert caught.value.diagnosis.is_slow


async def test_a_hub_that_would_have_answers_in_tiny_frames_hears_no_credential(tmp_path):
    said = []

    async def play(transport):
        hub = HubHandshake("hub-1", b"n" * 32, Limits(data_bytes=1))
        await transport.send(hub.hello())
        with contextlib.suppress(EOFError):
            said.append(await transport.receive())
        transport.abort()

    async with TaskGroup("test") as group:
        with pytest.raises(ConnectFailed, match="limits below the least") as caught:
            await opener(tmp_path, piped(group, play)).open()
    assert caught.value.diagnosis.step is Step.SESSION
    assert said == []


async def test_no_token_no_word(tmp_path):
    said = []

    async def play(transport):
        await welcome(transport, seen=said)

    async with TaskGroup("test") as group:
        with pytest.raises(ConnectFailed) as caught:
            await opener(tmp_path, piped(group, play), token_file=tmp_path / "none").open()
        assert caught.value.diagnosis.step is Step.CREDENTIAL
        assert said == []


async def test_a_failed_dial_passes_through(tmp_path):
    async def dial(*_):
        raise ConnectFailed(Diagnosis(Step.DNS, "what", "cure"))

    with pytest.raises(ConnectFailed, match="what"):
        await opener(tmp_path, dial).open()


async def test_a_wrong_certificate_is_shown(tmp_path):
    ours, theirs = Pki(tmp_path), Pki(tmp_path, "other")
    theirs.leaf = theirs.ca.issue_cert("localhost", "127.0.0.1", common_name="impostor")

    async def never(connection):
        raise AssertionError("the agent must not come this far")

    async with websocket_hub(theirs, never) as port:
        hub = settings(ours, port, tmp_path)
        under_test = Opener(
            hub,
            Identity(b"i" * 16),
            HubTrust(hub),
            AgentTokenFile(hub.token_file),
            proxy_environment={},
            kubernetes=version,
            dial=open_transport,
        )
        with pytest.raises(ConnectFailed) as caught:
            await under_test.open()
    assert caught.value.diagnosis.step is Step.PIN
    assert caught.value.diagnosis.is_slow
    assert "impostor" in str(caught.value)
    assert "localhost" in str(caught.value)


async def test_compression_is_agreed_with_a_hub_that_speaks_of_it(tmp_path):
    async def play(transport):
        await welcome(transport, compresses=True)

    async with TaskGroup("test") as group:
        for wanted in (True, False):
            opened = await opener(tmp_path, piped(group, play), compresses=wanted).open()
            assert opened.session.compresses is wanted
