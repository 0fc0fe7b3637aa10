"""The charts over a matrix of values: valid for Kubernetes, hardened, and what the programs understand."""

import json
import re
from typing import Any

import kubernetes_validate
import pytest

from agent import cli
from deploy.helm import ROOT, Refused, findings, notes, render
from deploy.render import agent_values, hub_values
from hub import config, reference
from hub.tunnel.registry import INSTANCES_MAX
from tests.deploy import matrix

NOT_KUBERNETES = ("gateway.networking.k8s.io", "monitoring.coreos.com")
"""Groups of custom resources: kubernetes-validate has no schemas of theirs."""


def pods(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each["spec"]["template"]["spec"] for each in documents if "template" in each.get("spec", {})]


def containers(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for pod in pods(documents) for each in [*pod.get("initContainers", []), *pod["containers"]]]


@pytest.mark.parametrize(("chart", "case"), matrix.CASES)
def test_each_document_is_valid_and_named(chart: str, case: str) -> None:
    documents = render(chart, matrix.values_of(chart, case))
    names = [(each["kind"], each["metadata"]["name"]) for each in documents]
    assert len(set(names)) == len(names)
    for document in documents:
        if document["apiVersion"].split("/")[0] in NOT_KUBERNETES:
            continue
        for version in ("1.30", "1.37"):
            kubernetes_validate.validate(document, version, strict=True)
    for document in documents:
        if document["metadata"]["name"] != "riata-more":
            assert document["metadata"]["labels"]["app.kubernetes.io/part-of"] == "riata"


@pytest.mark.parametrize(("chart", "values"), [("riata-agent", agent_values()), ("riata-hub", hub_values())])
def test_helm_lint_finds_nothing(chart: str, values: dict[str, Any]) -> None:
    assert findings(chart, values) == []


@pytest.mark.parametrize(("chart", "case"), matrix.CASES)
def test_no_pod_has_privileges(chart: str, case: str) -> None:
    documents = render(chart, matrix.values_of(chart, case))
    for pod in pods(documents):
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        security = pod["securityContext"]
        assert (security["runAsNonRoot"], security["runAsUser"], security["runAsGroup"]) == (True, 65532, 65532)
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostPID", "hostIPC", "hostNetwork"} & set(pod)
        assert all("hostPath" not in volume for volume in pod.get("volumes", []))
    for container in containers(documents):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"requests", "limits"} <= set(container["resources"])
    levels = [each["metadata"]["labels"] for each in documents if each["kind"] == "Namespace"]
    assert all(labels["pod-security.kubernetes.io/enforce"] == "restricted" for labels in levels)


@pytest.mark.parametrize("values", [{"operations": {"enabled": True}}, {"dnsPolicy": "ClusterFirstWithHostNet"}])
def test_no_value_puts_node_agents_into_the_nodes_network(values: dict[str, Any]) -> None:
    with pytest.raises(Refused, match=f"/nodeAgents.*{next(iter(values))}"):
        render("riata-agent", matrix.nodes(**values))


def test_defaults_alone_are_refused_with_the_names_of_what_is_missing() -> None:
    with pytest.raises(Refused, match="/hub/url") as caught:
        render("riata-agent", {})
    assert "/hub/caPins" in str(caught.value)
    with pytest.raises(Refused, match="/publicUrl"):
        render("riata-hub", {})


def test_node_agents_without_an_audience_are_refused() -> None:
    with pytest.raises(Refused, match="/hub/audience"):
        render("riata-agent", {"hub": matrix.alone()["hub"]})


def test_node_agents_beside_an_agent_token_are_refused() -> None:
    """Only an agent that enrols registers the cluster's issuer: none of them would ever be let in, on no node."""
    with pytest.raises(Refused, match="/enrolment/enabled"):
        render("riata-agent", {**matrix.nodes(), "enrolment": {"enabled": False}})


@pytest.mark.parametrize("values", [{"replicas": 2}, {"rbac": {"profil": "impersonate"}}, {"rbac": {"profile": "all"}}])
def test_a_misspelt_value_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(Refused, match=next(iter(values))):
        render("riata-agent", agent_values(**values))


CHARTS_OWN = [
    "data",
    "listen",
    "tls_key",
    "plain_http",
    "drain_grace_s",
    "encryption_key_file",
    "tls.key",
    "encryption.key_file",
]
"""A dot becomes the underscore of the environment variable too."""


@pytest.mark.parametrize("name", CHARTS_OWN)
def test_what_the_chart_sets_is_no_setting(name: str) -> None:
    with pytest.raises(Refused, match=f"/settings/{name}"):
        render("riata-hub", hub_values(settings={name: "x"}))


@pytest.mark.parametrize("name", ["agent_pin", "edge.connection_max", "api", "api_request_timeout_s"])
def test_a_setting_that_the_hub_does_not_have_is_refused(name: str) -> None:
    """By Helm: the pod that replaces the one that works would end with status 2 again and again."""
    with pytest.raises(Refused, match=f"/settings': additional properties '{name}' not allowed"):
        render("riata-hub", hub_values(settings={name: "1"}))


def test_every_setting_can_be_given_in_one_way() -> None:
    schema = json.loads((ROOT / "charts" / "riata-hub" / "values.schema.json").read_text())
    settings = schema["properties"]["settings"]
    own, others = settings["patternProperties"]
    by_values, by_settings = (
        {name for name, _ in config.fields() if re.search(pattern, name)} for pattern in (own, others)
    )
    assert by_settings | by_values == {name for name, _ in config.fields()}
    assert not by_settings & by_values
    environ = {each["name"] for each in containers(render("riata-hub", matrix.HUB["own certificate"]))[1]["env"]}
    elsewhere = {"encryption_key_file", "tls_names", "plain_http"}  # of another case; never
    assert {config.environment_name(name) for name in by_values - elsewhere} <= environ


def test_a_hub_that_does_not_start_is_replaced_by_the_next_one() -> None:
    """In order, a StatefulSet takes no pod away that is not ready: after `helm rollback` it waits for ever."""
    (hub,) = (each for each in render("riata-hub", hub_values()) if each["kind"] == "StatefulSet")
    assert hub["spec"]["podManagementPolicy"] == "Parallel"


def test_two_hubs_on_one_database_are_refused() -> None:
    with pytest.raises(Refused, match="replicaCount"):
        render("riata-hub", hub_values(replicaCount=2))


@pytest.mark.parametrize("count", range(1, INSTANCES_MAX + 1))
def test_a_rollout_never_needs_more_agents_than_the_hub_takes(count: int) -> None:
    """The surplus one would be refused and never ready, and the rollout would wait for it for ever."""
    documents = render("riata-agent", agent_values(replicaCount=count))
    (deployment,) = (each["spec"] for each in documents if each["kind"] == "Deployment")
    rolling = deployment["strategy"]["rollingUpdate"]
    assert deployment["replicas"] == count
    assert count + rolling["maxSurge"] <= INSTANCES_MAX
    assert rolling["maxSurge"] + rolling["maxUnavailable"] == 1, "one at a time, and it gets on"
    assert rolling["maxUnavailable"] == 0 or count == INSTANCES_MAX, "the new one first, where there is a place for it"


def test_more_agents_than_the_hub_takes_are_refused() -> None:
    with pytest.raises(Refused, match="replicaCount"):
        render("riata-agent", agent_values(replicaCount=INSTANCES_MAX + 1))


@pytest.mark.parametrize("case", [case for case in matrix.AGENT if case != "extras"])
def test_the_cluster_agent_understands_what_it_is_given(case: str) -> None:
    documents = render("riata-agent", matrix.AGENT[case])
    (deployment,) = (each for each in documents if each["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert all(mount["readOnly"] for mount in mounts.values())
    assert {mount["name"] for mount in mounts.values()} == {volume["name"] for volume in pod["volumes"]}
    environ = {variable["name"]: variable["value"] for variable in container["env"]}
    environ |= {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    found = cli.settings(container["args"], environ)
    for path in (found.hub.token_file, found.kube.token_file, found.kube.ca_file, found.policy_file, found.hub.ca_file):
        assert path is None or str(path.parent) in mounts
    assert found.hub.ca_pins == tuple(matrix.AGENT[case]["hub"]["caPins"])
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert found.serve.health_listen == f"*:{ports['health']}"
    assert found.serve.metrics_listen == f"*:{ports['metrics']}"
    assert pod["terminationGracePeriodSeconds"] > found.drain_grace + 5


@pytest.mark.parametrize("case", ["default", "ca", "namespace", "named"])
def test_node_agents_understand_what_they_are_given(case: str) -> None:
    documents = render("riata-agent", matrix.AGENT[case])
    (shipped,) = (each for each in documents if each["metadata"]["name"].endswith("-endpoints") and "data" not in each
                  and each["kind"] == "ConfigMap")  # fmt: skip
    for daemonset in (each for each in documents if each["kind"] == "DaemonSet"):
        pod = daemonset["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        environ = {variable["name"]: variable.get("value", "10.0.0.7") for variable in container["env"]}
        environ |= {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
        found = cli.settings(container["args"], environ)
        is_fallback = daemonset["metadata"]["name"].endswith("-fallback")
        assert (found.mode, found.serves, found.host_ip) == ("node", is_fallback, "10.0.0.7")
        assert found.kube.endpoints_file is not None
        volume = mounts[str(found.kube.endpoints_file.parent)]
        (source,) = (each["configMap"] for each in pod["volumes"] if each["name"] == volume)
        assert (source["name"], source["optional"]) == (shipped["metadata"]["name"], True)
        assert pod["dnsPolicy"] == "Default"


@pytest.mark.parametrize("case", [case for case in matrix.HUB if case not in {"extras", "placed"}])
def test_the_hub_understands_what_it_is_given(case: str) -> None:
    documents = render("riata-hub", matrix.HUB[case])
    (pod,) = pods(documents)
    (init,), (container,) = pod["initContainers"], pod["containers"]
    environ = {variable["name"]: variable["value"] for variable in container["env"]}
    found = config.load({}, environ, None)
    assert container["args"] == ["serve"]
    assert pod["terminationGracePeriodSeconds"] > found.drain_delay_s + found.drain_grace_s + 5
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert found.listen == (f"*:{ports['https']}",)
    assert found.metrics_listen == f"*:{ports['metrics']}"
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    for path in (found.data, found.tls_cert, found.tls_ca):
        assert path is None or str(path.parent) in mounts
    assert config.load({}, {each["name"]: each["value"] for each in init["env"]}, None).data == found.data


def test_what_ends_the_hub_asks_where_no_client_is_in_the_way() -> None:
    """A hub with all its connections taken lets nobody else in at its own port, and is not to be ended for that."""
    (pod,) = pods(render("riata-hub", hub_values()))
    (container,) = pod["containers"]
    for kind in ("startupProbe", "livenessProbe"):
        assert container[kind]["httpGet"] == {"path": "/livez", "port": "metrics", "scheme": "HTTP"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "https", "scheme": "HTTPS"}
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    environ = {each["name"]: each["value"] for each in container["env"]}
    assert environ["RIATA_HUB_METRICS_LISTEN"] == f"*:{ports['metrics']}"
    with pytest.raises(Refused, match="/settings/metrics_listen"):
        render("riata-hub", hub_values(settings={"metrics_listen": ""}))


@pytest.mark.parametrize(("chart", "monitor"), [("riata-agent", "podMonitor"), ("riata-hub", "serviceMonitor")])
def test_the_notes_say_when_a_monitor_can_read_nothing(chart: str, monitor: str) -> None:
    """By default the NetworkPolicy lets nobody reach the metrics, and a monitor alone changes nothing of that."""
    least = agent_values() if chart == "riata-agent" else hub_values()
    on = {"metrics": {monitor: {"enabled": True}}}
    said = notes(chart, least | on)
    assert "networkPolicy.metricsFrom" in said
    assert "kubernetes.io/metadata.name: monitoring" in said, "an example that can be pasted"
    quiet = notes(chart, least)
    assert quiet == said[: len(quiet)], "no more than this is added"
    assert notes(chart, least | on | {"networkPolicy": {"metricsFrom": matrix.PEER}}) == quiet
    assert notes(chart, least | on | {"networkPolicy": {"enabled": False}}) == quiet


def test_the_notes_have_the_first_token_written_for_its_owner_alone() -> None:
    (taking,) = re.findall(r"^ *(.*) exec .*\\\n.*>admin\.token(.*)$", notes("riata-hub", hub_values()), re.MULTILINE)
    assert (taking[0].startswith("(umask 077; set -C; "), taking[1]) == (True, ")")


def test_an_upgrade_does_not_have_the_first_token_taken_again() -> None:
    """It is gone from the volume, and the shell empties the file that has it before the command can fail."""
    said = notes("riata-hub", hub_values(), is_upgrade=True)
    assert "rollout status" in said
    assert "admin.token" not in said


@pytest.mark.parametrize("chart", ["riata-agent", "riata-hub"])
def test_a_monitor_has_the_labels_by_which_prometheus_finds_it(chart: str) -> None:
    documents = render(chart, matrix.values_of(chart, "monitored"))
    found = [each for each in documents if each["apiVersion"].startswith("monitoring.coreos.com/")]
    kinds = {"riata-agent": {"PodMonitor"}, "riata-hub": {"ServiceMonitor", "PrometheusRule"}}
    assert {each["kind"] for each in found} == kinds[chart]
    for each in found:
        assert each["metadata"]["labels"]["release"] == "prometheus"
        assert each["metadata"]["labels"]["app.kubernetes.io/part-of"] == "riata"


def test_the_alerts_ask_this_hub_for_metrics_that_it_has() -> None:
    documents = render("riata-hub", matrix.values_of("riata-hub", "monitored"), release="berlin")
    (rule,) = (each for each in documents if each["kind"] == "PrometheusRule")
    (service,) = (
        each["metadata"]["name"]
        for each in documents
        if each["kind"] == "Service" and each["metadata"]["labels"].get("app.kubernetes.io/component") == "pods"
    )
    known = {name for name, *_ in reference.metrics()} | {"up"}
    (alerts,) = (group["rules"] for group in rule["spec"]["groups"])
    asked = [found for each in alerts for found in re.findall(r"(\w+)\{(.*?)\}", each["expr"])]
    assert {name for name, _ in asked} <= known
    assert len(asked) == 1 + 1 + 3 + 1 + 2
    for _, labels in asked:
        assert labels.startswith(f'namespace="riata-system", job="{service}"')
    (failing,) = (each["expr"] for each in alerts if each["alert"] == "RiataRequestsFail")
    failed, _, of_all = failing.partition(" / ")
    assert "riata_hub_requests_unanswered_total{" in failed, "503 of a pod behind …/proxy is no fault of the way to it"
    assert 'code!~"429|499"' in of_all, (
        "of an API server that hangs eight a second end with 504, and each client asks again a second after its 429"
    )
    told = {each["alert"]: " ".join(each["annotations"].values()) for each in alerts}
    assert "riata clusters show {{ $labels.cluster }}" in told["RiataClusterNotConnected"]


def test_alerts_without_anything_to_look_at_are_refused() -> None:
    with pytest.raises(Refused, match="/metrics/serviceMonitor/enabled"):
        render("riata-hub", hub_values(metrics={"prometheusRule": {"enabled": True}}))


def test_a_chart_has_the_programs_version() -> None:
    from proto.versions import PRODUCT_VERSION

    for chart in ("riata-agent", "riata-hub"):
        assert f'appVersion: "{PRODUCT_VERSION}"' in (ROOT / "charts" / chart / "Chart.yaml").read_text()


def test_every_pod_asks_for_linux_whatever_else_it_asks_for() -> None:
    """On a Windows node it would never run: a DaemonSet that counts such nodes stops in the middle of a new version."""
    more = {"nodeSelector": {"pool": "a"}}
    made = [*render("riata-agent", {**matrix.nodes(**more), **more}), *render("riata-hub", hub_values(**more))]
    assert [pod["nodeSelector"] for pod in pods(made)] == [{"kubernetes.io/os": "linux", "pool": "a"}] * 4


def test_the_cluster_agents_may_run_on_the_control_plane() -> None:
    """Of a control plane and one worker the worker was the only place of both: its drain never ended."""
    made = [each for each in render("riata-agent", matrix.nodes()) if "template" in each.get("spec", {})]
    tolerated = {
        each["metadata"]["name"]: {taint["key"] for taint in pods([each])[0].get("tolerations", [])} for each in made
    }
    roles = {"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"}
    everywhere = {*roles, "node-role.kubernetes.io/etcd"}
    assert tolerated == {
        "riata-agent": roles,
        "riata-agent-node": everywhere,
        "riata-agent-node-fallback": everywhere,
    }


def test_the_cluster_agents_prefer_workers_but_each_its_own_node_still_more() -> None:
    """The control plane's nodes are tolerated, and were taken first where they had most room."""
    (made,) = (each for each in render("riata-agent", matrix.nodes()) if each["kind"] == "Deployment")
    affinity = made["spec"]["template"]["spec"]["affinity"]
    ways = affinity["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]

    def points(*labels: str) -> int:
        terms = [(way["weight"], way["preference"]["matchExpressions"]) for way in ways]
        return sum(
            weight for weight, wanted in terms
            if all((each["key"] in labels) == (each["operator"] == "Exists") for each in wanted)
        )  # fmt: skip

    name = "kubernetes.io/hostname"
    # kube-scheduler stretches both affinities to 0 … 100 and weighs them alike: an anti-affinity of any weight is 100.
    assert (points(name, "node-role.kubernetes.io/control-plane"), points(name)) == (50, 100)
    assert "podAntiAffinity" in affinity


def test_the_two_daemonsets_share_the_nodes_out() -> None:
    first, second = (each for each in render("riata-agent", matrix.nodes()) if each["kind"] == "DaemonSet")
    terms = []
    for each in (first, second):
        affinity = each["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
        ((term,),) = (
            each["matchExpressions"]
            for each in affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        )
        terms.append(term)
    assert terms == [
        {"key": "riata.io.node-restriction.kubernetes.io/fallback", "operator": "DoesNotExist"},
        {"key": "riata.io.node-restriction.kubernetes.io/fallback", "operator": "Exists"},
    ]
    pod, fallback = (each["spec"]["template"]["spec"] for each in (first, second))
    assert (pod["serviceAccountName"], fallback["serviceAccountName"]) == (
        "riata-agent-node",
        "riata-agent-node-fallback",
    )
    for each in (pod, fallback):
        (token,) = (volume for volume in each["volumes"] if volume["name"] == "token")
        assert token["projected"]["sources"] == [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 600, "audience": "riata:hub-1:cluster-1"}}
        ]


def test_an_agent_that_enrols_keeps_its_key_in_the_secret_that_its_role_names() -> None:
    documents = render("riata-agent", matrix.AGENT["alone"])
    (pod,) = pods(documents)
    environ = {each["name"]: each["value"] for each in pod["containers"][0]["env"]}
    (role,) = (each for each in documents if each["kind"] == "Role")
    (rule,) = role["rules"]
    (name,) = rule["resourceNames"]
    assert environ["RIATA_AGENT_KEY_SECRET"] == f"riata-system/{name}"
    assert (rule["resources"], rule["verbs"]) == (["secrets"], ["get", "update"])
    shipped = next(each for each in documents if each["kind"] == "Secret" and each["metadata"]["name"] == name)
    assert not {"data", "stringData"} & set(shipped), "applying it again must not take the key away"
    (token,) = (volume["secret"] for volume in pod["volumes"] if volume["name"] == "token")
    assert token["optional"] is True
    assert environ["RIATA_AGENT_JOIN_TOKEN_FILE"] == "/var/run/secrets/riata/token"
    assert "RIATA_AGENT_TOKEN_FILE" not in environ


def test_the_encryption_key_is_the_same_for_whoever_touches_the_database() -> None:
    """An init container without it would make a key of its own, and the hub would refuse that database."""
    documents = render("riata-hub", matrix.values_of("riata-hub", "own encryption key"))
    found = containers(documents)
    assert len(found) == 2
    for container in found:
        environment = {each["name"]: each.get("value") for each in container["env"]}
        (mount,) = (each for each in container["volumeMounts"] if each["name"] == "encryption")
        assert environment["RIATA_HUB_ENCRYPTION_KEY_FILE"] == f"{mount['mountPath']}/encryption.key"
        assert mount["readOnly"] is True


@pytest.mark.parametrize("chart", ["riata-agent", "riata-hub"])
def test_who_deletes_a_release_keeps_the_namespace(chart: str) -> None:
    """Hub and agent share it where the hub's cluster is a member, and it holds the hub's volume."""
    values = {**(agent_values() if chart == "riata-agent" else hub_values()), "namespace": {"create": True}}
    (namespace,) = (each for each in render(chart, values) if each["kind"] == "Namespace")
    assert namespace["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


@pytest.mark.parametrize(
    ("rolling", "expected"),
    [
        ({}, {"maxUnavailable": "10%"}),
        ({"maxSurge": 0}, {"maxUnavailable": "10%", "maxSurge": 0}),
        ({"maxSurge": "0%"}, {"maxUnavailable": "10%", "maxSurge": "0%"}),
        ({"maxSurge": 1}, {"maxUnavailable": 0, "maxSurge": 1}),
        ({"maxSurge": "25%"}, {"maxUnavailable": 0, "maxSurge": "25%"}),
    ],
)
def test_node_agents_that_surge_are_not_unavailable_too(rolling: dict[str, Any], expected: dict[str, Any]) -> None:
    """Kubernetes refuses a DaemonSet in which neither of the two, or both, is 0, and takes 1 for what is missing."""
    documents = render("riata-agent", matrix.nodes(updateStrategy={"rollingUpdate": rolling}))
    found = [each["spec"]["updateStrategy"] for each in documents if each["kind"] == "DaemonSet"]
    assert found == [{"type": "RollingUpdate", "rollingUpdate": expected}] * 2


@pytest.mark.parametrize("value", [{"externalTrafficPolicy": "Local"}, {"nodePort": 30443}])
def test_what_the_api_server_refuses_of_an_inner_service_is_refused_before(value: dict[str, Any]) -> None:
    with pytest.raises(Refused, match=r"give service\.type=LoadBalancer or NodePort"):
        render("riata-hub", hub_values(service=value))
    made = render("riata-hub", hub_values(service={"type": "LoadBalancer", **value}))
    service = next(each for each in made if each["kind"] == "Service" and each["spec"]["type"] == "LoadBalancer")
    assert value.items() <= {**service["spec"], **service["spec"]["ports"][0]}.items()


BELOW = "https://hub.example.org/riata"


def test_a_path_that_nothing_takes_away_is_refused() -> None:
    """The hub knows no path: it would answer 404 to everybody."""
    through = {"enabled": True, "parentRefs": [{"name": "front"}]}
    with pytest.raises(Refused, match=r"publicUrl has a path.*ingress\.annotations"):
        render("riata-hub", {"publicUrl": BELOW, "ingress": {"enabled": True}})
    with pytest.raises(Refused, match=r"publicUrl has a path.*gateway\.kind=HTTPRoute"):
        render("riata-hub", {"publicUrl": BELOW, "gateway": through})
    assert render("riata-hub", {"publicUrl": "https://hub.example.org/", "gateway": through})


def test_an_ingress_takes_the_path_of_the_hub_and_not_the_whole_host() -> None:
    """A path mostly means that the host is shared with others."""
    annotated = {"enabled": True, "annotations": {"a": "b"}}
    for url, path in ((BELOW, "/riata"), ("https://hub.example.org", "/")):
        documents = render("riata-hub", {"publicUrl": url, "ingress": annotated})
        (ingress,) = (each for each in documents if each["kind"] == "Ingress")
        assert [each["path"] for each in ingress["spec"]["rules"][0]["http"]["paths"]] == [path]


@pytest.mark.parametrize(
    ("url", "path"), [(BELOW, "/riata"), (f"{BELOW}/x/", "/riata/x"), ("https://hub.example.org/", "")]
)
def test_a_route_takes_the_path_away(url: str, path: str) -> None:
    gateway = {"enabled": True, "kind": "HTTPRoute", "parentRefs": [{"name": "front"}]}
    documents = render("riata-hub", {"publicUrl": url, "gateway": gateway})
    ((rule,),) = (each["spec"]["rules"] for each in documents if each["kind"] == "HTTPRoute")
    assert [each["path"] for each in rule.get("matches", [])] == (
        [{"type": "PathPrefix", "value": path}] if path else []
    )
    rewrites = [each["urlRewrite"]["path"] for each in rule.get("filters", [])]
    assert rewrites == ([{"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}] if path else [])
