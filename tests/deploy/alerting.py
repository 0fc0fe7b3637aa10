"""What the hub's chart gives to Prometheus and Grafana, in the forms that those two read by themselves."""

import copy
from typing import Any

from deploy import dashboard
from deploy.helm import NAMESPACE, render
from tests.deploy import matrix

JOB = "riata-hub-pods"
LABELS = {"namespace": NAMESPACE}
"""What the operator adds to each series of the hub, besides the job."""


def rule_file() -> dict[str, Any]:
    """The alerts as a rule file."""
    documents = render("riata-hub", matrix.values_of("riata-hub", "monitored"))
    (rule,) = (each for each in documents if each["kind"] == "PrometheusRule")
    return {"groups": rule["spec"]["groups"]}


def at_once(rules: dict[str, Any]) -> dict[str, Any]:
    """The same without waiting."""
    found = copy.deepcopy(rules)
    for group in found["groups"]:
        for each in group["rules"]:
            each.pop("for", None)
    return found


def dashboard_queries() -> list[tuple[str, str]]:
    """(title, PromQL) of everything that the dashboard asks, with its variables filled in."""
    filled = {"$namespace": NAMESPACE, "$job": JOB, "$cluster": ".*", "$__rate_interval": "1m"}
    found = []
    for panel in dashboard.dashboard()["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"]
            for name, value in filled.items():
                expression = expression.replace(name, value)
            found.append((panel["title"], expression))
    return found
