"""kubectl's reading commands through the line, on a real API server."""

import json

import pytest

from tests.e2e.entry import Entry

pytestmark = [pytest.mark.light, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

MANY = 40


def config_maps(count: int, stem: str = "item") -> bytes:
    """A List of `count` ConfigMaps as a manifest."""
    items = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"{stem}-{number:03d}", "labels": {"stem": stem, "odd": str(number % 2)}},
            "data": {"number": str(number)},
        }
        for number in range(count)
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}).encode()


async def test_version_of_both_sides_is_shown_without_a_skew_warning(light: Entry) -> None:
    result = await light.kubectl("version", "-o", "json")
    versions = json.loads(result.stdout)
    assert versions["serverVersion"]["minor"] == versions["clientVersion"]["minor"]
    assert "WARNING" not in result.stderr


async def test_api_resources_and_versions_come_from_aggregated_discovery(light: Entry) -> None:
    result = await light.kubectl("api-resources", "--cached=false", "-v=6")
    kinds = {line.split()[-1] for line in result.lines[1:]}
    assert {"ConfigMap", "Deployment", "CustomResourceDefinition", "Lease"} <= kinds
    asked = [line for line in result.stderr.splitlines() if '"Response"' in line]
    # Two documents (/api and /apis) in the aggregated form; one per group would mean that Accept was mangled.
    assert len(asked) == 2, result.stderr
    assert "apps/v1" in (await light.kubectl("api-versions")).lines


async def test_explain_reads_openapi_v3(light: Entry) -> None:
    assert "FIELD: containers" in (await light.kubectl("explain", "pod.spec.containers")).stdout
    recursive = (await light.kubectl("explain", "deployment.spec", "--recursive")).stdout
    assert "maxUnavailable" in recursive


async def test_another_version_of_an_openapi_document_is_found_by_its_redirect(light: Entry) -> None:
    """The index was another API server's, or is older than a CRD: the hash is not that of the document now."""
    found = await light.kubectl("get", "--raw", "/openapi/v3/apis/apps/v1?hash=00")
    assert json.loads(found.stdout)["openapi"].startswith("3.")


async def test_get_in_every_form(light: Entry) -> None:
    kubectl = light.kubectl
    await kubectl("create", "-f", "-", stdin=config_maps(3))
    table = (await kubectl("get", "configmaps", "-l", "stem=item")).lines
    assert table[0].split() == ["NAME", "DATA", "AGE"]
    assert [line.split()[0] for line in table[1:]] == ["item-000", "item-001", "item-002"]
    assert 'number: "2"' in (await kubectl("get", "configmap", "item-002", "-o", "yaml")).stdout
    as_json = json.loads((await kubectl("get", "configmap", "item-001", "-o", "json")).stdout)
    assert as_json["data"] == {"number": "1"}
    chosen = await kubectl("get", "configmaps", "-l", "odd in (1),stem", "-o", "jsonpath={.items[*].metadata.name}")
    assert chosen.stdout == "item-001"
    by_field = await kubectl("get", "configmaps", "--field-selector=metadata.name=item-000", "-o", "name")
    assert by_field.lines == ["configmap/item-000"]
    assert "number" in (await kubectl("describe", "configmap", "item-000")).stdout


async def test_get_of_a_missing_object_fails_as_without_a_hub(light: Entry) -> None:
    result = await light.kubectl("get", "configmap", "nothing", rc=1)
    assert result.stderr.strip() == 'Error from server (NotFound): configmaps "nothing" not found'


async def test_get_watch_shows_each_event_as_it_happens(light: Entry) -> None:
    kubectl = light.kubectl
    await kubectl("create", "-f", "-", stdin=config_maps(1, "first"))
    async with kubectl.running("get", "configmaps", "-w", "--output-watch-events", "-l", "stem") as watch:
        assert (await watch.line()).split() == ["EVENT", "NAME", "DATA", "AGE"]
        assert (await watch.line()).split()[:3] == ["ADDED", "first-000", "1"]
        await kubectl("create", "-f", "-", stdin=config_maps(1, "late"))
        await kubectl("patch", "configmap", "late-000", "-p", '{"data":{"w":"2"}}')
        await kubectl("delete", "configmap", "late-000")
        events = [(await watch.line()).split()[:3] for _ in range(3)]
    assert events == [["ADDED", "late-000", "1"], ["MODIFIED", "late-000", "2"], ["DELETED", "late-000", "2"]]


async def test_raw_takes_the_full_prefixed_path(light: Entry) -> None:
    """Old kubectls replace the server's path by that of `--raw`, newer ones (1.36 at the latest) put it behind."""
    kubectl = light.kubectl
    await kubectl("create", "configmap", "raw", "--from-literal=v=1")
    path = f"/api/v1/namespaces/{kubectl.namespace}/configmaps?fieldSelector=metadata.name%3Draw&limit=5"
    host, port = light.address
    bare = f"--server=https://{host}:{port}"
    for arguments in ((path,), (f"{light.prefix}{path}", bare)):
        listed = json.loads((await kubectl("get", "--raw", *arguments)).stdout)
        assert [item["metadata"]["name"] for item in listed["items"]] == ["raw"]
    assert (await kubectl("get", "--raw", f"{light.prefix}/readyz", bare)).stdout == "ok"
    missing = await kubectl("get", "--raw", f"{light.prefix}/apis/none.example/v1/things", bare, rc=1)
    assert "could not find the requested resource" in missing.stderr


async def test_chunked_lists_follow_the_continue_token(light: Entry) -> None:
    kubectl = light.kubectl
    await kubectl("create", "-f", "-", stdin=config_maps(MANY))
    result = await kubectl("get", "configmaps", "-l", "stem=item", "--chunk-size=10", "-o", "name", "-v=6")
    assert len(result.lines) == MANY
    assert len(set(result.lines)) == MANY
    pages = [line for line in result.stderr.splitlines() if '"Response"' in line and "limit=10" in line]
    # One more, empty, page comes when the namespace holds something else behind the last item.
    assert MANY // 10 <= len(pages) <= MANY // 10 + 1, result.stderr
    assert ["continue=" in line for line in pages] == [False, *[True] * (len(pages) - 1)]


async def test_warning_headers_reach_the_user(light: Entry) -> None:
    result = await light.kubectl("get", "componentstatuses")
    assert "Warning: v1 ComponentStatus is deprecated in v1.19+" in result.stderr


async def test_can_i_answers_for_the_caller(light: Entry) -> None:
    kubectl = light.kubectl
    assert (await kubectl("auth", "can-i", "create", "pods")).stdout.strip() == "yes"
    rules = (await kubectl("auth", "can-i", "--list")).stdout
    assert "*.*" in rules


async def test_top_shows_metrics_where_the_cluster_has_them(light: Entry) -> None:
    kubectl = light.kubectl
    without = await kubectl("top", "node", rc=1)
    assert without.stderr.strip() == "error: Metrics API not available"
    await kubectl("create", "-f", "-", stdin=json.dumps(metrics_definition()).encode())
    try:
        await kubectl("wait", "--for=condition=Established", "crd/nodes.metrics.k8s.io", "--timeout=30s")
        await kubectl(
            "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": measured()}).encode()
        )
        lines = (await kubectl("top", "node", "--show-capacity")).lines
        assert lines[1].split()[:2] == ["measured", "250m"]
    finally:
        await kubectl("delete", "node", "measured", "--ignore-not-found")
        await kubectl("delete", "crd", "nodes.metrics.k8s.io")


def metrics_definition() -> dict[str, object]:
    """The metrics API as a custom resource: what `kubectl top` reads, without a metrics server."""
    version = {
        "name": "v1beta1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "nodes.metrics.k8s.io",
            "annotations": {"api-approved.kubernetes.io": "unapproved, test only"},
        },
        "spec": {
            "group": "metrics.k8s.io",
            "names": {
                "plural": "nodes",
                "singular": "nodemetrics",
                "kind": "NodeMetrics",
                "listKind": "NodeMetricsList",
            },
            "scope": "Cluster",
            "versions": [version],
        },
    }


def measured() -> list[dict[str, object]]:
    """A node and its measurement."""
    size = {"cpu": "2", "memory": "4Gi"}
    return [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "measured"},
            "spec": {"unschedulable": True},
            "status": {"capacity": size, "allocatable": size},
        },
        {
            "apiVersion": "metrics.k8s.io/v1beta1",
            "kind": "NodeMetrics",
            "metadata": {"name": "measured"},
            "timestamp": "2026-11-25T00:00:00Z",
            "window": "10s",
            "usage": {"cpu": "250m", "memory": "512Mi"},
        },
    ]


@pytest.mark.parametrize(("given", "status", "says"), [("soon", 400, "invalid timeout"), ("1ns", 504, "timeout")])
async def test_the_api_server_judges_the_timeout_and_the_hub_keeps_it(
    light: Entry, given: str, status: int, says: str
) -> None:
    async with light.session() as session, session.get(light.at(f"/api/v1/namespaces?timeout={given}")) as answer:
        said = await answer.json()
    assert (answer.status, said["kind"]) == (status, "Status")
    assert says in said["message"]
