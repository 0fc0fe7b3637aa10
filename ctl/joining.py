"""What to do with a new cluster, every line ready to paste."""

import shlex
from collections.abc import Mapping
from typing import Any

from ctl import options, terminal


def guide(made: Mapping[str, Any], profile: str = "") -> str:
    """For the answer to a creation: how its agent is brought in. What the hub sent cannot drive the terminal.
    `profile`: as it was typed."""
    name = shlex.quote(str(made.get("name"))) + options.typed(profile)
    command = f"riata clusters manifest {name} | kubectl apply -f -"
    if not profile:
        command = str(made.get("command") or command)
    lines = ["", "# next, where riata and kubectl are:", command]
    manifest = made.get("manifest")
    if isinstance(manifest, Mapping) and manifest.get("shell"):
        lines += [
            "",
            f"# or, where only curl and kubectl are, all of this (until {manifest.get('expiresAt')}, one agent key):",
            str(manifest["shell"]).rstrip("\n"),
        ]
    lines += [
        "",
        "# or with Helm:",
        f"(umask 077; riata clusters manifest {name} --values > values.yaml)",
        "helm install riata-agent deploy/charts/riata-agent --namespace riata-system --create-namespace -f values.yaml",
        "",
        "# or to read it first:",
        f"(umask 077; riata clusters manifest {name} > agent.yaml)",
    ]
    return terminal.clean("\n".join(lines))
