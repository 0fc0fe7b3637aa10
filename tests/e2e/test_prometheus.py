"""A real Prometheus reads the hub: every panel of the dashboard has something to show, and an alert an agent's end."""

from pathlib import Path
from typing import Any

import pytest

from deploy import dashboard
from tests import harness
from tests.deploy.alerting import JOB, LABELS, at_once, dashboard_queries, rule_file
from tests.e2e.hubapi import HubApi
from tests.e2e.waiting import until
from tests.harness import tools
from tests.harness.prometheus import Prometheus, obstacle, prometheus

pytestmark = [
    pytest.mark.light,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(120),
    pytest.mark.skipif(obstacle() is not None, reason=str(obstacle())),
]

CLUSTER = "watched"
NOTHING_YET = {
    "Refused or broken off",
    "Agents refused",
    "Share without an answer",
    "Clusters that are not connected",
}
"""Panels that show what has gone wrong: nothing has."""


async def shown(prometheus: Prometheus) -> set[str]:
    """Titles of the panels that have something to show."""
    return {title for title, expression in dashboard_queries() if await prometheus.query(expression)}


async def away(prometheus: Prometheus) -> list[dict[str, str]]:
    return [each for each in await prometheus.firing() if each["alertname"] == "RiataClusterNotConnected"]


async def test_it_shows_a_hub_at_work_and_says_when_a_cluster_is_gone(
    light_cluster: harness.Cluster, tmp_path: Path
) -> None:
    titles: set[Any] = {panel.title for _, panels in dashboard.ROWS for panel in panels}
    async with harness.hub() as hub:
        admin = hub.admin_token_file.read_text().strip()
        api = HubApi(hub.url, hub.ca_file, admin, Path(tools.kube("kubectl")), tmp_path, made=[admin])
        token = (await api.mint("tests", user="tess")).token
        await api.grant("tests", user="tess", cluster="*", role="admin")
        rules = at_once(rule_file())
        async with prometheus(tmp_path, hub.metrics_url, job=JOB, labels=LABELS, rules=rules) as watching:
            async with harness.agent(hub, light_cluster, name=CLUSTER):
                entry = api.entry(CLUSTER, token)

                async def all_shown() -> bool:
                    await entry.kubectl("get", "namespaces")
                    return await shown(watching) >= titles - NOTHING_YET

                await until(all_shown, what="every panel has something to show", within=60, every=1)
                assert await watching.firing() == []
                (connected,) = await watching.query('riata_hub_cluster_connected{cluster="watched"}')
                assert connected["value"][1] == "1"

            (alert,) = await until(lambda: away(watching), what="the alert fires", within=20)
            assert alert["cluster"] == CLUSTER
            assert alert["severity"] == "warning"
            assert "Clusters that are not connected" in await shown(watching)
