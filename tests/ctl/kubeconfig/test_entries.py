"""The entries that riata owns."""

import pytest

from ctl.kubeconfig import entries

TOKEN = "riata_abcdefghij_" + "0" * 64


def test_entries_of_two_clusters() -> None:
    made = entries.document(entries.build("https://h/x", "PEM", TOKEN, ["a", "b"], "riata"), "riata-a")
    assert made["clusters"][1] == {
        "cluster": {"certificate-authority-data": "UEVN", "server": "https://h/x/k8s/clusters/b"},
        "name": "riata-b",
    }
    assert made["users"][0] == {"user": {"token": TOKEN}, "name": "riata-a"}
    assert made["contexts"][0] == {"context": {"cluster": "riata-a", "user": "riata-a"}, "name": "riata-a"}
    assert made["current-context"] == "riata-a"


def test_without_a_ca_of_ones_own_the_system_decides() -> None:
    assert entries.build("https://h", "", TOKEN, ["a"], "riata")[0].body == {"server": "https://h/k8s/clusters/a"}


@pytest.mark.parametrize(
    ("token", "found"),
    [(TOKEN, "abcdefghij"), ("riataagent_a_00", None), ("x", None), (None, None), (TOKEN + "\n", None)],
)
def test_ids_of_tokens(token: object, found: str | None) -> None:
    assert entries.token_id(token) == found


def test_a_token_is_in_no_representation() -> None:
    assert TOKEN not in repr(entries.build("https://h", "", TOKEN, ["a"], "riata"))


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("riata-my-a", "riata"), ("east-1-my-a", "east-1"), ("my-a", ""), ("-my-a", ""), ("riata-b", ""), ("0-my-a", "")],
)
def test_the_prefix_of_a_name_is_what_made_it(name: str, prefix: str) -> None:
    assert entries.prefix_of(name, "my-a") == prefix
    assert not prefix or entries.context_name(prefix, "my-a") == name


@pytest.mark.parametrize(
    ("server", "cluster"),
    [
        ("https://h/k8s/clusters/a", "a"),
        ("https://h/k8s/clusters/a/", "a"),
        ("https://h.evil/k8s/clusters/a", ""),
        ("https://h/k8s", ""),
        (None, ""),
    ],
)
def test_the_cluster_that_a_server_leads_to(server: object, cluster: str) -> None:
    assert entries.cluster_at("https://h", server) == cluster
