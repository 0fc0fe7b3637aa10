"""The caller's own deadline (`?timeout=`, as kubectl --request-timeout sends it) bounds what the hub does for it."""

import asyncio
import signal

import pytest

from tests import harness
from tests.faults import figures
from tests.faults.rig import Answer, fault_cluster

pytestmark = [pytest.mark.alone, pytest.mark.timeout(180)]

DEADLINE_S = 1.0
LATE_S = 0.5
"""By how much later than the deadline the hub may answer: a look each tenth of a second, and time for the API server's
own answer to arrive."""


async def test_nothing_is_tried_or_sent_after_the_callers_deadline() -> None:
    seed = figures.seed()
    async with (
        harness.hub() as hub,
        fault_cluster(hub, "deadline", seed=seed) as cluster,
        cluster.replica("main") as main,
        cluster.client() as client,
    ):
        cluster.stub.hangs = True
        read, change = await asyncio.gather(
            client.ask("GET", "id=read&timeout=1s"), client.ask("POST", "id=change&timeout=1s", body=b"{}")
        )
        cluster.stub.hangs = False
        main.send(signal.SIGSTOP)
        try:
            await asyncio.sleep(2.5)  # nobody knows whether it lives: changes wait for a sign of life
            held = await client.ask("POST", "id=held&timeout=1s", body=b"{}")
        finally:
            main.send(signal.SIGCONT)
        after = await client.ask("GET", "id=after&size=1000")
        assert after.is_whole(1000), after
    answers = {"read": read, "change": change, "held": held}
    figures.show("D1", seed, **{f"{name}_s": answer.seconds for name, answer in answers.items()})
    for name, answer in answers.items():
        assert is_in_time(answer), (name, answer)
    assert "outcome unknown" not in read.text
    assert "outcome unknown" in change.text
    assert "it was not executed" in held.text
    assert cluster.stub.executed["held"] == 0


def is_in_time(answer: Answer) -> bool:
    """A Status 504 that no client repeats, soon after the deadline."""
    is_status = answer.status == 504 and '"reason":"Timeout"' in answer.text and "Retry-After" not in answer.headers
    return is_status and DEADLINE_S <= answer.seconds <= DEADLINE_S + LATE_S * figures.room()
