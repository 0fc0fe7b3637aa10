"""Clusters that are away, new or silent, and contexts of kubectl that lead nowhere."""

import pathlib

import pytest
import trustme
import yaml

from ctl import client, errors, logins
from ctl.doctor import causes, clusters
from ctl.kubeconfig import entries
from tests.ctl.fakehub import ADMIN, FakeHub, status

OTHER = "riata_other00000_" + "b" * 64


TUNNEL = {
    "role": "cluster", "instance": "0f", "address": "203.0.113.7:4711", "kubernetes": "v1.37.2", "serves": True,
    "connectedSince": "2026-11-26T09:00:00Z",
}  # fmt: skip
WELL = (
    "well answers, connected since 2026-11-26T09:00:00Z, through the agent at 203.0.113.7:4711"
    " (agents that serve: 1; Kubernetes v1.37.2)"
)


def _clusters(fake: FakeHub) -> None:
    fake.clusters["well"] = {"name": "well", "connected": True, "tunnels": [TUNNEL]}
    fake.clusters["new"] = {"name": "new", "connected": False, "tunnels": []}
    fake.clusters["lost"] = {"name": "lost", "connected": False, "lastLostAt": "2026-11-26T01:02:03Z"}
    fake.clusters["nodes"] = {"name": "nodes", "connected": False, "tunnels": [{"role": "node"}]}


async def _connected(hub: str, *wanted: str) -> list[tuple[str, str, str]]:
    async with client.HubClient(logins.Login(hub=hub, token=ADMIN), {}) as api:
        found = await clusters.behind(api, wanted, {"HOME": "/var/empty"})
    return [(each.level.value, each.cause, each.what) for each in found if each.check == "clusters"]


async def test_each_cluster_that_is_ill_has_its_line(hub: str, fake: FakeHub) -> None:
    _clusters(fake)
    assert await _connected(hub) == [
        ("ok", "", WELL),
        ("fail", "cluster-away", "no agent of cluster lost is connected since 2026-11-26T01:02:03Z"),
        ("warn", "cluster-new", "no agent of cluster new has joined since the hub started"),
        ("fail", "cluster-away", "no agent of cluster nodes is connected (node agents: 1)"),
    ]


async def test_a_cluster_that_has_joined_is_away_though_a_new_hub_has_not_seen_it(hub: str, fake: FakeHub) -> None:
    """When it was lost is forgotten with the hub's process, and a cluster that is down passed for a new one."""
    fake.clusters["a"] = {"name": "a", "connected": False, "tunnels": [], "lastLostAt": None, "joined": True}
    assert await _connected(hub) == [("fail", "cluster-away", "no agent of cluster a is connected")]
    fake.clusters["a"]["joined"] = False
    assert [found[:2] for found in await _connected(hub)] == [("warn", "cluster-new")]


async def test_a_cluster_that_is_asked_for_must_be_connected(hub: str, fake: FakeHub) -> None:
    _clusters(fake)
    assert await _connected(hub, "well") == [("ok", "", WELL)]
    assert (await _connected(hub, "new"))[0][:2] == ("fail", "cluster-away")
    with pytest.raises(errors.CommandError) as caught:
        await _connected(hub, "none")
    assert caught.value.exit_code == errors.Exit.NOT_FOUND


async def test_a_whole_token_for_a_name_is_a_wrong_command_line(hub: str, fake: FakeHub) -> None:
    """It was a finding about the hub, which had not been asked."""
    with pytest.raises(errors.UsageError, match="whole token"):
        await _connected(hub, OTHER)
    assert fake.calls == []


async def test_a_cluster_that_does_not_answer(hub: str, fake: FakeHub) -> None:
    _clusters(fake)
    fake.kubernetes = status(504, "the deadline passed before an answer came")
    ((level, cause, what),) = await _connected(hub, "well")
    assert (level, cause) == ("fail", "cluster-silent")
    assert "the deadline passed" in what
    assert fake.calls[-2][1] == "/k8s/clusters/well/version?timeout=10s", "the hub ends it before this client does"
    fake.kubernetes = status(403, "you may not")
    assert (await _connected(hub, "well"))[0][0] == "ok", "an API server that says no does answer"


async def test_a_cluster_that_could_not_be_asked_is_not_silent(hub: str, fake: FakeHub) -> None:
    """The hub's limit says nothing of the cluster."""
    _clusters(fake)
    fake.kubernetes = status(429, "you have too many requests under way")
    ((level, cause, what),) = await _connected(hub, "well")
    assert (level, cause) == ("warn", "cluster-unasked")
    assert "too many requests under way" in what
    fake.kubernetes = status(503, "the cluster's agent is connected, but the Kubernetes API server refused")
    assert (await _connected(hub, "well"))[0][:2] == ("fail", "cluster-silent")


async def test_one_cluster_is_looked_at_though_the_list_of_all_fails(hub: str, fake: FakeHub) -> None:
    _clusters(fake)
    fake.busy = ["/v1/clusters"]
    well, list_ = await _connected(hub, "well")
    assert well == ("ok", "", WELL)
    assert list_ == ("fail", "clusters-unlisted", "the hub does not say which clusters there are: busy; wait a moment"
        " and repeat the command")  # fmt: skip


async def test_node_agents_that_the_list_leaves_out_are_counted(hub: str, fake: FakeHub) -> None:
    fake.clusters["a"] = {"name": "a", "connected": False, "tunnels": [], "nodeAgents": 7}
    assert await _connected(hub) == [("fail", "cluster-away", "no agent of cluster a is connected (node agents: 7)")]


async def test_many_that_are_well_are_one_line(hub: str, fake: FakeHub) -> None:
    for number in range(clusters.LISTED + 1):
        fake.clusters[f"c{number}"] = {"name": f"c{number}", "connected": True, "tunnels": [TUNNEL]}
    assert await _connected(hub) == [("ok", "", "21 of 21 connected, and they answer")]


async def test_the_agent_that_is_asked_is_the_routes(hub: str, fake: FakeHub) -> None:
    other = {**TUNNEL, "instance": "1a", "address": "203.0.113.8:1", "connectedSince": "2026-11-26T10:00:00Z"}
    idle = {**TUNNEL, "role": "node", "instance": "2b", "serves": False, "connectedSince": "2026-11-20T00:00:00Z"}
    route = {"role": "cluster", "instance": "1a"}
    fake.clusters["two"] = {"name": "two", "connected": True, "route": route, "tunnels": [idle, TUNNEL, other]}
    ((_, _, what),) = await _connected(hub)
    assert "since 2026-11-26T09:00:00Z, through the agent at 203.0.113.8:1 (agents that serve: 2;" in what


async def test_a_cluster_that_only_its_fallback_serves(hub: str, fake: FakeHub) -> None:
    route = {"role": "node", "node": "n1", "instance": "0f", "since": "2026-11-26T11:00:00Z"}
    fake.clusters["a"] = {"name": "a", "connected": True, "route": route, "tunnels": [{**TUNNEL, "role": "node"}]}
    ((level, cause, what),) = await _connected(hub)
    assert (level, cause) == ("warn", "cluster-fallback")
    assert "node n1 since 2026-11-26T11:00:00Z" in what


async def test_no_clusters(hub: str, fake: FakeHub) -> None:
    assert await _connected(hub) == [("ok", "", "the hub shows you none")]


def _file(path: pathlib.Path, hub: str, token: str, *names: str, ca: str = "", prefix: str = "riata") -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(entries.document(entries.build(hub, ca, token, names, prefix), "riata-x")))


async def _kubeconfigs(hub: str, home: pathlib.Path, *known: str, ca: str = "") -> list[tuple[str, str]]:
    login = logins.Login(hub=hub, token=ADMIN, ca=ca)
    found = await clusters.kubeconfigs(login, known, {"HOME": str(home)})
    return [(finding.level.value, finding.cause or finding.what) for finding in found]


async def test_contexts_in_order(hub: str, home: pathlib.Path) -> None:
    _file(home / ".kube" / "config", hub, ADMIN, "a", "b")
    assert await _kubeconfigs(hub, home, "a", "b") == [("ok", "2 of 2 contexts of this hub are in order")]


async def test_a_context_of_a_cluster_that_is_gone(hub: str, home: pathlib.Path) -> None:
    _file(home / ".kube" / "config", hub, ADMIN, "a", "b")
    assert (await _kubeconfigs(hub, home, "a"))[1] == ("warn", "kubeconfig-gone")


async def test_a_cluster_that_is_gone_is_all_that_is_said_of_its_context(
    hub: str, home: pathlib.Path, ca: trustme.CA
) -> None:
    """No other cure can be followed: nothing makes a token for it."""
    _file(home / ".kube" / "config", hub, ADMIN, "a", ca=ca.cert_pem.bytes().decode())
    assert await _kubeconfigs(hub, home) == [("warn", "kubeconfig-gone")]


async def test_a_context_whose_token_has_ended_may_be_another_logins(hub: str, home: pathlib.Path) -> None:
    """A limited login was told to delete the contexts of the profile beside it, which only needed new tokens."""
    _file(home / ".kube" / "config", hub, OTHER, "a")
    assert await _kubeconfigs(hub, home) == [("warn", "kubeconfig-unshown")]


async def test_a_context_without_a_token_is_not_called_gone(hub: str, home: pathlib.Path, fake: FakeHub) -> None:
    """As with a credential plugin: nobody asked the hub with what it brings."""
    config = home / ".kube" / "config"
    _file(config, hub, OTHER, "a")
    config.write_text(config.read_text().replace(f"token: {OTHER}", "exec: {command: plugin}"))
    assert await _kubeconfigs(hub, home) == [("warn", "kubeconfig-unasked")]
    assert fake.calls == []
    cure = causes.KUBECONFIG_UNASKED.cure
    assert "Forbidden or NotFound" in cure
    assert "delete-context" not in cure, "kubectl fails for other reasons too"
    assert (await _kubeconfigs(hub, home, "a"))[0][0] == "ok"


@pytest.mark.parametrize(
    ("token", "asked"), [(OTHER, ["/v1/whoami"]), ("riata_ann0000000_" + "0" * 64, ["/v1/whoami", "/v1/clusters"])]
)
async def test_the_hub_is_asked_once_for_all_contexts_of_a_token(
    hub: str, home: pathlib.Path, fake: FakeHub, token: str, asked: list[str]
) -> None:
    """Five thousand of another profile took as many connections, one after the other."""
    fake.tokens["ann0000000"] = {"user": "ann"}
    _file(home / ".kube" / "config", hub, token, *(f"c{number}" for number in range(50)))
    assert len(await _kubeconfigs(hub, home)) == 50
    assert [path for _, path, _ in fake.calls] == asked


async def test_a_context_of_another_user_that_works_is_not_called_gone(
    hub: str, home: pathlib.Path, fake: FakeHub
) -> None:
    """The login's list is not what the context's own token may use, and the cure was to delete it."""
    fake.tokens["ann0000000"] = {"user": "ann"}
    fake.clusters["a"] = {"name": "a"}
    anns = "riata_ann0000000_" + "0" * 64
    config = home / ".kube" / "config"
    _file(config, hub, anns, "a")
    assert await _kubeconfigs(hub, home) == [("ok", "1 of 1 contexts of this hub are in order")]
    fake.busy.append("/v1/clusters")
    assert (await _kubeconfigs(hub, home))[0][0] == "ok", "the hub did not say that it is gone"
    for is_admins in (True, False):
        fake.is_admins = is_admins
        _file(config, hub, anns, "other")
        assert await _kubeconfigs(hub, home) == [("warn", "kubeconfig-gone")]


@pytest.mark.parametrize(
    ("prefix", "cure"),
    [
        ("riata", "riata kubeconfig my-a --merge"),
        ("east-1", "riata kubeconfig my-a --prefix east-1 --merge"),
        ("n o", "riata kubeconfig my-a --merge"),
    ],
)
async def test_a_cure_makes_anew_the_entry_that_is_there(
    hub: str, home: pathlib.Path, fake: FakeHub, prefix: str, cure: str
) -> None:
    """Without its prefix it would be of the name of another hub's."""
    config, login = home / ".kube" / "config", logins.Login(hub=hub, token=ADMIN)
    _file(config, hub, OTHER, "my-a", prefix=prefix)
    (token,) = await clusters.kubeconfigs(login, ["my-a"], {"HOME": str(home)})
    _file(config, hub, ADMIN, "my-a", prefix=prefix, ca=trustme.CA().cert_pem.bytes().decode())
    (ca,) = await clusters.kubeconfigs(login, ["my-a"], {"HOME": str(home)})
    fake.scope = ["b"]
    _file(config, hub, ADMIN, "my-a", prefix=prefix)
    (scope,) = await clusters.kubeconfigs(login, ["my-a"], {"HOME": str(home)})
    found = {each.cause: cure in each.cure for each in (token, ca, scope)}
    assert found == {"kubeconfig-token": True, "kubeconfig-ca": True, "kubeconfig-scope": True}


async def test_a_token_for_an_earlier_cluster_of_the_name(hub: str, home: pathlib.Path, fake: FakeHub) -> None:
    """The cluster was deleted and made again: the token's clusters are those that still exist."""
    _file(home / ".kube" / "config", hub, ADMIN, "a", "b")
    fake.scope = ["b"]
    assert (await _kubeconfigs(hub, home, "a", "b"))[1:] == [("fail", "kubeconfig-scope")]


async def test_a_token_that_was_revoked(hub: str, home: pathlib.Path) -> None:
    _file(home / ".kube" / "config", hub, OTHER, "a")
    assert await _kubeconfigs(hub, home, "a") == [("fail", "kubeconfig-token")]


async def test_another_ca(hub: str, home: pathlib.Path) -> None:
    ours, other = (trustme.CA().cert_pem.bytes().decode() for _ in range(2))
    _file(home / ".kube" / "config", hub, ADMIN, "a", ca=other)
    assert await _kubeconfigs(hub, home, "a", ca=ours) == [("fail", "kubeconfig-ca")]
    _file(home / ".kube" / "config", hub, ADMIN, "a", ca=ours)
    assert (await _kubeconfigs(hub, home, "a", ca=ours))[0][0] == "ok"


async def test_none_of_this_hub(hub: str, home: pathlib.Path) -> None:
    assert await _kubeconfigs(hub, home) == [("warn", "kubeconfig-none")]
    _file(home / ".kube" / "config", "https://other.test", ADMIN, "a")
    assert await _kubeconfigs(hub, home) == [("warn", "kubeconfig-none")]


async def test_a_file_that_cannot_be_read(hub: str, home: pathlib.Path) -> None:
    _file(home / ".kube" / "config", hub, ADMIN, "a")
    (home / ".kube" / "config").write_text("{")
    assert await _kubeconfigs(hub, home) == [("fail", "kubeconfig-unreadable")]


def test_files_are_merged_as_kubectl_does_and_secrets_stay_out_of_sight(home: pathlib.Path, hub: str) -> None:
    one, two = home / "one", home / "two"
    _file(one, hub, ADMIN, "a")
    _file(two, hub, OTHER, "a", "b")
    (home / "token").write_text(f"{OTHER}\n")
    text = two.read_text().replace(f"token: {OTHER}", "tokenFile: token")
    two.write_text(text)
    found = clusters.read(hub, {"KUBECONFIG": f"{one}:{two}:{home / 'none'}"})
    assert [(context.name, context.cluster, context.token) for context in found] == [
        ("riata-a", "a", ADMIN),
        ("riata-b", "b", OTHER),
    ]
    assert ADMIN not in repr(found)
    assert all(context.ca == "" for context in found)


async def test_a_token_that_no_header_can_carry_is_named_with_its_context(hub: str, home: pathlib.Path) -> None:
    """The line end of a YAML block (`token: |`), with which kubectl fails too."""
    _file(home / ".kube" / "config", hub, ADMIN + "\n", "a")
    assert await _kubeconfigs(hub, home, "a") == [("fail", "kubeconfig-token")]
