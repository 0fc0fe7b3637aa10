"""docs/operate/troubleshoot.md has every finding of both doctors, and what it quotes is what the programs say."""

from agent.doctor import causes as cluster_side
from ctl.doctor import causes as operator_side
from hub import status
from hub.errors import NO_CLUSTER
from proto import causes
from proto.causes import Step
from proto.errors import Code
from tests.docs import render_troubleshoot
from tests.docs.render_troubleshoot import PAGE

TEXT = PAGE.read_text()


def test_the_findings_are_what_the_code_has() -> None:
    assert render_troubleshoot.render(TEXT) == TEXT, "run: python -m tests.docs.render_troubleshoot"


def test_every_finding_is_on_the_page() -> None:
    every = [row for module in (causes, cluster_side, operator_side) for row in causes.rows(vars(module))]
    assert len(causes.by_id(every)) > 50
    assert [row.id for row in every if f"| `{row.id}`" not in TEXT] == []


def test_every_step_is_explained() -> None:
    section = TEXT.split("## What the agent's log")[1].split("\n## ")[0]
    assert [step for step in Step if f"`{step.value}`" not in section] == []


def test_what_it_quotes_of_the_hub_is_what_the_hub_says() -> None:
    fate = status.Fate(is_mutation=True, is_delivered=True, is_recent_loss=False)
    for said in (
        status.no_tunnel("X", is_recent_loss=False).message.replace("'", '"'),
        status.stream_lost(Code.SESSION_LOST, fate).message,
        status.stream_lost(Code.KUBE_UNAUTHORIZED, fate).message,
        status.stream_lost(Code.FORBIDDEN, fate).message,
        status.deadline_passed(is_mutation=True, is_delivered=False).message,
        status.deadline_passed(is_mutation=False, is_delivered=True).message,
        NO_CLUSTER,
    ):
        assert said in TEXT, said


def test_its_links_lead_somewhere() -> None:
    for target in ("../reference/agent.md", "../reference/config.md", "join.md"):
        assert target in TEXT
        assert (PAGE.parent / target).is_file()
