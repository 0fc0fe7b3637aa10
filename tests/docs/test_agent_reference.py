"""docs/reference/agent.md says what the agent does: flags, defaults, metrics, steps, exit codes, limits."""

import re
from pathlib import Path

from agent import app, cli
from agent.config import DRAIN_GRACE
from agent.counts import Counts
from agent.metrics import registry, render
from agent.relay.pool import MUTATION_IDLE_MAX, PoolLimits
from agent.uplink.diagnose import Step
from agent.uplink.session import SEND_QUEUE_BYTES
from proto.compression import Histories

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "agent.md").read_text()


def rows(heading):
    """First cells of the table under a heading."""
    section = re.split(r"^#+ ", PAGE.split(f"# {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    return [
        line.split("|")[1].strip(" `")
        for line in section.splitlines()
        if line.startswith("| `") or line[:3] in {"| 0", "| 1", "| 2"}
    ]


class Pool:
    open_connections = idle_connections = waiting = 0


def test_flags_and_variables():
    known = [flag for flag, _, _ in cli.FLAGS] + [flag for flag, _ in cli.SWITCHES]
    assert rows("Settings") == known
    for flag in known:
        assert f"| `{flag}` | `{cli.variable(flag)}` |" in PAGE
    for flag, value in (("--health-listen", "127.0.0.1:8081"), ("--metrics-listen", "127.0.0.1:9081")):
        assert f"| `{flag}` | `{cli.variable(flag)}` | `{value}` |" in PAGE


def test_metrics():
    text = render(registry(Counts(), Pool(), Histories(0), lambda: 0)).decode()
    types = dict(line.split()[2:4] for line in text.splitlines() if line.startswith("# TYPE riata_"))
    assert rows("Metrics") == list(types)
    for name, kind in types.items():
        assert f"| `{name}` | {kind} |" in PAGE


def test_steps():
    assert set(rows("What happens when the hub cannot be reached")) == {step.value for step in Step}


def test_exit_codes():
    assert rows("Exit codes") == [str(app.EXIT_OK), str(app.EXIT_FAILED), str(cli.EXIT_USAGE)]


def test_numbers():
    limits = PoolLimits()
    assert f"| {limits.connections}, {limits.dials} dials at a time, {limits.dial_timeout:g} s each |" in PAGE
    assert f"| {limits.queue}, {limits.queue_timeout:g} s each; beyond: `REFUSED`, " in PAGE
    assert f"| {limits.idle_connections}, {limits.idle_timeout:g} s; " in PAGE
    assert f"idle for more than {MUTATION_IDLE_MAX:g} s" in PAGE
    assert f"| {SEND_QUEUE_BYTES // 1024} KiB a stream" in PAGE
    assert f"| `RIATA_AGENT_DRAIN_GRACE` | {DRAIN_GRACE:g} |" in PAGE
    assert f"503 after {app.BEAT_MAX:g} s without" in PAGE
