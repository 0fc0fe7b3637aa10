"""The cluster's rows: complete, and no id twice, also not one of the way to the hub."""

import string

import pytest

from agent import cli
from agent.doctor import causes, cluster, report, running
from proto import causes as way
from proto.causes import Cause


@pytest.mark.parametrize("row", way.rows(vars(causes)), ids=lambda row: row.id)
def test_a_row_is_complete(row: Cause):
    assert row.check in {report.SETTINGS, running.CHECK, cluster.KUBE, cluster.TOKEN, cluster.RBAC}
    assert row.what
    assert row.cure
    fields = {name for _, name, _, _ in string.Formatter().parse(row.what + row.cure) if name}
    assert fields <= {"said", "at", "status", "missing", "of", "profile", "rights", "account", "lease"}


def test_ids_are_unique_over_both_tables():
    way.by_id([*way.rows(vars(way)), *way.rows(vars(causes))])


def test_a_flag_that_a_pod_cannot_be_given_comes_with_its_variable():
    """What the chart gives as an argument the doctor in the pod never hears of."""
    assert cli.variable("--kube-legacy-ca") in causes.KUBE_OTHER_CA.cure
