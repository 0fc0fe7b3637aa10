"""The dashboard: made from the list of its panels, of metrics that there are, and laid out so that nothing overlaps."""

import json
import re

from prometheus_client import ProcessCollector

from deploy import dashboard
from deploy.helm import ROOT, render
from hub import reference
from tests.deploy import matrix

PANELS = dashboard.dashboard()["panels"]
SUFFIXES = ("_bucket", "_count", "_sum", "")


def asked() -> list[str]:
    return [target["expr"] for panel in PANELS for target in panel.get("targets", ())]


def test_the_chart_has_it_as_it_is_made() -> None:
    assert (ROOT / dashboard.FILE).read_text() == dashboard.text()
    documents = render("riata-hub", matrix.values_of("riata-hub", "monitored"), release="berlin")
    (found,) = (each for each in documents if each["metadata"]["name"] == "berlin-riata-hub-dashboard")
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["labels"]["team"] == "platform"
    assert json.loads(found["data"]["riata-hub.json"]) == dashboard.dashboard()


def test_it_is_made_only_when_asked_for() -> None:
    names = {each["metadata"]["name"] for each in render("riata-hub", matrix.values_of("riata-hub", "default"))}
    assert "riata-hub-dashboard" not in names


def test_it_asks_for_metrics_that_there_are_with_labels_that_they_have() -> None:
    known = {name: set(labels) for name, _, labels, _ in reference.metrics()}
    known |= {family.name: set() for family in ProcessCollector(registry=None).collect()}
    known["process_cpu_seconds_total"] = set()
    for expression in asked():
        grouped = {label for by in re.findall(r"by \((.*?)\)", expression) for label in by.split(", ")}
        selected = re.findall(r"(\w+)\{(.*?)\}", expression)
        assert selected, expression
        for series, selector in selected:
            names = [series.removesuffix(suffix) for suffix in SUFFIXES]
            (name,) = {each for each in names if each in known}
            labels = known[name] | {"le", "namespace", "job"}
            assert grouped | set(re.findall(r"(\w+)!?[=~]", selector)) <= labels, expression
            assert selector.startswith(dashboard.HUB)


def test_legends_have_the_labels_that_are_left() -> None:
    for panel in PANELS:
        for target in panel.get("targets", ()):
            labels = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            grouped = {label for by in re.findall(r"by \((.*?)\)", target["expr"]) for label in by.split(", ")}
            assert labels == grouped - {"le"} or panel["type"] == "table", panel["title"]


def test_what_is_a_share_is_a_quotient() -> None:
    """A sum over sessions, seconds a second, passes 100 % when two senders wait."""
    for panel in PANELS:
        if panel["type"] != "row" and panel["fieldConfig"]["defaults"]["unit"] == "percentunit":
            assert all(" / " in target["expr"] for target in panel["targets"]), panel["title"]


def test_panels_have_numbers_of_their_own_and_places_of_their_own() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= dashboard.WIDTH
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["description"]
