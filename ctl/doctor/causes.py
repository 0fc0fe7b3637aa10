"""What can be wrong on the operator's side, and the cure. The way to the hub is in proto.causes."""

from typing import Final

from proto.causes import Cause, Level

LOGIN: Final = "login"
CREDENTIAL: Final = "credential"
VERSION: Final = "version"
WEBSOCKET: Final = "websocket"
CLUSTERS: Final = "clusters"
KUBECONFIG: Final = "kubeconfig"

PROXY_NOT_HTTP = Cause(
    "proxy-not-http",
    "proxy",
    "{said}",
    "Set it to http://HOST:PORT, or add the hub's host to NO_PROXY: riata goes through no SOCKS proxy",
)
LOGIN_NONE = Cause(
    "login-none", LOGIN, "{said}", "riata login --hub https://HOST:PORT --ca-file FILE --token-file FILE"
)
LOGIN_UNUSABLE = Cause(
    "login-unusable", LOGIN, "{said}", "Mend or remove the file or variable that is named, and run riata login again"
)
CA_MISSING = Cause(
    "ca-missing",
    "pin",
    "the hub's certificate does not come from a CA that this machine trusts, and the login names no other",
    "Get the hub's CA from whoever runs it (tls/ca.crt in its data directory), then riata login --hub URL --ca-file"
    " FILE --token-file FILE, with the --profile that is to have it",
)
TOKEN_REFUSED = Cause(
    "token-refused",
    CREDENTIAL,
    "the hub does not accept the login's token (401)",
    "It has expired or was revoked: riata login with a new one (an administrator: riata tokens create)",
)
TOKEN_ENDS = Cause(
    "token-ends",
    CREDENTIAL,
    "the login's token ends at {at}",
    "Make another while it is good (riata tokens create), and riata login with it",
    level=Level.WARN,
)
TOKEN_ENDS_USER = Cause(
    "token-ends-user",
    CREDENTIAL,
    "the login's token ends at {at}, and with it all that you make with it",
    "Have another made by an administrator: {command}, and riata login with it",
    level=Level.WARN,
)
HTTP_SILENT = Cause(
    "http-silent",
    "http",
    "the connection stands, and {asked} is not answered in time",
    "The hub, or what stands in front of it, is stuck or overloaded: wait a moment and try again; if it stays so, the"
    " hub's log says what keeps it",
)
API_STRANGE = Cause(
    "api-strange",
    "http",
    "{path} is not answered as by a riata hub (HTTP {status})",
    "Check {url}; a proxy or another program may have answered",
)
VERSION_APART = Cause(
    "version-apart",
    VERSION,
    "this command is {ours}, the hub {theirs}",
    "Use a riata of the hub's version: the two may differ by one minor version",
    level=Level.WARN,
)
WEBSOCKET_K8S = Cause(
    "websocket-k8s",
    WEBSOCKET,
    "an upgrade below /k8s/ is not answered by the hub (HTTP {status})",
    "kubectl exec needs it: let what stands in front of the hub pass every path below it, with Connection and Upgrade",
)
CLUSTER_AWAY = Cause(
    "cluster-away",
    CLUSTERS,
    "no agent of cluster {name} is connected{since}",
    "In that cluster: kubectl --namespace riata-system exec deploy/riata-agent -- riata-agent doctor; if there is no"
    " such pod, look at the Deployment's events",
)
CLUSTER_NEW = Cause(
    "cluster-new",
    CLUSTERS,
    "no agent of cluster {name} has joined since the hub started",
    "riata clusters manifest {name} | kubectl apply -f - (with the options of the first time, if there was one); if"
    " that was done: riata-agent doctor in the agent's pod",
    level=Level.WARN,
)
CLUSTER_FALLBACK = Cause(
    "cluster-fallback",
    CLUSTERS,
    "cluster {name} is served by the agent of node {node} since {since}: no cluster agent of it answers",
    "kubectl works; look at the Deployment: kubectl --namespace riata-system get pods, and riata-agent doctor in one",
    level=Level.WARN,
)
CLUSTER_SILENT = Cause(
    "cluster-silent",
    CLUSTERS,
    "cluster {name} is connected, and does not answer: {said}",
    "Its API server may be down, or the agent cannot use it: riata-agent doctor in the agent's pod looks at both",
)
CLUSTER_UNASKED = Cause(
    "cluster-unasked",
    CLUSTERS,
    "cluster {name} is connected, and could not be asked now: {said}",
    "It passes by itself: try again",
    level=Level.WARN,
)
CLUSTERS_UNKNOWN = Cause(
    "clusters-unknown",
    CLUSTERS,
    "the hub does not say which clusters there are: {said}",
    "Name those to look at: riata doctor CLUSTER…; riata clusters list asks the hub the same",
)
CLUSTERS_UNLISTED = Cause(
    "clusters-unlisted",
    CLUSTERS,
    "the hub does not say which clusters there are: {said}",
    "What was found of the clusters that you named stands above; riata clusters list asks the hub the same",
)
KUBECONFIG_NONE = Cause(
    "kubeconfig-none",
    KUBECONFIG,
    "no kubeconfig that kubectl reads has a context of this hub",
    "riata kubeconfig --all --merge",
    level=Level.WARN,
)
KUBECONFIG_UNREADABLE = Cause(
    "kubeconfig-unreadable",
    KUBECONFIG,
    "{said}",
    "Repair the file, or take it out of KUBECONFIG",
)
KUBECONFIG_GONE = Cause(
    "kubeconfig-gone",
    KUBECONFIG,
    "context {context}: the hub shows no cluster {name}",
    "It was deleted, or your grant for it has ended: kubectl config delete-context {context}",
    level=Level.WARN,
)
KUBECONFIG_UNSHOWN = Cause(
    "kubeconfig-unshown",
    KUBECONFIG,
    "context {context}: the hub shows this login no cluster {name}, and does not accept the context's token (401)",
    "If it is another login's: riata kubeconfig {arguments} --merge, with that one's --profile; else the cluster was"
    " deleted, or your grant for it has ended: kubectl config delete-context {context}",
    level=Level.WARN,
)
KUBECONFIG_UNASKED = Cause(
    "kubeconfig-unasked",
    KUBECONFIG,
    "context {context}: the hub shows this login no cluster {name}, and the file has no token to ask with",
    "Ask with what the context brings: kubectl --context {context} version. Forbidden or NotFound from the server: the"
    " cluster was deleted or a grant for it has ended, and the context may go; any other error says nothing of that",
    level=Level.WARN,
)
KUBECONFIG_TOKEN = Cause(
    "kubeconfig-token",
    KUBECONFIG,
    "context {context}: the hub does not accept its token (401)",
    "It has expired or was revoked: riata kubeconfig {arguments} --merge makes a new one",
)
KUBECONFIG_SCOPE = Cause(
    "kubeconfig-scope",
    KUBECONFIG,
    "context {context}: its token is for other clusters than {name}",
    "It may be of an earlier cluster of this name: riata kubeconfig {arguments} --merge makes a new one",
)
KUBECONFIG_CA = Cause(
    "kubeconfig-ca",
    KUBECONFIG,
    "context {context}: it trusts another CA than this login",
    "The hub's CA was replaced, or the entry is an old one: riata kubeconfig {arguments} --merge",
)
