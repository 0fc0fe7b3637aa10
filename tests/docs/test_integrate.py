"""docs/operate/integrate.md: what it has people write is what the hub understands."""

import base64
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ctl import durations
from ctl.kubeconfig import entries
from hub.config import ApiSettings
from hub.proxy import classify, path
from tests.harness.prometheus import obstacle

PAGE = (Path(__file__).parents[2] / "docs" / "operate" / "integrate.md").read_text()
HUB = "https://hub.example.org"
CONFIGS = re.findall(r"^```yaml\n(scrape_configs:\n.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def relabelled(labels: dict[str, str]) -> dict[str, str]:
    """The labels of a pod's target behind the last configuration's rules, as Prometheus applies them; none: dropped."""
    (job,) = yaml.safe_load(CONFIGS[-1])["scrape_configs"]
    for rule in job["relabel_configs"]:
        source = ";".join(labels.get(name, "") for name in rule.get("source_labels", []))
        met = re.fullmatch(rule.get("regex", "(.*)"), source, re.DOTALL)
        if rule.get("action") == "keep":
            if met is None:
                return {}
        elif met is not None:
            template = re.sub(r"\$\{?(\d)\}?", r"\\\1", rule.get("replacement", "$1"))
            labels = {**labels, rule["target_label"]: met.expand(template)}
    return labels


POD = {
    "__address__": "10.1.2.3:8080",
    "__metrics_path__": "/metrics",
    "__meta_kubernetes_namespace": "shop",
    "__meta_kubernetes_pod_name": "web-0",
    "__meta_kubernetes_pod_phase": "Running",
    "__meta_kubernetes_pod_container_port_number": "8080",
    "__meta_kubernetes_pod_annotation_prometheus_io_scrape": "true",
}


def test_a_pod_is_scraped_through_the_hub() -> None:
    found = relabelled(POD)
    assert found["__address__"] == "hub.example.org:443"
    place = path.split(found["__metrics_path__"].encode())
    assert place == ("berlin", b"/api/v1/namespaces/shop/pods/web-0:8080/proxy/metrics")
    assert classify.classify(b"GET", place.rest).verb == "proxy"
    assert (found["instance"], found["cluster"]) == ("shop;web-0;8080", "berlin"), "else all would be one target"


@pytest.mark.parametrize("lacking", ["pod_container_port_number", "pod_annotation_prometheus_io_scrape", "pod_phase"])
def test_what_cannot_be_scraped_is_no_target(lacking: str) -> None:
    """Least of all the hub itself, which its address would be."""
    assert relabelled({name: value for name, value in POD.items() if not name.endswith(lacking)}) == {}


@pytest.mark.skipif(obstacle() is not None, reason=str(obstacle()))
@pytest.mark.parametrize("number", range(3))
def test_promtool_understands_the_configurations(number: int, tmp_path: Path) -> None:
    """But for the part that Debian's is built without."""
    config = yaml.safe_load(CONFIGS[number])
    for job in config["scrape_configs"]:
        job.pop("kubernetes_sd_configs", None)
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    (tmp_path / "riata.token").write_text("riata_a_0")
    (tmp_path / "hub-ca.crt").write_bytes(Path("/etc/ssl/certs/ca-certificates.crt").read_bytes())
    command = ["promtool", "check", "config", "prometheus.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_argo_cd_is_given_the_cluster_at_the_hub(tmp_path: Path) -> None:
    (command,) = re.findall(r"^kubectl --namespace argocd create .*?^END$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "argocd.token").write_text("riata_a_0123\n")
    (tmp_path / "hub-ca.crt").write_text("-----BEGIN CERTIFICATE-----\n" + "MIIB\n" * 40)
    script = f"kubectl() {{ cat; }}\n{command}\n"
    done = subprocess.run(["sh", "-eu", "-c", script], cwd=tmp_path, capture_output=True, timeout=10, check=True)
    secret: dict[str, Any] = yaml.safe_load(done.stdout)
    assert secret["metadata"]["labels"] == {"argocd.argoproj.io/secret-type": "cluster"}
    assert secret["stringData"]["server"] == entries.server(HUB, "berlin")
    config = json.loads(secret["stringData"]["config"])
    assert config["bearerToken"] == "riata_a_0123"
    assert base64.b64decode(config["tlsClientConfig"]["caData"]) == (tmp_path / "hub-ca.crt").read_bytes()


def test_a_job_without_riata_names_the_same_server_and_no_secret() -> None:
    (text,) = re.findall(r"^```yaml\n(apiVersion: v1\nkind: Config\n.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    config = yaml.safe_load(text)
    ours = entries.document(entries.build(HUB, "", "", ["berlin"], "riata"), "riata-berlin")
    assert set(config) == set(ours)
    assert config["clusters"][0]["cluster"]["server"] == ours["clusters"][0]["cluster"]["server"]
    assert config["users"][0]["user"] == {"tokenFile": "ci.token"}
    assert config["contexts"][0]["context"] == {"cluster": config["clusters"][0]["name"], "user": "ci"}


def test_no_token_is_asked_for_longer_than_the_hub_gives() -> None:
    """It would be cut, and end before the page says so."""
    asked = re.findall(r"--(?:expires-in|token-expiry) (\d+\w)", PAGE)
    assert asked
    assert max(map(durations.parse, asked)) <= ApiSettings().token_lifetime_max_s
    assert f"({ApiSettings().token_lifetime_max_s / 86_400:g} days)" in PAGE
