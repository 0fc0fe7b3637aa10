"""The agent token's file."""

import os

import pytest

from agent.uplink.credentials import AgentTokenFile, Claims
from agent.uplink.diagnose import ConnectFailed, Step
from proto import limits
from proto.messages import HubHello
from tests.agent.uplink.hub import TOKEN

CLAIMS = Claims("cluster", b"i" * 16, 1, ("sha256:" + "a" * 64,))
HELLO = HubHello(hub_id="h", nonce=b"n" * 32, versions=(1, 1), limits=limits.Limits().offer())


def test_the_file_is_read_for_each_session(tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    credential = AgentTokenFile(path)
    shown = credential.present(HELLO, CLAIMS)
    assert (shown.scheme, shown.value) == ("bearer", TOKEN.encode())
    assert TOKEN not in repr(shown)
    before = credential.mark()
    assert before == credential.mark()
    path.write_text(TOKEN.replace("0", "1"))
    os.utime(path, (1, 1))
    assert credential.mark() != before
    assert credential.present(HELLO, CLAIMS).value == TOKEN.replace("0", "1").encode()


@pytest.mark.parametrize("content", ["", "\n", "riata_abcdefghij_" + "0" * 64, TOKEN[:-1], TOKEN + "x", "x" * 5000])
def test_what_is_no_agent_token_is_explained_and_not_quoted(tmp_path, content):
    path = tmp_path / "token"
    path.write_text(content)
    with pytest.raises(ConnectFailed) as caught:
        AgentTokenFile(path).present(HELLO, CLAIMS)
    assert caught.value.diagnosis.step is Step.CREDENTIAL
    assert caught.value.diagnosis.is_slow
    assert "0" * 60 not in str(caught.value)


def test_a_missing_file(tmp_path):
    credential = AgentTokenFile(tmp_path / "none")
    assert credential.mark() is None
    with pytest.raises(ConnectFailed, match="--token-file"):
        credential.present(HELLO, CLAIMS)
