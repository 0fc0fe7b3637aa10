"""What can be wrong on the cluster's side, and the cure. The way to the hub is in proto.causes."""

from typing import Final

from proto.causes import Cause, Level

NAMES: Final[dict[str, str]] = {}
"""Nothing to fill in: these rows are read by one reader."""

SETTINGS_PIN = Cause(
    "settings-pin",
    "settings",
    "{said}",
    "Give the whole pin as `riata-hub init` prints it: sha256: and 64 hex digits; two with a comma while the CA is"
    " replaced",
)
SETTINGS_WRONG = Cause(
    "settings-wrong", "settings", "{said}", "Mend the flag or its variable: riata-agent doctor --help lists both"
)
AGENT_UNREADY = Cause(
    "agent-unready",
    "agent",
    "the agent runs here and is not connected; it says: {said}",
    "The checks below look for the reason; what the hub knows of this agent: riata agents list",
)
AGENT_NONE = Cause(
    "agent-none",
    "agent",
    "no agent listens at {at} (--health-listen)",
    "Start it, or run the doctor where it runs; before the first start this is as it should be",
    level=Level.WARN,
)
KUBE_UNREACHABLE = Cause(
    "kube-unreachable",
    "kube",
    "the API server {at} cannot be reached ({said})",
    "Check --kube-url; in a pod: a NetworkPolicy must let the agent reach the API server, and no proxy is used for it",
)
KUBE_OTHER_CA = Cause(
    "kube-other-ca",
    "kube",
    "the API server's certificate is not acceptable ({said})",
    "Give its CA in --kube-ca-file (in a pod: the ConfigMap kube-root-ca.crt), and a name that is in its certificate;"
    " for a CA of an old form --kube-legacy-ca (in a pod: RIATA_AGENT_KUBE_LEGACY_CA=true, in the chart's extraEnv)",
)
KUBE_AROUND = Cause(
    "kube-around",
    "kube",
    "the API server answers at {at}, an endpoint of --kube-endpoints-file, and not by its Service: {said}",
    "The agent goes on by the endpoint; look why the Service is no way to it: kube-proxy, or what does its work on this"
    " node, and NetworkPolicies",
    level=Level.WARN,
)
KUBE_ANSWER = Cause(
    "kube-answer",
    "kube",
    "the API server answered {status} to the question for its version",
    "See the API server's own health: kubectl get --raw /readyz?verbose",
)
KUBE_TOKEN = Cause(
    "kube-token",
    "kube-token",
    "{said}",
    "Check --kube-token-file; in a pod: the projected volume kube-api-access of the chart",
)
KUBE_UNAUTHORIZED = Cause(
    "kube-unauthorized",
    "kube-token",
    "the API server does not accept the agent's token (401)",
    "It has expired, or its ServiceAccount was made anew: restart the pod; outside one, make another (kubectl create"
    " token)",
)
RBAC_MISSING = Cause(
    "rbac-missing",
    "rbac",
    "{missing} of the {of} rights of profile {profile} are missing: {rights}",
    "Apply the agent's chart or manifest again with that rbac.profile; look whether its bindings name this"
    " ServiceAccount: {account}",
)
RBAC_NO_LEASE = Cause(
    "rbac-no-lease",
    "rbac",
    "the rights are there, the Lease {lease} is not: nobody chooses the fallback nodes",
    "Apply the agent's chart or manifest again, which ships it empty; Argo CD leaves Leases out (resource.exclusions):"
    " docs/operate/integrate.md says how to make it",
)
RBAC_UNASKED = Cause(
    "rbac-unasked",
    "rbac",
    "the API server cannot be asked for the agent's rights ({said})",
    "Every ServiceAccount may ask so by default: look for the ClusterRoleBinding system:basic-user",
    level=Level.WARN,
)
