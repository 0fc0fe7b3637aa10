"""What the demo gives out when it is ready: a kubeconfig, and commands to try."""

import dataclasses
import pathlib
import shlex
import shutil

from ctl import client, files
from ctl.demo import children, running
from ctl.kubeconfig import entries, yamltext

_TOKEN_S = 86_400
"""A demo is for an afternoon; its token ends with the day at the latest."""


async def kubeconfig(demo: running.Running) -> pathlib.Path:
    """Write the demo's kubeconfig: one context for each cluster, a token of the administrator for them."""
    login = demo.login()
    names = [cluster.name for cluster in demo.clusters]
    body = {"name": "demo", "expiresInSeconds": _TOKEN_S, "clusters": names}
    async with client.HubClient(login, {}) as hub:
        made = await hub.post(client.target("v1", "tokens"), body)
    spaces = {entries.context_name("riata", c.name): c.namespace for c in demo.clusters}
    ours = [_in_namespace(e, spaces) for e in entries.build(login.hub, login.ca, str(made["token"]), names, "riata")]
    path = demo.directory / "kubeconfig"
    files.write_secret(path, yamltext.block(entries.document(ours, ours[0].name), "\n"))
    return path


def _in_namespace(entry: entries.Entry, spaces: dict[str, str]) -> entries.Entry:
    if entry.section != "contexts" or not spaces[entry.name]:
        return entry
    return dataclasses.replace(entry, body={**entry.body, "namespace": spaces[entry.name]})


def guide(demo: running.Running, path: pathlib.Path) -> str:
    """Text for a person, every command ready to paste: programs that need not be on the PATH by their whole path."""
    width = max(len(name) for name in ("hub", *(c.name for c in demo.clusters)))
    lines = [
        "",
        f"{'hub':<{width}}   {demo.hub_url}",
        *(f"{c.name:<{width}}   {c.size}: {c.note}" for c in demo.clusters),
    ]
    lines += ["", "# this terminal stays with the demo: paste what you like of this into a second one"]
    lines.append(f"export KUBECONFIG={shlex.quote(str(path))}")
    if shutil.which("kubectl") is None:
        lines.append(_path_to_kubectl(demo))
    for cluster in demo.clusters:
        lines += _commands(cluster)
    riata = shlex.join(children.program("riata", "ctl"))
    files = shlex.join(["--ca-file", str(demo.ca_file), "--token-file", str(demo.admin_token_file)])
    lines += [
        "",
        "# as the hub's administrator:",
        f"{riata} login --profile demo --hub {demo.hub_url} {files}",
        f"{riata} clusters list --profile demo",
    ]
    return "\n".join(lines)


def _path_to_kubectl(demo: running.Running) -> str:
    if demo.kubectl is None:
        return "# there is no kubectl on your PATH: install one first"
    return f'export PATH="$PATH":{shlex.quote(str(demo.kubectl.parent))}   # you have no kubectl: take ours'


def _commands(cluster: running.DemoCluster) -> list[str]:
    kubectl = f"kubectl --context riata-{cluster.name}"
    if cluster.size == "full":
        return [
            f"{kubectl} get nodes",
            f"{kubectl} exec -it deploy/hello -- sh",
            f"{kubectl} logs -f deploy/hello",
            f"{kubectl} port-forward deploy/hello 8080:8080",
        ]
    if cluster.size == "light":
        return [f"{kubectl} get pods -o wide --watch", f"{kubectl} scale deploy/hello --replicas=30"]
    return [f"{kubectl} get nodes", f"{kubectl} get pods --all-namespaces --watch"]
