"""The alerts, by promtool: what fires when, over hours that pass in no time."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.alerting import JOB, LABELS, dashboard_queries, rule_file
from tests.harness.prometheus import obstacle, promtool

pytestmark = [pytest.mark.asyncio, pytest.mark.skipif(obstacle() is not None, reason=str(obstacle()))]


def series(name: str, values: str, **labels: str) -> dict[str, str]:
    """One of the hub's, a value a minute (`1x10`: eleven times 1)."""
    text = ", ".join(f'{key}="{value}"' for key, value in (LABELS | {"job": JOB} | labels).items())
    return {"series": f"{name}{{{text}}}", "values": values}


def fires(alert: str, at: str, *wanted: dict[str, str]) -> dict[str, Any]:
    """`wanted`: the labels of each that fires, but for those of the hub."""
    return {"alertname": alert, "eval_time": at, "exp_alerts": [{"exp_labels": each} for each in wanted]}


UP = series("up", "1x60")
AWAY = {"severity": "warning", "cluster": "oslo", "job": JOB, **LABELS}
FAIL = {"severity": "warning", "cluster": "oslo"}
OVER = {"severity": "critical", "job": JOB, **LABELS}
ENDED = {"severity": "warning", "job": JOB, **LABELS}
END = "riata_hub_certificate_end_timestamp_seconds"
DAY = 86_400

CASES: dict[str, tuple[list[dict[str, str]], list[dict[str, Any]]]] = {
    "a quiet hub": (
        [
            UP,
            series("riata_hub_cluster_connected", "1x60", cluster="oslo"),
            series("riata_hub_requests_total", "0+60x60", cluster="oslo", verb="get", code="200"),
            series("riata_hub_worker_restarts_total", "0x60"),
            series(END, f"{60 * DAY}x60", of="hub"),
            series(END, f"{60 * DAY}x60", of="ca"),
        ],
        [
            fires(each, "30m")
            for each in (
                "RiataHubDown",
                "RiataClusterNotConnected",
                "RiataRequestsFail",
                "RiataHubWorkersEnd",
                "RiataHubCertificateEnds",
                "RiataHubCaEnds",
            )
        ],
    ),
    "a hub that is gone": (
        [series("up", "1x9 0x20"), series("riata_hub_cluster_connected", "1x9", cluster="oslo")],
        [
            fires("RiataHubDown", "12m"),
            fires("RiataHubDown", "16m", OVER),
            fires("RiataClusterNotConnected", "20m"),
        ],
    ),
    "a hub that was never there": ([], [fires("RiataHubDown", "4m"), fires("RiataHubDown", "6m", OVER)]),
    "another hub's life": (
        [series("up", "1x60", namespace="elsewhere")],
        [fires("RiataHubDown", "6m", OVER)],
    ),
    "a cluster away": (
        [
            UP,
            series("riata_hub_cluster_connected", "1x9 0x20 1x20", cluster="oslo"),
            series("riata_hub_cluster_connected", "1x60", cluster="bergen"),
        ],
        [
            fires("RiataClusterNotConnected", "14m"),
            fires("RiataClusterNotConnected", "16m", AWAY),
            fires("RiataClusterNotConnected", "35m"),
        ],
    ),
    "a fifth fails": (
        [
            UP,
            series("riata_hub_cluster_connected", "1x60", cluster="oslo"),
            series("riata_hub_requests_total", "0+80x60", cluster="oslo", verb="get", code="200"),
            series("riata_hub_requests_total", "0+20x60", cluster="oslo", verb="get", code="503"),
            series("riata_hub_requests_unanswered_total", "0+20x60", cluster="oslo"),
        ],
        [fires("RiataRequestsFail", "5m"), fires("RiataRequestsFail", "20m", FAIL)],
    ),
    "a pod behind …/proxy is down: all its users get 503, the cluster is well": (
        [
            UP,
            series("riata_hub_cluster_connected", "1x60", cluster="oslo"),
            series("riata_hub_requests_total", "0+60x60", cluster="oslo", verb="proxy", code="503"),
            series("riata_hub_requests_total", "0+40x60", cluster="oslo", verb="get", code="200"),
            series("riata_hub_requests_unanswered_total", "0+1x60", cluster="oslo"),
        ],
        [fires("RiataRequestsFail", "30m")],
    ),
    "an API server that hangs, and clients that ask again": (
        [
            UP,
            series("riata_hub_cluster_connected", "1x60", cluster="oslo"),
            series("riata_hub_requests_total", "0+480x60", cluster="oslo", verb="get", code="504"),
            series("riata_hub_requests_unanswered_total", "0+480x60", cluster="oslo"),
            series("riata_hub_requests_total", "0+6000x60", cluster="oslo", verb="get", code="429"),
            series("riata_hub_requests_total", "0+600x60", cluster="oslo", verb="get", code="499"),
        ],
        [fires("RiataRequestsFail", "20m", FAIL)],
    ),
    "one in twenty fails, and no other code is a failure": (
        [
            UP,
            series("riata_hub_cluster_connected", "1x60", cluster="oslo"),
            series("riata_hub_requests_total", "0+55x60", cluster="oslo", verb="get", code="200"),
            series("riata_hub_requests_total", "0+40x60", cluster="oslo", verb="get", code="404"),
            series("riata_hub_requests_total", "0+5x60", cluster="oslo", verb="get", code="504"),
            series("riata_hub_requests_unanswered_total", "0+5x60", cluster="oslo"),
        ],
        [fires("RiataRequestsFail", "30m")],
    ),
    "what fails because the cluster is away is told once": (
        [
            UP,
            series("riata_hub_cluster_connected", "0x60", cluster="oslo"),
            series("riata_hub_requests_total", "0+20x60", cluster="oslo", verb="get", code="503"),
            series("riata_hub_requests_unanswered_total", "0+20x60", cluster="oslo"),
        ],
        [fires("RiataRequestsFail", "30m"), fires("RiataClusterNotConnected", "30m", AWAY)],
    ),
    "workers that end again and again": (
        [UP, series("riata_hub_worker_restarts_total", "0x9 1 2 3 4 5x40")],
        [
            fires("RiataHubWorkersEnd", "9m"),
            fires("RiataHubWorkersEnd", "14m", ENDED),
            fires("RiataHubWorkersEnd", "40m"),
        ],
    ),
    "one worker that ended": (
        [UP, series("riata_hub_worker_restarts_total", "0x9 1x40")],
        [fires("RiataHubWorkersEnd", "12m")],
    ),
    "a certificate that is not replaced before its last three days": (
        [UP, series(END, f"{3 * DAY + 600}x20 {90 * DAY}x40", of="hub"), series(END, f"{90 * DAY}x60", of="ca")],
        [
            fires("RiataHubCertificateEnds", "9m"),
            fires("RiataHubCertificateEnds", "11m", OVER | {"of": "hub"}),
            fires("RiataHubCertificateEnds", "25m"),
            fires("RiataHubCaEnds", "25m"),
        ],
    ),
    "a certificate that has ended": (
        [UP, series(END, "300x60", of="hub")],
        [fires("RiataHubCertificateEnds", "30m", OVER | {"of": "hub"}), fires("RiataHubCaEnds", "30m")],
    ),
    "a CA in its last four weeks, and its rotation": (
        [UP, series(END, f"{90 * DAY}x60", of="hub"), series(END, f"{28 * DAY + 600}x20 {3650 * DAY}x40", of="ca")],
        [
            fires("RiataHubCaEnds", "9m"),
            fires("RiataHubCaEnds", "11m", ENDED | {"of": "ca"}),
            fires("RiataHubCaEnds", "25m"),
            fires("RiataHubCertificateEnds", "11m"),
        ],
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_an_alert_fires_when_it_should_and_not_before(case: str, tmp_path: Path) -> None:
    given, wanted = CASES[case]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(_labels_only(rule_file())))
    tests = [{"interval": "1m", "input_series": given, "alert_rule_test": wanted}]
    asked = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "case.yml").write_text(yaml.safe_dump(asked))
    done = await promtool("test", "rules", tmp_path / "case.yml")
    assert done.rc == 0, done.stdout + done.stderr


def _labels_only(rules: dict[str, Any]) -> dict[str, Any]:
    """Without what they say, which would have to be said again."""
    for group in rules["groups"]:
        for each in group["rules"]:
            del each["annotations"]
    return rules


async def test_prometheus_understands_what_the_alerts_say(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(json.dumps(rule_file()))
    done = await promtool("check", "rules", tmp_path / "rules.yml")
    assert done.rc == 0, done.stdout + done.stderr
    assert "6 rules found" in done.stdout


async def test_prometheus_understands_what_the_dashboard_asks(tmp_path: Path) -> None:
    rules = [{"record": f"ask:{at}", "expr": expression} for at, (_, expression) in enumerate(dashboard_queries())]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = await promtool("check", "rules", "--lint=none", tmp_path / "rules.yml")
    assert done.rc == 0, done.stdout + done.stderr
