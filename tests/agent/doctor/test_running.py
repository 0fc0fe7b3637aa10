"""The agent beside the doctor: connected, not connected and why, or not there."""

from agent.doctor import running
from agent.health import Listener, Site
from proto.causes import Level
from tests.agent.doctor.test_way import free_port


async def asked(is_connected, text):
    listener = Listener("--health-listen", "127.0.0.1:0", Site({"/readyz": lambda: (is_connected, text)}))
    listener.start()
    try:
        return await running.examine(f"0.0.0.0:{listener.url.rpartition(':')[2]}")
    finally:
        listener.close()


async def test_an_agent_that_is_connected():
    finding = await asked(True, b"connected\n")
    assert (finding.level, finding.what) == (Level.OK, "runs here, connected")


async def test_an_agent_that_is_not_says_why():
    finding = await asked(False, b"the join token was used at noon by another agent. Make a new one\n")
    assert (finding.level, finding.cause) == (Level.FAIL, "agent-unready")
    assert "the join token was used at noon by another agent" in finding.what
    assert "riata agents list" in finding.cure


async def test_no_agent_is_a_warning():
    finding = await running.examine(f"127.0.0.1:{free_port()}")
    assert (finding.level, finding.cause) == (Level.WARN, "agent-none")


async def test_a_port_that_nobody_can_know():
    assert (await running.examine("")).level is Level.OK
    assert (await running.examine("127.0.0.1:0")).level is Level.OK
