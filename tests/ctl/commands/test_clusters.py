"""`riata clusters`: what is asked of the hub, and golden output in every format."""

import pathlib

import pytest

from ctl import cleanups, logins
from ctl.commands import clusters
from tests.ctl.conftest import Riata
from tests.ctl.fakehub import ADMIN, CREATED, FakeHub, dumps

TUNNEL = {"role": "cluster", "instance": "0f", "version": "0.1.0", "kubernetes": "v1.37.2"}
OTHER = {**TUNNEL, "instance": "1f"}


def _two(fake: FakeHub) -> None:
    fake.clusters["beta"] = {"name": "beta", "createdAt": CREATED, "connected": False, "labels": {}}
    fake.clusters["alpha"] = {
        **{"name": "alpha", "createdAt": CREATED, "connected": True},
        **{"labels": {"tier": "a", "site": "b"}, "tunnels": [TUNNEL, OTHER]},
    }


async def test_list_as_a_table_sorted_by_name(riata: Riata, hub: str, fake: FakeHub) -> None:
    _two(fake)
    result = await riata("clusters", "list")
    assert result.out == (
        "NAME    CONNECTED   AGENTS   NODE-AGENTS   KUBERNETES   AGENT-VERSION   CREATED                LABELS\n"
        "alpha   yes         2        0             v1.37.2      0.1.0           2026-11-25T04:00:00Z   site=b,tier=a\n"
        "beta    no          0        0             -            -               2026-11-25T04:00:00Z   -\n"
    )
    assert (result.code, result.err) == (0, "")


async def test_one_replica_that_is_missing_shows(riata: Riata, hub: str, fake: FakeHub) -> None:
    """Neither node agents nor an old session that drains beside the new one stand in for it."""
    _two(fake)
    nodes = [{**TUNNEL, "role": "node", "node": f"n{number}", "instance": f"2{number}"} for number in range(3)]
    fake.clusters["alpha"]["tunnels"] = [TUNNEL, TUNNEL, *nodes]
    head, row, _ = (await riata("clusters", "list")).out.splitlines()
    shown = dict(zip(head.split(), row.split(), strict=True))
    assert (shown["AGENTS"], shown["NODE-AGENTS"]) == ("1", "3")


async def test_node_agents_that_the_list_leaves_out_are_counted(riata: Riata, hub: str, fake: FakeHub) -> None:
    _two(fake)
    fake.clusters["alpha"] |= {"nodeAgents": 5000, "agentVersions": ["0.0.9", "0.1.0"]}
    head, row, _ = (await riata("clusters", "list")).out.splitlines()
    shown = dict(zip(head.split(), row.split(), strict=True))
    assert (shown["AGENTS"], shown["NODE-AGENTS"], shown["AGENT-VERSION"]) == ("2", "5000", "0.0.9,0.1.0")


async def test_list_as_names_json_and_yaml(riata: Riata, hub: str, fake: FakeHub) -> None:
    _two(fake)
    assert (await riata("clusters", "list", "-o", "name")).out == "alpha\nbeta\n"
    items = [fake.clusters["alpha"], fake.clusters["beta"]]
    assert (await riata("clusters", "list", "-o", "json")).out == dumps({"items": items})
    shown = (await riata("clusters", "show", "beta", "-o", "yaml")).out
    assert shown == 'name: beta\ncreatedAt: "2026-11-25T04:00:00Z"\nconnected: false\nlabels: {}\n'


async def test_show_says_which_route_a_request_would_take(riata: Riata, hub: str, fake: FakeHub) -> None:
    _two(fake)
    route = {"role": "node", "node": "n1", "instance": "0f", "reason": "fallback-no-cluster-agent", "since": CREATED}
    fake.clusters["beta"] |= {"route": route, "fallbackNodes": ["n1", "n2"], "lastLostAt": "2026-11-26T01:02:03Z"}
    fake.clusters["beta"]["joined"] = True
    head, row = (await riata("clusters", "show", "beta")).out.splitlines()
    shown = dict(zip(head.split(), row.split(), strict=True))
    assert (shown["ROUTE"], shown["REASON"]) == ("node/n1", "fallback-no-cluster-agent")
    assert (shown["SINCE"], shown["FALLBACK"]) == (CREATED, "n1,n2")
    assert (shown["JOINED"], shown["LAST-LOST"]) == ("yes", "2026-11-26T01:02:03Z")
    head, row = (await riata("clusters", "show", "alpha")).out.splitlines()  # of a hub that does not say
    assert row.split()[-6:] == ["-"] * 6


async def test_create_sends_labels_and_names_the_next_step(riata: Riata, hub: str, fake: FakeHub) -> None:
    result = await riata("clusters", "create", "a", "--label", "tier=prod", "--label", "note=a=b", "-o", "name")
    assert result.out == "a\n"
    assert fake.calls[-1] == ("POST", "/v1/clusters", {"name": "a", "labels": {"tier": "prod", "note": "a=b"}})
    assert "next: riata clusters manifest a | kubectl apply -f -" in result.err


async def test_create_shows_what_brings_the_agent_in(riata: Riata, hub: str, fake: FakeHub) -> None:
    result = await riata("clusters", "create", "a")
    assert fake.calls[-1][2] == {"name": "a", "labels": {}, "manifest": {}}
    for line in (
        "riata clusters manifest a | kubectl apply -f -", "sh <<'RIATA_END'",
        "(umask 077; riata clusters manifest a --values > values.yaml)",
        "(umask 077; riata clusters manifest a > agent.yaml)",
    ):  # fmt: skip
        assert f"\n{line}\n" in result.out
    fake.shell = None
    again = await riata("clusters", "create", "a")
    assert "RIATA_END" not in again.out
    assert "no agent can be brought in yet: set agent_pins" in again.err


async def test_create_says_of_a_cluster_that_was_there_that_it_was(riata: Riata, hub: str, fake: FakeHub) -> None:
    """Its join token brings a second Kubernetes cluster in under the name of the first."""
    assert "was there" not in (await riata("clusters", "create", "a")).err
    fake.clusters["a"]["tunnels"] = [TUNNEL, {**TUNNEL, "role": "node", "instance": "n"}]
    again = await riata("clusters", "create", "a")
    assert again.code == 0
    assert again.err == (
        f"cluster a was there already, since {CREATED}, 2 agents connected: a join token lets one more agent into it,"
        " so for another Kubernetes cluster take another name; next: riata clusters manifest a | kubectl apply -f -\n"
    )


async def test_what_is_to_be_pasted_goes_to_the_hub_of_the_profile(
    riata: Riata, hub: str, fake: FakeHub, home: pathlib.Path
) -> None:
    login = logins.Login(hub=hub, token=ADMIN)
    logins.save(home / ".config" / "riata" / "config.yaml", logins.LoginFile(hubs={"staging": login}))
    made = await riata("clusters", "create", "a", "--profile", "staging")
    assert "next: riata clusters manifest a --profile staging | kubectl apply -f -" in made.err
    assert "\nriata clusters manifest a --profile staging | kubectl apply -f -\n" in made.out
    fake.clean_up, fake.clean_up_ends = CLEAN_UP, False
    left = await riata("clusters", "delete", "a", "--yes", "--profile", "staging")
    assert left.err.endswith("riata clusters forget u1 --profile staging\n")


async def test_a_label_without_a_value_is_a_usage_error_before_anything_is_asked(
    riata: Riata, hub: str, fake: FakeHub
) -> None:
    result = await riata("clusters", "create", "a", "--label", "tier")
    assert (result.code, result.out, fake.calls) == (2, "", [])


async def test_a_different_cluster_of_that_name_is_a_conflict(riata: Riata, hub: str, fake: FakeHub) -> None:
    await riata("clusters", "create", "a")
    result = await riata("clusters", "create", "a", "--label", "x=y")
    assert result.code == 7
    assert "exists already" in result.err


async def test_a_missing_cluster_is_not_found_and_its_name_is_quoted(riata: Riata, hub: str, fake: FakeHub) -> None:
    result = await riata("clusters", "show", "../tokens?x")
    assert result.code == 4
    assert [path for _, path, _ in fake.calls] == ["/v1/clusters/..%2Ftokens%3Fx", "/v1/clean-ups"]


async def test_delete_asks_and_without_a_terminal_wants_yes(riata: Riata, hub: str, fake: FakeHub) -> None:
    _two(fake)
    assert (await riata("clusters", "delete", "beta")).code == 2
    assert "beta" in fake.clusters
    deleted = await riata("clusters", "delete", "beta", "--yes")
    assert (deleted.code, deleted.err) == (0, "cluster beta deleted\n")
    assert "beta" not in fake.clusters


CLEAN_UP = {
    "id": "u1", "cluster": "beta", "deletedAt": CREATED, "deletedBy": "ann", "state": "running", "since": CREATED,
    "reason": "", "command": "kubectl delete namespaces -l riata.io/cluster-uid=u1",
}  # fmt: skip


async def test_delete_tells_what_became_of_what_riata_made_there(riata: Riata, hub: str, fake: FakeHub) -> None:
    _two(fake)
    fake.clean_up = CLEAN_UP
    done = await riata("clusters", "delete", "beta", "--yes")
    assert done.code == 0
    assert done.err.startswith(
        "cluster beta deleted\nwhat riata made there with the label riata.io/cluster-uid=u1 is removed"
    )
    assert "without the label stays" in done.err, "the hub finds nothing there of an installation by files of one's own"
    fake.clean_up_ends = False
    left = await riata("clusters", "delete", "alpha", "--yes")
    assert left.code == 0
    assert "is left: it changes all the time" in left.err
    assert "kubectl delete namespaces -l riata.io/cluster-uid=u1" in left.err
    assert "riata clusters forget u1" in left.err


async def test_a_deletion_whose_answer_was_lost_may_be_repeated(riata: Riata, hub: str, fake: FakeHub) -> None:
    """It said "check the name", and how far the clean-up was, only `show`."""
    fake.clean_ups["u1"] = {**CLEAN_UP, "id": "u1", "deletedAt": "2026-11-01T04:00:00Z", "state": "pending"}
    fake.clean_ups["u2"] = {**CLEAN_UP, "id": "u2"}
    done = await riata("clusters", "delete", "beta", "--yes")
    assert done.code == 0
    assert done.err.startswith(f"cluster beta was deleted at {CREATED}\nwhat riata made there with the label")
    assert "riata.io/cluster-uid=u2" in done.err
    left = await riata("clusters", "delete", "beta", "--yes")
    assert (left.code, "riata clusters forget u1" in left.err) == (0, True)
    fake.clean_ups.clear()
    assert (await riata("clusters", "delete", "beta", "--yes")).code == 4


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleanups, "_WAIT_S", 0.3)
    monkeypatch.setattr(cleanups, "_POLL_S", 0.01)


@pytest.mark.usefixtures("_impatient")
async def test_a_hub_that_is_busy_meanwhile_changes_nothing_about_a_deletion(
    riata: Riata, hub: str, fake: FakeHub
) -> None:
    """To repeat the command, as it used to advise, would have said 404."""
    _two(fake)
    fake.clean_up = CLEAN_UP
    fake.busy = ["/v1/clean-ups/u1"]
    done = await riata("clusters", "delete", "beta", "--yes")
    assert (done.code, "is removed" in done.err) == (0, True)
    fake.busy = ["/v1/clean-ups/u1"] * 100
    left = await riata("clusters", "delete", "alpha", "--yes")
    assert left.code == 0
    assert "riata clusters forget u1" in left.err


@pytest.mark.usefixtures("_impatient")
async def test_a_load_balancers_404_does_not_tell_that_a_clean_up_is_done(
    riata: Riata, hub: str, fake: FakeHub
) -> None:
    _two(fake)
    fake.clean_up = CLEAN_UP
    fake.no_backend = ["/v1/clean-ups/u1"] * 100
    left = await riata("clusters", "delete", "beta", "--yes")
    assert left.code == 0
    assert "is removed" not in left.err
    assert "riata clusters forget u1" in left.err


async def test_a_load_balancers_404_does_not_tell_that_a_cluster_is_not_there(
    riata: Riata, hub: str, fake: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "_POLL_S", 0.01)
    _two(fake)
    fake.no_backend = ["/v1/clusters/alpha"] * 2
    assert (await riata("clusters", "show", "alpha")).code == 1
    assert (await riata("clusters", "wait", "alpha", "-o", "name")).out == "alpha\n"
    assert fake.no_backend == []


async def test_what_is_left_is_listed_shown_and_forgotten(riata: Riata, hub: str, fake: FakeHub) -> None:
    fake.clean_ups["u1"] = {**CLEAN_UP, "state": "pending", "reason": "no agent was connected"}
    assert (await riata("clusters", "list")).out.splitlines()[1:] == []
    listed = await riata("clusters", "list", "--all")
    assert "beta              u1    2026-11-25T04:00:00Z   pending    no agent was connected" in listed.out
    assert (
        dumps({"items": [], "cleanUps": [fake.clean_ups["u1"]]})
        == (await riata("clusters", "list", "--all", "-o", "json")).out
    )
    shown = await riata("clusters", "show", "beta")
    assert (shown.code, "pending" in shown.out) == (0, True)
    assert "kubectl delete" in shown.err
    assert (await riata("clusters", "show", "other")).code == 4
    assert (await riata("clusters", "forget", "other")).code == 4
    assert (await riata("clusters", "forget", "beta")).code == 0
    assert fake.clean_ups == {}


async def test_wait_ends_when_an_agent_is_there_or_the_time_is_up(
    riata: Riata, hub: str, fake: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    _two(fake)
    monkeypatch.setattr(clusters, "_POLL_S", 0.01)
    monkeypatch.setattr(clusters.durations, "parse", lambda text: 0.05)
    assert (await riata("clusters", "wait", "alpha", "-o", "name")).out == "alpha\n"
    late = await riata("clusters", "wait", "beta", "--timeout", "1s")
    assert (late.code, late.out) == (1, "")
    assert "has connected within 1s" in late.err
    assert (await riata("clusters", "wait", "gone")).code == 4
    fake.busy = ["/v1/clusters/alpha"]  # a hub that is started anew
    assert (await riata("clusters", "wait", "alpha", "-o", "name")).out == "alpha\n"
    fake.busy = ["/v1/clusters/alpha"] * 1000
    busy = await riata("clusters", "wait", "alpha")
    assert (busy.code, "busy" in busy.err) == (1, True)


async def test_what_an_agent_reports_cannot_drive_the_terminal(riata: Riata, hub: str, fake: FakeHub) -> None:
    _two(fake)
    fake.clusters["alpha"]["tunnels"] = [{**TUNNEL, "version": "\x1b[2Jgone\nline"}]
    assert "\x1b" not in (await riata("clusters", "list")).out


async def test_a_manifest_is_all_that_standard_output_gets(riata: Riata, hub: str, fake: FakeHub) -> None:
    made = await riata("clusters", "manifest", "a")
    assert made.out == "kind: Namespace\n---\nkind: X\n"
    assert "join token t1 is valid until" in made.err
    assert fake.calls[-1] == (
        "POST",
        "/v1/clusters/a/manifest",
        {"profile": "impersonate", "nodeAgents": True, "clusterAdmins": True},
    )
    options = ["--image", "i:1", "--rbac", "read-only", "--no-node-agents", "--no-cluster-admins", "--expires-in", "1h"]
    await riata("clusters", "manifest", "a", *options)
    assert fake.calls[-1][2] == {
        "profile": "read-only", "nodeAgents": False, "clusterAdmins": False, "image": "i:1", "expiresInSeconds": 3600,
    }  # fmt: skip
    assert (await riata("clusters", "manifest", "a", "--rbac", "root")).code == 2
    assert (await riata("clusters", "manifest", "a", "--values")).out == "hub: {}\n"
    assert (await riata("clusters", "manifest", "a", "--shell")).out == fake.shell
    assert (await riata("clusters", "manifest", "a", "--shell", "--values")).code == 2
    fake.shell = None
    without = await riata("clusters", "manifest", "a", "--shell")
    assert (without.code, without.out) == (1, "")
