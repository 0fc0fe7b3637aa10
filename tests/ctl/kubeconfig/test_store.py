"""Merging into files: the right one, under the lock, all or nothing."""

import pathlib
import stat
from collections.abc import Mapping
from types import MappingProxyType

import pytest

from ctl import errors, files
from ctl.kubeconfig import entries, store, yamltext

HUB = "https://hub"
OLD = "riata_old0000000_" + "0" * 64
NEW = "riata_new0000000_" + "1" * 64


def _ours(token: str, *clusters: str) -> list[entries.Entry]:
    return entries.build(HUB, "", token, clusters, "riata")


def _merge(
    env: dict[str, str],
    ours: list[entries.Entry],
    *,
    hub: str = HUB,
    use: str | None = None,
    replace: bool = False,
    owners: Mapping[str, str] = MappingProxyType({"old0000000": ""}),
) -> store.Merged:
    """`ours`, by whom the old token belongs to."""
    return store.merge_into_files(ours, env, hub=hub, use=use, replace=replace, owners=owners)


def _names(path: pathlib.Path, section: str) -> list[str]:
    return [e["name"] for e in yamltext.load(path.read_text()).get(section) or []]


def test_the_first_merge_makes_a_private_file_at_home(tmp_path: pathlib.Path) -> None:
    merged = _merge({"HOME": str(tmp_path)}, _ours(NEW, "a"))
    path = tmp_path / ".kube" / "config"
    assert merged == store.Merged((path,), "riata-a", ())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert yamltext.load(path.read_text())["current-context"] == "riata-a"
    assert [p.name for p in path.parent.iterdir()] == ["config"]


def test_an_entry_is_updated_where_it_is_and_new_ones_go_to_the_default_file(tmp_path: pathlib.Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    _merge({"KUBECONFIG": str(second)}, _ours(OLD, "a"))
    first.write_text("current-context: mine\n")
    merged = _merge({"KUBECONFIG": f"{first}:{second}"}, _ours(NEW, "a", "b"))
    assert (_names(first, "users"), _names(second, "users")) == (["riata-b"], ["riata-a"])
    assert OLD not in second.read_text()
    assert (merged.current, merged.replaced_tokens) == ("mine", ("old0000000",))


def test_a_token_that_another_entry_still_uses_is_not_replaced(tmp_path: pathlib.Path) -> None:
    env = {"KUBECONFIG": str(tmp_path / "c")}
    _merge(env, _ours(OLD, "a", "b"))
    assert _merge(env, _ours(NEW, "a")).replaced_tokens == ()
    assert _merge(env, _ours(NEW, "b")).replaced_tokens == ("old0000000",)


def test_a_large_file_is_read_few_times_and_gone_through_once(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second merge of five thousand clusters took four and a half minutes."""
    env = {"KUBECONFIG": str(tmp_path / "c")}
    names = [f"c{number:03}" for number in range(100)]
    _merge(env, _ours(OLD, *names))
    yamltext.compose.cache_clear()
    yamltext.load.cache_clear()
    reads, looks = [], []
    value, parse = yamltext.value, yamltext.yaml.SafeLoader.__init__
    monkeypatch.setattr(yamltext, "value", lambda *args: (looks.append(args), value(*args))[1])
    monkeypatch.setattr(yamltext.yaml.SafeLoader, "__init__", lambda *args: (reads.append(args), parse(*args))[1])
    assert _merge(env, _ours(NEW, *names)).replaced_tokens == ("old0000000",)
    assert len(reads) == 3  # the file as nodes and as values, and what became of it
    assert len(looks) < 20 * len(names)


def test_what_could_not_be_read_again_is_not_written(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five thousand clusters with all CAs of a system each: the next merge would not have read it."""
    env = {"KUBECONFIG": str(tmp_path / "c")}
    _merge(env, _ours(OLD, "a"))
    before = (tmp_path / "c").read_text()
    monkeypatch.setattr(files, "MAX_BYTES", len(before) + 100)
    with pytest.raises(errors.CommandError, match="fewer clusters") as caught:
        _merge(env, _ours(NEW, "a", "b"))
    assert caught.value.means == "nothing was written"
    assert (tmp_path / "c").read_text() == before


def test_the_current_context_changes_only_when_asked(tmp_path: pathlib.Path) -> None:
    env = {"KUBECONFIG": str(tmp_path / "c")}
    _merge(env, _ours(NEW, "a"))
    assert _merge(env, _ours(NEW, "b")).current == "riata-a"
    assert _merge(env, _ours(NEW, "b"), use="riata-b").current == "riata-b"


def test_an_entry_of_another_hub_is_refused_unless_replaced(tmp_path: pathlib.Path) -> None:
    env = {"KUBECONFIG": str(tmp_path / "c")}
    _merge(env, entries.build("https://hub.evil", "", OLD, ["a"], "riata"), hub="https://hub.evil")
    before = (tmp_path / "c").read_text()
    with pytest.raises(errors.CommandError) as caught:
        _merge(env, _ours(NEW, "a"))
    assert caught.value.exit_code == errors.Exit.CONFLICT
    assert (tmp_path / "c").read_text() == before
    assert _merge(env, _ours(NEW, "a"), replace=True).replaced_tokens == ("old0000000",)


@pytest.mark.parametrize(
    ("owners", "why"), [({"old0000000": "ann"}, "holds a token of ann"), ({}, "not known to be yours")]
)
def test_the_entry_of_another_user_is_refused_unless_replaced(
    tmp_path: pathlib.Path, owners: dict[str, str], why: str
) -> None:
    """Also one that came there after the hub was asked."""
    env = {"KUBECONFIG": str(tmp_path / "c")}
    _merge(env, _ours(OLD, "a"))
    before = (tmp_path / "c").read_text()
    with pytest.raises(errors.CommandError, match=why) as caught:
        _merge(env, _ours(NEW, "a"), owners=owners)
    assert caught.value.exit_code == errors.Exit.CONFLICT
    assert "--prefix" in caught.value.cure
    assert (tmp_path / "c").read_text() == before
    assert _merge(env, _ours(OLD, "a"), owners={}).replaced_tokens == (), "the same token is no loss"
    assert _merge(env, _ours(NEW, "a"), owners=owners, replace=True).replaced_tokens == ("old0000000",)


def test_only_tokens_of_this_hub_may_be_shown_to_it(tmp_path: pathlib.Path) -> None:
    one, two = tmp_path / "1", tmp_path / "2"
    _merge({"KUBECONFIG": str(one)}, entries.build("https://hub.evil", "", NEW, ["a"], "riata"), hub="https://hub.evil")
    _merge({"KUBECONFIG": str(two)}, _ours(OLD, "a", "b"))
    names = {"riata-a", "riata-b", "riata-c"}
    assert store.standing(names, {"KUBECONFIG": str(one)}, hub=HUB) == {"new0000000": ""}
    assert store.standing(names, {"KUBECONFIG": str(two)}, hub=HUB) == {"old0000000": OLD}
    assert store.standing({"riata-a"}, {"KUBECONFIG": f"{one}:{two}"}, hub=HUB) == {"new0000000": ""}, "the first"
    two.write_text(f"users: [{{name: riata-a, user: {{token: {OLD}}}}}]")
    assert store.standing(names, {"KUBECONFIG": str(two)}, hub=HUB) == {"old0000000": ""}, "nothing says of which hub"


def test_a_name_that_a_prefix_makes_of_another_cluster_is_refused_unless_replaced(tmp_path: pathlib.Path) -> None:
    """`riata-edge-berlin` is edge-berlin with the prefix riata, and berlin with riata-edge."""
    env = {"KUBECONFIG": str(tmp_path / "c")}
    _merge(env, _ours(OLD, "edge-berlin"))
    before = (tmp_path / "c").read_text()
    berlin = entries.build(HUB, "", NEW, ["berlin"], "riata-edge")
    with pytest.raises(errors.CommandError, match="that is for cluster 'edge-berlin'") as caught:
        _merge(env, berlin)
    assert caught.value.exit_code == errors.Exit.CONFLICT
    assert "--prefix" in caught.value.cure
    assert (tmp_path / "c").read_text() == before
    _merge(env, berlin, replace=True)
    assert f"server: {HUB}/k8s/clusters/berlin" in (tmp_path / "c").read_text()


@pytest.mark.parametrize(
    ("text", "whose"),
    [
        ("users: [{name: riata-a, user: {client-certificate-data: QQ, client-key-data: QQ}}]", "user 'riata-a'"),
        ("users: [{name: riata-a, user: {exec: {command: aws}}}]", "user 'riata-a'"),
        ("users: [{name: riata-a, user: {as: system:admin}}]", "names whom to act as, and holds no token of riata"),
        ("users: [{name: riata-a, user: {token: of-another-program}}]", "user 'riata-a'"),
        ("contexts: [{name: riata-a, context: {cluster: prod, user: riata-a}}]", "cluster 'prod' and user 'riata-a'"),
        ("contexts: [{name: riata-a, context: {cluster: riata-a, user: me}}]", "cluster 'riata-a' and user 'me'"),
        ("clusters: [{name: riata-a, cluster: {server: https://hub/other/k8s/clusters/a}}]", "https://hub/other/"),
    ],
)
def test_what_is_somebody_elses_is_refused_unless_replaced(tmp_path: pathlib.Path, text: str, whose: str) -> None:
    path = tmp_path / "c"
    path.write_text(text)
    with pytest.raises(errors.CommandError) as caught:
        _merge({"KUBECONFIG": str(path)}, _ours(NEW, "a"))
    assert whose in caught.value.what
    assert "QQ" not in caught.value.render()
    assert "--prefix" in caught.value.cure
    assert path.read_text() == text
    assert _merge({"KUBECONFIG": str(path)}, _ours(NEW, "a"), replace=True).current == "riata-a"
    assert NEW in path.read_text()


@pytest.mark.parametrize(
    "text",
    [
        "users: [{name: riata-a, user: {}}, {name: mine, user: {password: p}}]",
        "users: [{name: riata-a}]",
        "contexts: [{name: riata-a, context: {namespace: kept, cluster: riata-a}}]",
    ],
)
def test_an_entry_that_would_lose_nothing_is_ours_to_fill(tmp_path: pathlib.Path, text: str) -> None:
    (tmp_path / "c").write_text(text)
    _merge({"KUBECONFIG": str(tmp_path / "c")}, _ours(NEW, "a"))
    assert NEW in (tmp_path / "c").read_text()


@pytest.mark.parametrize("text", ["- a\n", "clusters: x\n", "{"])
def test_a_file_that_cannot_be_edited_stays_as_it_is(tmp_path: pathlib.Path, text: str) -> None:
    path = tmp_path / "c"
    path.write_text(text)
    with pytest.raises(errors.CommandError) as caught:
        _merge({"KUBECONFIG": str(path)}, _ours(NEW, "a"))
    assert "nothing was written" in caught.value.means
    assert caught.value.cure.endswith("KUBECONFIG=…:FILE"), "first, its current context would be kubectl's"
    assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_written_while_kubectl_holds_the_lock(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.lock").touch()
    monkeypatch.setattr(files, "LOCK_WAIT_S", 0)
    monkeypatch.setattr(files.locked.__wrapped__, "__kwdefaults__", {"wait_s": 0})
    with pytest.raises(errors.CommandError, match="is locked"):
        _merge({"KUBECONFIG": str(tmp_path / "c")}, _ours(NEW, "a"))
    assert [p.name for p in tmp_path.iterdir()] == ["c.lock"]


def test_a_directory_in_place_of_the_file_is_said_so(tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.CommandError, match="cannot"):
        _merge({"KUBECONFIG": str(tmp_path)}, _ours(NEW, "a"))
