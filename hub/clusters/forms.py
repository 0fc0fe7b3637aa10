"""Two more forms of the agent's manifest: text to paste where only curl and kubectl are, and values for the chart."""

from __future__ import annotations

import re
import shlex
from typing import Any, Final

from hub.clusters import manifest
from hub.clusters.manifest import ManifestError, ManifestValues

PATH: Final = "/v1/manifest"
"""Where a join token fetches the manifest of its own cluster."""

# For dash, bash, ksh and zsh. The secret is in here-documents and files of a private directory, never in an argument
# or the environment. `-q` keeps a ~/.curlrc out, which may say `insecure`. No exclamation mark outside of quotes:
# interactive shells would take it for history. Delimiters hold an underscore, which neither PEM nor token can.
_SHELL: Final = """\
sh <<'RIATA_END'
set -eu
umask 077
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
trap 'exit 1' HUP INT TERM
cat >"$directory/ca.crt" <<'CA_END'
{ca}
CA_END
cat >"$directory/authorization" <<'TOKEN_END'
Authorization: Bearer {token}
TOKEN_END
status=$(curl -q --silent --show-error --globoff --proto =https --tlsv1.2 --max-time 60 \\
  --cacert "$directory/ca.crt" -H "@$directory/authorization" \\
  --output "$directory/manifest.yaml" --write-out '%{{http_code}}' {url})
case $status in
  200) kubectl apply -f - <"$directory/manifest.yaml" ;;
  *) cat "$directory/manifest.yaml" >&2; exit 1 ;;
esac
RIATA_END
"""

_IMAGE: Final = re.compile(
    r"(?:(?P<registry>[^/]*[.:][^/]*|localhost)/)?(?P<repository>[^:@]+)(?::(?P<tag>[^:@]+))?(?:@(?P<digest>.+))?"
)


def shell(values: ManifestValues) -> str:
    """What is pasted into a POSIX shell. Raises ManifestError when the hub's CA is not known: curl needs it."""
    if not values.ca_pem:
        raise ManifestError("ca_pem: the hub does not have the CA behind its pins, and curl would verify nothing")
    url = shlex.quote(values.hub_url.rstrip("/") + PATH)
    return _SHELL.format(ca=values.ca_pem.strip(), token=values.token, url=url)


def helm(values: ManifestValues) -> str:
    """A values file for the chart riata-agent, as YAML."""
    found = _IMAGE.fullmatch(values.image)
    if found is None:
        raise ManifestError(f"image {values.image!r} is malformed")
    image = {name: text for name, text in found.groupdict().items() if text}
    document: dict[str, Any] = {
        "image": image,
        "hub": {
            "url": values.hub_url,
            "caPins": list(values.ca_pins),
            "ca": values.ca_pem,
            "audience": values.audience,
            "clusterUid": values.cluster_uid,
        },
        "enrolment": {"enabled": True},
        "token": {"value": values.token},
        "rbac": {"profile": values.profile, "clusterAdmins": values.cluster_admins},
        "nodeAgents": {"enabled": values.node_agents},
    }
    return manifest.dump([document])
