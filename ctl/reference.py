"""Writes docs/reference/cli.md from the command tree: `python -m ctl.reference > docs/reference/cli.md`."""

import re
import sys

from ctl import cli, errors

_HEAD = """\
# Command line: `riata`

Made from the command tree by `python -m ctl.reference`; a test fails when the two differ.

## Rules for every command

- Data goes to standard output, messages go to standard error. `-o json` and `-o yaml` print what the API answers;
  `-o name` prints one name (or token id) a line. The columns of `-o table` are for people and may grow.
- A secret is shown once, when it is made: alone on standard output, or in the file given with `--write-token`
  (mode 0600), which must not exist yet. No option takes a secret; files do.
- A failure says what happened, what it means and what to do next, and ends with one of these exit codes:

| code | meaning |
|---|---|
"""

_ENVIRONMENT = """
## Environment

| variable | meaning |
|---|---|
| `RIATA_HUB` | URL of the hub; a stored login of another hub is not used, and `--profile` with one is an error |
| `RIATA_CA_FILE` | PEM file of the hub's CA |
| `RIATA_TOKEN_FILE` | file with the token |
| `RIATA_PROFILE` | which stored login to use |
| `RIATA_CONFIG` | the configuration file; otherwise `${XDG_CONFIG_HOME:-~/.config}/riata/config.yaml` |
| `KUBECONFIG`, `HOME` | where `riata kubeconfig --merge` writes, by kubectl's rules |
| `HTTPS_PROXY`, `NO_PROXY` | HTTP proxy, by kubectl's rules: loopback is never proxied, `NO_PROXY` may hold CIDRs |

"""

DEMO = {
    "hub_url": "URL of the hub",
    "ca_file": "PEM file of the hub's CA",
    "ca_pin": "`sha256:…` of that CA's public key",
    "admin_token_file": "file with the token of the hub's administrator",
    "metrics_url": "the hub's metrics",
    "kubeconfig": "a kubeconfig with one context for each cluster, valid for a day",
    "kubectl": "the kubectl that was built with the clusters; null with `--kubeconfig`",
    "clusters[].name": "name of the cluster on the hub",
    "clusters[].size": "`full` (real pods), `light` (an API server and simulated nodes) or `yours`",
    "clusters[].namespace": "the Kubernetes namespace of the sample workloads and of the context; empty for `yours`",
    "clusters[].network_namespace": "the Linux network namespace of a full cluster, as a path for root to enter: "
    "`nsenter --net=PATH COMMAND`; null for the others, which are in the machine's own",
    "clusters[].note": "what it is made of, in words",
    "clusters[].context": "its context in the kubeconfig",
    "pids": "process ids by role: `hub`, `CLUSTER/agent`; of clusters that the demo made also `CLUSTER/etcd` …",
}
"""Keys of the object that `riata demo -o json` prints, and what they hold."""

_DEMO_HEAD = """
## The object of `riata demo -o json`

Printed once everything is connected and works; the demo then stays until SIGTERM.

| key | what it holds |
|---|---|
"""


def page() -> str:
    """The whole page."""
    codes = "".join(f"| {code.value} | {code.meaning} |\n" for code in errors.Exit)
    tree = cli.build().generate_docs(output_format="markdown", heading_level=2)
    tree = re.sub(r"^(riata [a-z -]+?) -m \S+", r"\1", tree, flags=re.MULTILINE)  # cyclopts looks at how *we* were run
    lines = (line.rstrip() for line in tree.splitlines())
    demo = "".join(f"| `{key}` | {held} |\n" for key, held in DEMO.items())
    return f"{_HEAD}{codes}{_ENVIRONMENT}" + "\n".join(lines).strip() + f"\n{_DEMO_HEAD}{demo}"


if __name__ == "__main__":
    sys.stdout.write(page())
