"""kubectl's writing commands through the line, on a real API server."""

import json
import stat
from pathlib import Path

import pytest

from tests.e2e.entry import Entry
from tests.e2e.kubectl import Kubectl

pytestmark = [pytest.mark.light, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]


def config_map(name: str, **data: str) -> bytes:
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
    return json.dumps(document).encode()


async def value(kubectl: Kubectl, name: str, key: str) -> str:
    """One value of a ConfigMap."""
    return (await kubectl("get", "configmap", name, "-o", f"jsonpath={{.data.{key}}}")).stdout


async def test_create_once(light: Entry) -> None:
    kubectl = light.kubectl
    assert (await kubectl("create", "configmap", "one", "--from-literal=v=1")).stdout == "configmap/one created\n"
    again = await kubectl("create", "configmap", "one", "--from-literal=v=1", rc=1)
    assert again.stderr == 'error: failed to create configmap: configmaps "one" already exists\n'


async def test_apply_says_created_unchanged_configured(light: Entry) -> None:
    kubectl = light.kubectl
    for data, said in (("1", "created"), ("1", "unchanged"), ("2", "configured")):
        result = await kubectl("apply", "-f", "-", stdin=config_map("applied", v=data))
        assert result.stdout == f"configmap/applied {said}\n"
    assert await value(kubectl, "applied", "v") == "2"
    dry = await kubectl("apply", "-f", "-", "--dry-run=server", stdin=config_map("applied", v="3"))
    assert "server dry run" in dry.stdout
    assert await value(kubectl, "applied", "v") == "2"


async def test_server_side_apply_owns_fields_and_reports_conflicts(light: Entry) -> None:
    kubectl = light.kubectl
    apply = ("apply", "--server-side", "-f", "-")
    first = await kubectl(*apply, "--field-manager=first", stdin=config_map("shared", v="1"))
    assert first.stdout == "configmap/shared serverside-applied\n"
    conflict = await kubectl(*apply, "--field-manager=second", stdin=config_map("shared", v="2"), rc=1)
    assert 'conflict with "first": .data.v' in conflict.stderr
    await kubectl(*apply, "--field-manager=second", "--force-conflicts", stdin=config_map("shared", v="2"))
    assert await value(kubectl, "shared", "v") == "2"


async def test_diff_exits_one_on_a_difference(light: Entry) -> None:
    kubectl = light.kubectl
    await kubectl("apply", "-f", "-", stdin=config_map("differs", v="1"))
    assert (await kubectl("diff", "-f", "-", stdin=config_map("differs", v="1"))).stdout == ""
    different = await kubectl("diff", "-f", "-", stdin=config_map("differs", v="2"), rc=1)
    assert '-  v: "1"' in different.stdout
    assert '+  v: "2"' in different.stdout


async def test_edit_writes_back_what_the_editor_changed(light: Entry, tmp_path: Path) -> None:
    kubectl = light.kubectl
    await kubectl("create", "configmap", "edited", "--from-literal=v=before")
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nexec sed -i 's/v: before/v: after/' \"$1\"\n")
    editor.chmod(editor.stat().st_mode | stat.S_IXUSR)
    result = await kubectl.having(KUBE_EDITOR=str(editor))("edit", "configmap", "edited")
    assert result.stdout == "configmap/edited edited\n"
    assert await value(kubectl, "edited", "v") == "after"


async def test_patch_in_its_three_types(light: Entry) -> None:
    kubectl = light.kubectl
    await kubectl("create", "configmap", "patched", "--from-literal=v=0")
    patches = {
        "strategic": '{"data":{"v":"1"}}',
        "merge": '{"data":{"v":"2"}}',
        "json": '[{"op":"replace","path":"/data/v","value":"3"}]',
    }
    for wanted, (kind, body) in enumerate(patches.items(), start=1):
        await kubectl("patch", "configmap", "patched", f"--type={kind}", "-p", body)
        assert await value(kubectl, "patched", "v") == str(wanted)
    await kubectl("label", "configmap", "patched", "a=b")
    await kubectl("annotate", "configmap", "patched", "c=d")
    await kubectl("replace", "-f", "-", stdin=config_map("patched", v="4"))
    assert await value(kubectl, "patched", "v") == "4"


async def test_wait_sees_a_value_and_a_deletion(light: Entry) -> None:
    kubectl = light.kubectl
    await kubectl("create", "configmap", "awaited", "--from-literal=v=1")
    async with kubectl.running("wait", "configmap/awaited", "--for=jsonpath={.data.v}=2", "--timeout=30s") as waiting:
        await kubectl("patch", "configmap", "awaited", "-p", '{"data":{"v":"2"}}')
        assert (await waiting.end()).raw == b"configmap/awaited condition met\n"
    async with kubectl.running("wait", "configmap/awaited", "--for=delete", "--timeout=30s") as waiting:
        assert (await kubectl("delete", "configmap", "awaited")).stdout.startswith('configmap "awaited" deleted')
        assert (await waiting.end()).rc == 0
    late = await kubectl("wait", "configmap/nothing", "--for=create", "--timeout=1s", rc=1)
    assert "timed out" in late.stderr


async def test_an_object_near_the_size_limit_survives_both_ways(light: Entry, tmp_path: Path) -> None:
    kubectl = light.kubectl
    text = "0123456789abcdef" * 60_000  # 960,000 of the 1,048,576 bytes a ConfigMap may hold
    await kubectl("create", "-f", "-", stdin=config_map("large", v=text))
    assert await value(kubectl, "large", "v") == text


async def test_a_body_over_the_api_servers_limit_gets_the_api_servers_answer(light: Entry) -> None:
    result = await light.kubectl("create", "-f", "-", stdin=config_map("huge", v="x" * 4_000_000), rc=1)
    assert "Request entity too large" in result.stderr, result.stderr


async def test_custom_resources_from_definition_to_watch(light: Entry) -> None:
    kubectl = light.kubectl
    await kubectl("create", "-f", "-", stdin=json.dumps(rope_definition()).encode())
    try:
        await kubectl("wait", "--for=condition=Established", "crd/ropes.test.riata.io", "--timeout=30s")
        rope = {"apiVersion": "test.riata.io/v1", "kind": "Rope", "metadata": {"name": "r"}, "spec": {"length": 12}}
        await kubectl("apply", "-f", "-", stdin=json.dumps(rope).encode())
        table = (await kubectl("get", "ropes")).lines
        assert table[0].split() == ["NAME", "LENGTH"]
        assert table[1].split() == ["r", "12"]
        async with kubectl.running("get", "ropes", "-w", "-o", "jsonpath={.spec.length}{'\\n'}") as watch:
            assert await watch.line() == "12"
            await kubectl("patch", "rope", "r", "--type=merge", "-p", '{"spec":{"length":15}}')
            assert await watch.line() == "15"
        assert "Length of the rope in metres" in (await kubectl("explain", "rope.spec.length")).stdout
        bad = {**rope, "spec": {"length": "long"}}
        refused = await kubectl("apply", "-f", "-", stdin=json.dumps(bad).encode(), rc=1)
        assert "spec.length: Invalid value" in refused.stderr
        await kubectl("delete", "rope", "r")
    finally:
        await kubectl("delete", "crd", "ropes.test.riata.io")


def rope_definition() -> dict[str, object]:
    """A custom resource with a printed column and a described field."""
    length = {"type": "integer", "description": "Length of the rope in metres."}
    spec = {"type": "object", "properties": {"length": length}}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
        "additionalPrinterColumns": [{"name": "Length", "type": "integer", "jsonPath": ".spec.length"}],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "ropes.test.riata.io"},
        "spec": {
            "group": "test.riata.io",
            "names": {"plural": "ropes", "singular": "rope", "kind": "Rope", "listKind": "RopeList"},
            "scope": "Namespaced",
            "versions": [version],
        },
    }
