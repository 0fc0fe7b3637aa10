"""What the management API takes and gives. The OpenAPI document is generated from these models; requests are checked by
them, and a mistake is answered with the field and the cure."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, Self

import pydantic
from pydantic import AfterValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from hub.auth.principal import check_name
from hub.clusters.manifest import Profile, check_image
from hub.clusters.records import NAME_PATTERN
from hub.route import Reason

LABELS_MAX: Final = 64
GROUPS_MAX: Final = 64
CLUSTERS_MAX: Final = 5000
IMPERSONATED_MAX: Final = 256

_LABEL_KEY: Final = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
)
_LABEL_VALUE: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_GRANT_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")
_DISPLAY_NAME: Final = re.compile(r"[!-~](?:[ -~]{0,251}[!-~])?")


def _matches(pattern: re.Pattern[str], rule: str) -> AfterValidator:
    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(rule)
        return value

    return AfterValidator(check)


def _check_labels(labels: dict[str, str]) -> dict[str, str]:
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            raise ValueError(f"{key[:80]!r} is no label of the Kubernetes form [prefix/]name=value")
    return labels


def _check_impersonated(name: str) -> str:
    return name if name == "*" else check_name(name)


ClusterName = Annotated[
    str, _matches(NAME_PATTERN, "is a letter a-z, then up to 62 of a-z, 0-9 and -"), Field(examples=["berlin-1"])
]
ClusterNameOrAll = Annotated[
    str, _matches(re.compile(rf"\*|{NAME_PATTERN.pattern}"), "is the name of a cluster, or * for every cluster")
]
GrantName = Annotated[str, _matches(_GRANT_NAME, "is up to 63 of a-z, 0-9, - and ., a letter or digit at both ends")]
DisplayName = Annotated[str, _matches(_DISPLAY_NAME, "is 1 to 253 printable ASCII characters, no space at the ends")]
PrincipalName = Annotated[str, AfterValidator(check_name), Field(max_length=253)]
ImpersonatedName = Annotated[str, AfterValidator(_check_impersonated), Field(max_length=253)]
Labels = Annotated[dict[str, str], AfterValidator(_check_labels), Field(max_length=LABELS_MAX)]
JoinLifetime = Annotated[int, Field(ge=60, le=86_400)]
Lifetime = Annotated[int, Field(ge=1, le=10**10)]
RoleName = Literal["use", "admin", "hub-admin"]
Time = Annotated[str, Field(description="RFC 3339, UTC, whole seconds.", json_schema_extra={"format": "date-time"})]


class Request(pydantic.BaseModel):
    """A body that a caller sends: unknown fields are errors, text is never taken for a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, alias_generator=to_camel)


class Answer(pydantic.BaseModel):
    """A body that the hub sends."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, validate_by_name=True, serialize_by_alias=True)


class Impersonation(pydantic.BaseModel):
    """Whom the holder of a grant may act as (`kubectl --as`); `*` is anybody."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    users: Annotated[list[ImpersonatedName], Field(max_length=IMPERSONATED_MAX)] = []
    groups: Annotated[list[ImpersonatedName], Field(max_length=IMPERSONATED_MAX)] = []


class ManifestRequest(Request):
    image: Annotated[str, AfterValidator(check_image), Field(max_length=512)] | None = Field(
        None, description="Reference of the agent's image. Absent: the hub's `api.agent_image`."
    )
    profile: Profile = Field("impersonate", description="RBAC profile of the agents.")
    node_agents: bool = Field(True, description="Also an agent on each node.")
    cluster_admins: bool = Field(True, description="Bind the hub's grant `admin` to cluster-admin.")
    expires_in_seconds: JoinLifetime | None = Field(None, description="Life of the join token inside.")


class ClusterRequest(Request):
    name: ClusterName
    labels: Labels = {}
    manifest: ManifestRequest | None = Field(
        None, description="Given, also `{}`: make a join token too, and answer with everything that is made with it."
    )


class AgentTokenRequest(Request):
    name: DisplayName
    expires_in_seconds: Lifetime | None = Field(None, description="Absent: valid until it is revoked.")


class JoinTokenRequest(Request):
    expires_in_seconds: JoinLifetime | None = Field(None, description="Absent: what the hub is set to, 900 (15 min).")


class TokenRequest(Request):
    name: DisplayName
    user: PrincipalName | None = Field(None, description="Absent: the caller. Another user needs hub administration.")
    groups: Annotated[list[PrincipalName], Field(max_length=GROUPS_MAX)] | None = Field(
        None, description="Absent: the caller's own, or none for another user."
    )
    expires_in_seconds: Lifetime = Field(
        description="Shortened to the hub's maximum; for those who do not administer it, also to the life of their own."
    )
    clusters: Annotated[list[ClusterName], Field(min_length=1, max_length=CLUSTERS_MAX)] | None = Field(
        None, description="Absent: whatever the grants allow, within the scope of the caller's own token."
    )


class GrantRequest(Request):
    name: GrantName
    user: PrincipalName | None = Field(None, description="Exactly one of `user` and `group`.")
    group: PrincipalName | None = None
    cluster: ClusterNameOrAll = Field("*", description="A cluster's name, or `*` for every one.")
    role: RoleName = "use"
    impersonate: Impersonation | None = None

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        if (self.user is None) == (self.group is None):
            raise ValueError("give exactly one of user and group")
        if self.role == "hub-admin" and self.cluster != "*":
            raise ValueError("the role hub-admin concerns every cluster: leave cluster out, or use the role admin")
        return self


class AgentQuery(pydantic.BaseModel):
    """Numbers come as text here, and what is unknown is passed over, as it is on every other route."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    cluster: ClusterName | None = Field(None, description="Only the agents of this one; none where there is no such.")
    limit: int | None = Field(
        None, ge=1, description="End the answer behind the cluster with which it has so many; absent: all in one."
    )
    continue_: str | None = Field(None, alias="continue", description="As the answer before said: what comes next.")


class WhoAmI(Answer):
    user: str
    groups: list[str]
    admin: bool
    token: str = Field(description="Id of the token, not the token.")
    token_expires_at: Time | None
    clusters: list[str] | None = Field(description="Names that the token is limited to; null: no limit.")


class Tunnel(Answer):
    role: str
    node: str = Field(description="Name of its node, for the role node.")
    instance: str
    address: str
    version: str
    kubernetes: str
    connected_since: Time
    last_seen: Time
    rtt_seconds: float | None
    streams: int
    serves: bool = Field(description="Whether requests may take it: cluster agents, and node agents of the fallback.")


class RouteNow(Answer):
    role: str = Field(description="`cluster`, `node` or `none`.")
    node: str = Field(description="Name of the node, for the role node.")
    instance: str = Field(description="The agent that would be asked; empty without a route.")
    reason: Reason = Field(description="Why this one, or why none.")
    since: Time | None = Field(description="From when on, as this hub process knows it.")


class Cluster(Answer):
    name: str
    uid: str
    labels: dict[str, str]
    created_at: Time
    joined: bool = Field(
        description="Whether an agent has what it connects with: a key that joined and was not revoked, or an "
        "agent token. Kept over restarts of the hub."
    )
    connected: bool = Field(description="Whether a request would find a route now.")
    route: RouteNow = Field(description="The route that a request would take now.")
    fallback_nodes: list[str] = Field(description="Connected nodes whose agents serve while no cluster agent answers.")
    node_agents: int = Field(description="How many node agents are connected, serving or not.")
    agent_versions: list[str] = Field(description="Of all its connected agents, each once.")
    tunnels: list[Tunnel] = Field(
        description="The live ones. In the list of all clusters those alone that serve: a fleet has a node agent on "
        "each of its nodes."
    )
    last_lost_at: Time | None = Field(
        description="When a tunnel of the role cluster was last lost, as this hub process knows it."
    )


class CleanUp(Answer):
    id: str = Field(description="Uid of the deleted cluster.")
    cluster: str = Field(description="Its name, which another cluster may have by now.")
    deleted_at: Time
    deleted_by: str
    state: Literal["running", "pending"] = Field(description="pending: a person has to do it.")
    since: Time
    reason: str = Field(description="Why it is pending.")
    command: str = Field(description="What removes it, with kubectl, in that cluster.")


class NodeFacts(Answer):
    boot_id: str
    kernel: str
    architecture: str
    addresses: list[str]
    roles: list[str] = Field(description="`control-plane`, where an API server has one of these addresses.")


class RegisteredNode(Answer):
    roles: list[str] = Field(description="As the labels node-role.kubernetes.io/… say.")
    kubelet: str = Field(description="Version of the kubelet.")
    os_image: str
    kernel: str
    architecture: str
    addresses: list[str] = Field(description="Internal and external ones.")
    zone: str
    ready: bool
    fallback: bool = Field(description="It has the label of the fallback; whether its agent serves, `agent` says.")


class NodeAgent(Answer):
    version: str
    address: str
    connected_since: Time
    serves: bool = Field(description="Whether requests may take it.")
    facts: NodeFacts = Field(description="What it says of its node.")


class ClusterNode(Answer):
    name: str
    registered: RegisteredNode | None = Field(
        description="What the cluster's agent says, as its API server knows the node; null: not in its table."
    )
    agent: NodeAgent | None = Field(description="The node's connected agent; the newest, if there are several.")


class NodeList(Answer):
    items: list[ClusterNode]
    total: int | None = Field(description="How many nodes the cluster has, as its agent says; it tells 5,000 at most.")
    registered_by: str = Field(description="Id of the agent that says so; empty: none does.")
    registered_at: Time | None = Field(description="When something last changed.")
    whole: bool = Field(description="false: a part of what has changed is still on its way.")


class Agent(Answer):
    id: str = Field(description="The id of the join token with which it joined; CLUSTER:NODE for the role node.")
    cluster: str
    role: str
    node: str = Field(description="Name of its node, for the role node.")
    credential: Literal["key", "token", "service-account"]
    joined_at: Time | None
    key_since: Time | None
    revoked_at: Time | None
    connected: bool
    instance: str
    address: str
    version: str
    kubernetes: str
    connected_since: Time | None
    last_seen: Time | None = Field(description="As this hub process knows it.")
    rtt_seconds: float | None
    node_facts: NodeFacts | None = Field(description="What a connected node agent says of its node.")
    registered_node: RegisteredNode | None = Field(description="What the cluster's agent says of the node of this one.")


class CaStanding(Answer):
    id: str
    cluster: str
    role: str
    node: str
    instance: str
    connected: bool
    knows: bool = Field(description="It trusts the CA that the hub's certificate is or will be of.")
    keeps: bool = Field(description="Also after its next start.")
    problem: str = Field(description="Why it has not learnt it; empty when it has, or was not asked yet.")


class CaRotation(Answer):
    phase: Literal["steady", "introduced", "switched"]
    pin: str = Field(description="Of the CA that agents need to know.")
    accepted_pins: list[str] = Field(description="Every pin under which agents may know the hub.")
    agents: list[CaStanding]


class AgentToken(Answer):
    id: str
    name: str
    cluster: str
    created_at: Time
    created_by: str
    expires_at: Time | None


class NewAgentToken(AgentToken):
    token: str = Field(description="Shown this once; the hub keeps a hash.")


class JoinToken(Answer):
    id: str
    cluster: str
    created_at: Time
    created_by: str
    expires_at: Time
    used_at: Time | None = Field(description="When an agent joined with it; it then has the token's id.")


class NewJoinToken(JoinToken):
    token: str = Field(description="Shown this once; the hub keeps a hash. Good for one agent key.")


class NewManifest(Answer):
    cluster: str
    join_token: str = Field(description="Id of the join token inside, not the token.")
    expires_at: Time
    manifest: str = Field(description="YAML for `kubectl apply -f -`. It holds the token: shown this once.")
    shell: str = Field(description="The same, to paste into a shell that has curl and kubectl.")
    values: str = Field(description="The same as a values file of the chart riata-agent.")


class NewCluster(Cluster):
    existed: bool = Field(
        description="It was there before this request: the join token in `manifest` lets one more agent into it."
    )
    command: str = Field(description="To run where riata and kubectl are; it makes a join token of its own.")
    manifest: NewManifest | None = Field(description="When the request asks for it.")
    obstacle: str | None = Field(description="Why no manifest can be made: what the hub's settings lack.")


class Token(Answer):
    id: str
    name: str
    user: str
    groups: list[str]
    clusters: list[str] | None = Field(description="Names of clusters that still exist; null: no limit.")
    created_at: Time
    created_by: str
    created_with: str = Field(description="Id of the token with which it was made; empty where none is known.")
    expires_at: Time | None


class NewToken(Token):
    token: str = Field(description="Shown this once; the hub keeps a hash.")


class Grant(Answer):
    name: str
    user: str | None
    group: str | None
    cluster: str
    role: RoleName
    impersonate: Impersonation | None
    created_at: Time
    created_by: str


class ClusterList(Answer):
    items: list[Cluster]


class CleanUpList(Answer):
    items: list[CleanUp]


class DeniedInAdvance(Answer):
    """The hub knows of no such node: no agent of it is or was connected, and the cluster's agent names none."""

    id: str
    cluster: str
    node: str
    note: str = Field(description="The same, for people.")


class AgentList(Answer):
    items: list[Agent]
    continue_: str | None = Field(
        None, alias="continue", description="There are more: the parameter of this name brings them. Else absent."
    )


class AgentTokenList(Answer):
    items: list[AgentToken]


class JoinTokenList(Answer):
    items: list[JoinToken]


class TokenList(Answer):
    items: list[Token]


class GrantList(Answer):
    items: list[Grant]


class Version(Answer):
    version: str
    wire_version: int
    hub_id: str
