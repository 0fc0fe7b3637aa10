"""The merge: golden texts, and for any kubeconfig at all nothing changes but what is ours."""

import json
import pathlib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ctl.kubeconfig import entries, merge, yamltext

OLD = "riata_old0000000_" + "0" * 64
NEW = "riata_new0000000_" + "1" * 64
OURS = entries.build("https://hub:8443", "", NEW, ["a", "b"], "riata")
MIXED = f"""\
# written by hand
apiVersion: v1
clusters:   # the list
  - cluster:
      server: https://x   # theirs
    name: x
  - name: riata-a   # ours
    cluster:
      proxy-url: http://p
      # a remark
      server: "https://old/k8s/clusters/a"
  # behind the last one

contexts:
- {{name: x, context: {{cluster: x, user: x}}}}
current-context: x # keep
users:
- name: riata-a
  user:
    token: {OLD}
- name: x
  user:
    client-key-data: |
      YWJj

unknown: 0x1F
# the end"""
MERGED = f"""\
# written by hand
apiVersion: v1
clusters:   # the list
  - cluster:
      server: https://x   # theirs
    name: x
  - name: riata-a   # ours
    cluster:
      proxy-url: http://p
      # a remark
      server: https://hub:8443/k8s/clusters/a
  - cluster:
      server: https://hub:8443/k8s/clusters/b
    name: riata-b
  # behind the last one

contexts:
- {{name: x, context: {{cluster: x, user: x}}}}
- context:
    cluster: riata-a
    user: riata-a
  name: riata-a
- context:
    cluster: riata-b
    user: riata-b
  name: riata-b
current-context: x # keep
users:
- name: riata-a
  user:
    token: {NEW}
- name: x
  user:
    client-key-data: |
      YWJj
- user:
    token: {NEW}
  name: riata-b

unknown: 0x1F
# the end"""


def test_a_file_somebody_wrote_by_hand_keeps_everything() -> None:
    assert merge.merge(MIXED, OURS) == MERGED


def test_a_second_merge_changes_nothing() -> None:
    assert merge.merge(MERGED, OURS) == MERGED


def test_line_ends_of_the_file_are_used() -> None:
    merged = merge.merge(MIXED.replace("\n", "\r\n"), OURS)
    assert merged == MERGED.replace("\n", "\r\n")


def test_another_kind_of_credential_of_ours_is_replaced_whole_and_foreign_fields_stay() -> None:
    text = "users:\n- name: riata-a\n  user: {exec: {command: x}, extensions: [{name: n}]}\n- name: y\n  user: {}\n"
    merged = yamltext.load(merge.merge(text, OURS))
    assert merged["users"][0] == {"name": "riata-a", "user": {"token": NEW, "extensions": [{"name": "n"}]}}


@pytest.mark.parametrize(
    ("credential", "stays"),
    [(f"token: {OLD}", True), ("token: of-another-program", False), ("exec: {command: x}", False), ("", False)],
)
def test_whom_somebody_chose_to_act_as_stays_with_a_token_of_riata(credential: str, stays: bool) -> None:
    """Without it kubectl would act as the token's own user, who may do more. What was chosen for another credential is
    no choice for ours: `as: system:admin` went along."""
    acts = {"as": "viewer", "as-groups": ["viewers"], "as-uid": "1", "as-user-extra": {"reason": ["care"]}}
    text = f"users:\n- name: riata-a\n  user:\n    {credential}\n"
    text += "".join(f"    {key}: {json.dumps(value)}\n" for key, value in acts.items())
    merged = yamltext.load(merge.merge(text, OURS))
    assert merged["users"][0] == {"name": "riata-a", "user": {"token": NEW, **(acts if stays else {})}}


@pytest.mark.parametrize(
    "empty", ["clusters: []", "clusters: null", "clusters:", "clusters: []  # none yet", "clusters: ~"]
)
def test_empty_lists_of_every_spelling(empty: str) -> None:
    merged = merge.merge(f"{empty}\nkind: Config\n", OURS)
    assert [e["name"] for e in yamltext.load(merged)["clusters"]] == ["riata-a", "riata-b"]
    assert merged.count("#") == empty.count("#")


@pytest.mark.parametrize("text", ["", "# mine\n", "---\n", "\n\n"])
def test_an_empty_file_becomes_a_kubeconfig(text: str) -> None:
    merged = merge.merge(text, OURS, "riata-a")
    assert yamltext.load(merged) == entries.document(OURS, "riata-a")
    assert merged.startswith(text.strip())


@pytest.mark.parametrize("rest", ["---\n", "---", "--- # none yet\n", "---\n---\n", "---\nnull\n"])
@pytest.mark.parametrize("text", ["kind: Config\nclusters: []\n", "kind: Config\n...\n", "{}\n", "---\n"])
def test_an_empty_document_behind_it_stays_where_it_is(text: str, rest: str) -> None:
    """Tools that put files together leave one; kubectl reads the first document."""
    assert yamltext.load(text + rest) == yamltext.load(text)
    assert merge.merge(text + rest, OURS, "riata-a") == merge.merge(text, OURS, "riata-a") + rest


@pytest.mark.parametrize("indent", [None, 2])
def test_json_stays_json(indent: int | None) -> None:
    before = {"apiVersion": "v1", "clusters": [{"name": "x", "cluster": {"server": "s"}}], "users": None}
    after = json.loads(merge.merge(json.dumps(before, indent=indent), OURS, "riata-b"))
    assert [e["name"] for e in after["clusters"]] == ["x", "riata-a", "riata-b"]
    assert after["current-context"] == "riata-b"
    assert json.loads(merge.merge("{}", OURS))["users"][0]["user"] == {"token": NEW}


@pytest.mark.parametrize(
    ("text", "line"), [("current-context: ''", "riata-a"), ("current-context:", "riata-a"), ("kind: x", "riata-a")]
)
def test_the_current_context(text: str, line: str) -> None:
    assert yamltext.load(merge.merge(text, OURS, "riata-a"))["current-context"] == line


@pytest.mark.parametrize(
    "text",
    [
        "clusters: x",
        "clusters: {a: b}",
        "clusters: [x]",
        "clusters: [{name: riata-a}, {name: riata-a}]",
        "clusters: []\nclusters: []",
        "current-context: [x]",
        "users:\n- name: riata-a\n  user: &u {token: old}\n- name: y\n  user: *u\n",
        "users:\n- name: x\n  user: !mine {}\n",
        "a: 1\n---\nb: 1\n",
    ],
)
def test_what_cannot_be_edited_safely_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^it"):
        merge.merge(text, OURS, "riata-a")


@pytest.mark.parametrize(
    "text",
    [
        "a: &x {server: s}\nclusters:\n- name: y\n  cluster: *x\n",
        "users:\n- name: x\n  user:\n    k: |+\n      v\n\n\n",
    ],
)
def test_odd_forms_are_edited_right_or_refused(text: str) -> None:
    try:
        merged = yamltext.load(merge.merge(text, OURS))
    except ValueError:
        return
    before = yamltext.load(text)
    for section, listed in before.items():
        if section in entries.SECTIONS:
            assert merged[section][: len(listed)] == listed


NAMES = st.sampled_from(["x", "y", "riata-a", "riata-b", "1e3", "yes", "it's: odd #", "ü"])
VALUES = st.one_of(st.text(max_size=20), st.integers(), st.booleans(), st.none(), st.just("line\nline\n"))
BODIES = st.dictionaries(st.sampled_from(["server", "token", "namespace", "exec", "k"]), VALUES, max_size=4)


@st.composite
def kubeconfigs(draw: st.DrawFn) -> str:
    document: dict[str, object] = {"apiVersion": "v1", "kind": "Config", "preferences": draw(BODIES)}
    for section, key in entries.SECTIONS.items():
        names = draw(st.lists(NAMES, unique=True, max_size=5))
        document[section] = draw(st.just([{"name": n, key: draw(BODIES)} for n in names]) | st.sampled_from([None, []]))
    if draw(st.booleans()):
        document["current-context"] = draw(NAMES)
    for key in draw(st.lists(st.sampled_from(sorted(document)), max_size=3)):
        document.pop(key, None)
    text = draw(st.sampled_from([lambda d: yaml.safe_dump(d, **_style), lambda d: json.dumps(d, indent=2)]))(document)
    return "".join(f"{line}\n" for line in text.splitlines() if line) if draw(st.booleans()) else text


_style = {"allow_unicode": True, "sort_keys": True}


@given(kubeconfigs(), st.none() | st.just("riata-b"))
def test_nothing_but_ours_changes_in_any_kubeconfig(text: str, current: str | None) -> None:
    before = yamltext.load(text) or {}
    try:
        merged = merge.merge(text, OURS, current)
    except ValueError:
        assert "\n\n" in text or "|" in text or ">" in text  # only block scalars are ever too odd
        return
    after = yamltext.load(merged)
    names = {e.name for e in OURS}
    for section in entries.SECTIONS:
        theirs = [e for e in before.get(section) or [] if e["name"] not in names]
        assert [e for e in after[section] if e["name"] not in names] == theirs
    assert {k: v for k, v in after.items() if k in {"preferences", "kind"}} == {
        k: v for k, v in before.items() if k in {"preferences", "kind"}
    }
    assert merge.merge(merged, OURS, current) == merged


def test_a_thousand_entries_are_merged_in_reasonable_time(tmp_path: pathlib.Path) -> None:
    listed = [
        {"name": f"c{i}", "cluster": {"server": "s", "certificate-authority-data": "A" * 1500}} for i in range(300)
    ]
    text = yaml.safe_dump({"clusters": listed})
    assert merge.merge(text, OURS).startswith(text.rstrip("\n"))
