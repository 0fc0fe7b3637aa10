"""What the pages for operators tell to type is understood: each command is there, with each of its options."""

import dataclasses
import itertools
import os
import re
import shlex
import stat
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import trustme
import yaml

from agent import cli as agent_cli
from ctl import cli
from deploy.helm import render
from deploy.render import agent_values, hub_values
from hub import app, certificate, config
from hub import cli as hub_cli
from hub.bootstrap import initialise
from proto.aio import loop

loop.factory().close()
"""libuv keeps one pipe for the life of a process; made here, it is no leak of the first test."""

ROOT = Path(__file__).parents[2]
OPERATE = ROOT / "docs" / "operate"
PAGES = sorted(OPERATE.glob("*.md"))
TREE = cli.build()
COMMAND = re.compile(r"(?:^|[`(|;]\s*|-- )(riata(?:-agent)? [a-z][^`|;>&)#\n]*)")


def commands(page: Path) -> list[str]:
    """Every command line of `riata` and `riata-agent`: in code blocks, lines joined, and between backticks."""
    text = page.read_text().replace("\\|", "|")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    return [match.strip() for line in lines for match in COMMAND.findall(line)]


def unknown(command: str) -> str:
    """What of a command line no program knows; empty when all is well."""
    program, *words = shlex.split(command.replace("…", "").replace("[", "").replace("]", ""))
    options = [word.split("=")[0] for word in words if word.startswith("--")]
    if program == "riata-agent":
        known = {flag for flag, *_ in (*agent_cli.FLAGS, *agent_cli.SWITCHES)} | {"--mode", "--output", "--help"}
        modes = {*agent_cli.MODES, agent_cli.DOCTOR}
        return ", ".join(
            [option for option in options if option not in known] + [w for w in words[:1] if w not in modes]
        )
    app, path = TREE, ["riata"]
    for word in words:
        if "|" in word or word not in app.resolved_commands():
            break
        app, path = app[word], [*path, word]
    if app.default_command is None and not any("|" in word for word in words[:2]):
        return f"{' '.join(path)} needs a command, not {words[len(path) - 1 : len(path)]}"
    if app.default_command is None:
        return ""
    known = {name for argument in app.assemble_argument_collection() for name in argument.names} | {"--help"}
    return ", ".join(option for option in options if option not in known)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_is_understood(page: Path) -> None:
    assert {command: what for command in commands(page) if (what := unknown(command))} == {}


def test_commands_are_found_and_nonsense_is_not_understood() -> None:
    found = [command for page in PAGES for command in commands(page)]
    assert len(found) > 60
    assert any(command.startswith("riata clusters manifest berlin") for command in found)
    assert unknown("riata clusters manifset berlin")
    assert unknown("riata clusters create berlin --lable a=b") == "--lable"
    assert unknown("riata-agent cluster --hub-uri x") == "--hub-uri"


@pytest.mark.parametrize("chart", ["riata-agent", "riata-hub"])
def test_the_sizes_are_those_of_the_charts(chart: str) -> None:
    resources = yaml.safe_load((ROOT / "deploy" / "charts" / chart / "values.yaml").read_text())["resources"]
    request, limit = (re.sub(r"(\d)([MG]i)$", r"\1 \2B", resources[kind]["memory"]) for kind in ("requests", "limits"))
    assert f"(request {request}, limit {limit})" in (ROOT / "docs" / "operate" / "install.md").read_text()


def test_what_is_secret_is_written_for_its_owner_alone_and_stands_in_no_argument() -> None:
    written = re.compile(
        r">\s*\"?(?:\S*/)?(\S*\.token|hub\.db\.backup|encryption\.key|values\.yaml|agent\.yaml|kubeconfig)\b"
    )
    for page in PAGES:
        text = page.read_text()
        assert "--from-literal" not in text, page
        if re.search(r"^umask 077", text, re.MULTILINE):
            continue
        blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
        assert [line for line in lines if written.search(line) and not line.startswith("(umask 077; ")] == [], page


def test_a_hub_restored_by_the_page_is_known_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, page = tmp_path / "hub", (OPERATE / "backup.md").read_text()
    assert hub_cli.main(["init", "--data", str(data), "--public-url", "https://hub.example.org"]) == 0
    assert hub_cli.main(["backup", str(tmp_path / "hub.db.backup"), "--data", str(data)]) == 0
    said = capsys.readouterr().err
    for kept in ("encryption.key", "hub.toml"):
        (tmp_path / kept).write_bytes((data / kept).read_bytes())
    (restore,) = re.findall(r"```sh\n(install -d .*?)riata-hub serve", page, re.DOTALL)
    subprocess.run(["sh", "-eu", "-c", restore.replace("NEWDIR", "restored")], cwd=tmp_path, check=True, timeout=10)
    restored = config.load({"data": tmp_path / "restored"}, {}, None)
    assert "hub.example.org" in certificate.hosts(restored)
    assert "hub.toml" in said


PODS = [
    yaml.safe_load(found)
    for page in sorted((ROOT / "docs").rglob("*.md"))
    for found in re.findall(r"<<'END'\n(apiVersion: v1\nkind: Pod\n.*?)\nEND\n", page.read_text(), re.DOTALL)
]


def test_no_pod_of_the_pages_is_given_settings_by_the_kubelet() -> None:
    """For the Service `riata-hub` it makes variables that begin as those of the hub's settings do, and are none."""
    texts = [page.read_text() for page in (ROOT / "docs").rglob("*.md")]
    assert len(PODS) == sum(len(re.findall(r"^\s*kind: Pod$", text, re.MULTILINE)) for text in texts) > 0
    assert [each["metadata"]["name"] for each in PODS if each["spec"].get("enableServiceLinks") is not False] == []
    with pytest.raises(config.ConfigError, match="RIATA_HUB_SERVICE_HOST"):
        config.load({"data": Path("/x")}, {"RIATA_HUB_SERVICE_HOST": "10.0.0.1"}, None)


@pytest.mark.parametrize("name", ["riata-hub-admin-token", "riata-hub-restore"])
def test_a_pod_on_the_hubs_volume_is_as_the_hubs_own(name: str) -> None:
    """Its volume, its user, its nodes, its Pod Security: another would find no hub, never run, or be refused."""
    (pod,) = (each for each in PODS if each["metadata"]["name"] == name)
    documents = list(yaml.safe_load_all((ROOT / "deploy" / "hub" / "40-hub.yaml").read_text()))
    (hub,) = (each for each in documents if each["kind"] == "StatefulSet")
    spec = hub["spec"]["template"]["spec"]
    (init,), (made,) = spec["initContainers"], pod["spec"]["containers"]
    context = {key: value for key, value in spec["securityContext"].items() if key != "fsGroupChangePolicy"}
    assert pod["spec"]["securityContext"] == context
    assert pod["spec"]["nodeSelector"] == spec["nodeSelector"]
    assert (made["securityContext"], made["volumeMounts"]) == (init["securityContext"], init["volumeMounts"])
    assert made["image"].endswith(f"/{init['image']}")
    (claim,) = hub["spec"]["volumeClaimTemplates"]
    (volume,) = pod["spec"]["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == f"{claim['metadata']['name']}-{hub['metadata']['name']}-0"
    if "args" in made:
        (data,) = (each["value"] for each in init["env"] if each["name"] == "RIATA_HUB_DATA")
        assert made["args"] == ["admin-token", "--data", data, *init["args"][-2:]]
    kubernetes_validate.validate(pod, "1.37", strict=True)


KUBECTL = """#!/bin/sh
case $* in
  *" exec -i riata-hub-restore -- "*) ;;
  *) exit 1 ;;
esac
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
"""


async def test_a_hub_restored_in_kubernetes_by_the_page_is_the_old_one(tmp_path: Path) -> None:
    """On the volume on which the init container has made another hub."""
    old, new = await initialise(tmp_path / "old"), await initialise(tmp_path / "volume" / "hub")
    (tmp_path / "volume" / "admin.token").write_text("of the new one")
    (new.data / "hub.db-wal").write_text("of the new one")
    for name, kept in (("hub.db", "hub.db.backup"), ("encryption.key", "encryption.key")):
        (tmp_path / kept).write_bytes((old.data / name).read_bytes())
        (tmp_path / kept).chmod(0o644)
    (command,) = re.findall(r"^```sh\n(tar .*?)^```$", (OPERATE / "backup.md").read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "kubectl").write_text(KUBECTL)
    (tmp_path / "kubectl").chmod(0o755)
    path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = command.replace("/var/lib/riata", str(tmp_path / "volume"))
    cut = script.replace("encryption.key |", "encryption.key | head -c 20000 |", 1)
    before = (new.data / "hub.db").read_bytes()
    assert subprocess.run(["sh", "-eu", "-c", cut], cwd=tmp_path, env=path, check=False, timeout=20).returncode != 0
    assert ((new.data / "hub.db").read_bytes(), new.ca_file.exists()) == (before, True), "cut off, nothing is replaced"
    subprocess.run(["sh", "-eu", "-c", script], cwd=tmp_path, env=path, check=True, timeout=20)
    assert {each.name for each in (tmp_path / "volume").iterdir()} == {"hub"}
    assert {stat.S_IMODE(each.stat().st_mode) for each in new.data.glob("[eh]*")} == {0o600}
    store, hub_id, _ = await app.open_data(config.Settings(data=new.data))
    await store.close()
    assert hub_id == old.hub_id
    assert (new.data / "tls" / "ca.crt").read_bytes() == old.ca_file.read_bytes()


def test_a_hub_behind_a_front_is_told_its_ca_by_the_page(tmp_path: Path) -> None:
    page = (OPERATE / "install.md").read_text()
    (text,) = re.findall(r"^```yaml\n(settings:\n  agent_pins: .*?)^```$", page, re.MULTILINE | re.DOTALL)
    (hub,) = (each for each in render("riata-hub", hub_values(**yaml.safe_load(text))) if each["kind"] == "StatefulSet")
    pod = hub["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    found = config.load({}, {each["name"]: each["value"] for each in container["env"]}, None)
    assert found.agent_ca is not None
    (mount,) = (each for each in container["volumeMounts"] if each["mountPath"] == str(found.agent_ca.parent))
    (volume,) = (each["configMap"] for each in pod["volumes"] if each["name"] == mount["name"])
    assert f"create configmap {volume['name']} --from-file={found.agent_ca.name}=front-ca.crt\n" in page
    front = tmp_path / "front-ca.crt"
    trustme.CA().cert_pem.write_to_path(str(front))
    (command,) = re.findall(r"^openssl x509 .*$", page, re.MULTILINE)
    done = subprocess.run(["sh", "-eu", "-c", command], cwd=tmp_path, check=True, capture_output=True, timeout=20)
    pin = f"sha256:{done.stdout.decode().split()[0]}"
    certificate.check_agent_ca(dataclasses.replace(found, agent_pins=(pin,), agent_ca=front))


def test_a_hub_installed_by_the_page_gives_out_agents_of_the_same_registry() -> None:
    (command,) = re.findall(
        r"^(helm install riata-hub .*)$", (OPERATE / "install.md").read_text().replace("\\\n", " "), re.MULTILINE
    )
    words = shlex.split(command)
    values: dict[str, Any] = {}
    for option, given in itertools.pairwise(words):
        if option in {"--set", "--set-string"}:
            path, _, value = given.partition("=")
            *groups, last = (part.replace("\0", ".") for part in path.replace("\\.", "\0").split("."))
            inner = values
            for group in groups:
                inner = inner.setdefault(group, {})
            inner[last] = value
    (hub,) = (each for each in render("riata-hub", values) if each["kind"] == "StatefulSet")
    (container,) = hub["spec"]["template"]["spec"]["containers"]
    settings = config.load({}, {each["name"]: each["value"] for each in container["env"]}, None)
    registry, _, _ = container["image"].rpartition("/")
    assert settings.api.agent_image.startswith(f"{registry}/riata-agent:")


DELETE = re.compile(r"^kubectl (?:--namespace (\S+) )?delete ([a-z]+) (riata-.*)$", re.MULTILINE)


@pytest.mark.parametrize(
    ("option", "values"),
    [("no-cluster-admins", {"rbac": {"clusterAdmins": False}}), ("no-node-agents", {"nodeAgents": {"enabled": False}})],
)
def test_who_tightens_a_manifest_deletes_what_it_no_longer_holds(option: str, values: dict[str, Any]) -> None:
    """`kubectl apply` leaves it there, with its rights."""

    def made(**others: Any) -> set[tuple[str, str, str]]:
        documents = render("riata-agent", agent_values(**others))
        named = [(each["kind"].lower(), each["metadata"]) for each in documents]
        return {(meta.get("namespace", ""), kind, meta["name"]) for kind, meta in named}

    (block,) = re.findall(
        rf"After `--{option}`[^\n]*\n\n```sh\n(.*?)^```$",
        (OPERATE / "join.md").read_text(),
        re.MULTILINE | re.DOTALL,
    )
    told = {(namespace, kind, name) for namespace, kind, names in DELETE.findall(block) for name in names.split()}
    assert told == made() - made(**values)


def test_no_page_has_the_namespace_deleted_with_the_rest() -> None:
    """The hub is in it, with its volume, where its own cluster is a member."""
    texts = [page.read_text() for page in (ROOT / "docs").rglob("*.md")]
    blocks = [block for text in texts for block in re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]
    lines = [line for block in blocks for line in block.splitlines() if "kubectl delete " in line]
    assert lines
    assert [
        line for line in lines if re.search(r",namespaces|-f deploy/(agent|hub)(?!/[1-9])|00-namespace", line)
    ] == []


def test_an_upgrade_by_the_page_changes_the_agents_image() -> None:
    """The values file that the hub gives out names its tag."""
    page = (OPERATE / "install.md").read_text()
    assert re.findall(r"^helm upgrade riata-agent .* --set image\.tag=NEW$", page, re.MULTILINE)
    written = re.findall(r"> (\S+values\.yaml|values\.yaml)", page)
    upgraded = re.findall(r"^helm upgrade .* -f (\S+)", page, re.MULTILINE)
    assert set(upgraded) <= set(written)
