"""Bytes of earlier wire versions are understood as they were then."""

import pytest

from proto import messages
from proto.frames import FrameType
from proto.messages import Refused
from tests.proto import recording
from tests.proto.recording import DIRECTORY, Stage

FILES = sorted(DIRECTORY.glob("v*.hex"))


def expected(name: str, side: str) -> list[str]:
    return (DIRECTORY / f"{name}.{side}.txt").read_text().splitlines()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("live", ["hub", "agent"])
def test_each_side_understands_the_recorded_other(path: object, live: str) -> None:
    assert isinstance(path, type(DIRECTORY))
    stage = Stage(recording.parse(path.read_text()), live)
    recording.converse(stage)
    side = stage.hub if live == "hub" else stage.agent
    assert recording.transcript(side) == expected(path.stem, live)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_recorded_handshake_opens_a_session(path: object) -> None:
    assert isinstance(path, type(DIRECTORY))
    said = [message for _, message in recording.parse(path.read_text())["handshake"]]
    hub, agent = recording.handshake()
    agent.receive_hello(said[0])
    agent.auth(messages.Credential(scheme="bearer", value=b"x"))
    welcome = agent.receive_answer(said[2])
    assert not isinstance(welcome, Refused)
    hub.hello()
    auth = hub.receive(said[1])
    assert (auth.role, auth.epoch, auth.kubernetes) == ("cluster", 7, "v1.37.2")
    assert auth.credential.value == b"riataagent_example_secret"
    assert hub.negotiated == agent.negotiated


def test_the_conversation_leaves_no_frame_type_out() -> None:
    found = recording.frame_types(recording.parse((DIRECTORY / "v1.hex").read_text()))
    assert found == set(FrameType) - {FrameType.REFUSED}


def test_this_version_still_says_what_was_recorded() -> None:
    """Drop this test, and record a new version, when the wire changes on purpose."""
    stage = Stage()
    recording.converse(stage)
    assert list(recording.render(stage.steps)) == (DIRECTORY / "v1.hex").read_text().splitlines()
