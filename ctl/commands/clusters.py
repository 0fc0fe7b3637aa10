"""`riata clusters`: the clusters a hub knows."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from ctl import cleanups, client, connected, durations, errors, joining, nodes, options, output, terminal

_POLL_S = 0.5

app = App(name="clusters", help="The clusters a hub knows.")


def _versions(key: str) -> Any:
    return lambda cluster: sorted({str(t[key]) for t in cluster.get("tunnels") or [] if t.get(key)})


def _agent_versions(cluster: output.Item) -> object:
    return cluster.get("agentVersions") or _versions("version")(cluster)


def _route(key: str) -> Any:
    return lambda cluster: (cluster.get("route") or {}).get(key)


def _route_to(cluster: output.Item) -> str:
    """`cluster`, `node/NAME` or `none`; empty from a hub that does not say."""
    role = str(_route("role")(cluster) or "")
    return f"node/{_route('node')(cluster)}" if role == "node" else role


KIND = output.Kind(
    "name",
    {
        "NAME": lambda c: c.get("name"),
        "CONNECTED": lambda c: bool(c.get("connected")),
        "AGENTS": connected.agents,
        "NODE-AGENTS": connected.node_agents,
        "KUBERNETES": _versions("kubernetes"),
        "AGENT-VERSION": _agent_versions,
        "CREATED": lambda c: c.get("createdAt"),
        "LABELS": output.labels,
    },
)

ONE = output.Kind(
    "name",
    {
        **KIND.columns,
        "ROUTE": _route_to,
        "REASON": _route("reason"),
        "SINCE": _route("since"),
        "FALLBACK": lambda c: c.get("fallbackNodes") or [],
        "JOINED": lambda c: c.get("joined"),
        "LAST-LOST": lambda c: c.get("lastLostAt"),
    },
)
"""With the route that a request would take now, the nodes that serve while no cluster agent answers, whether an agent
has what it connects with, and when one was last lost."""

Name = Annotated[str, Parameter(help="Name of the cluster.")]


@app.command
async def create(
    name: Annotated[str, Parameter(help="Lower-case letters, digits and dashes, a letter first; never changes.")],
    /,
    *,
    label: Annotated[list[str] | None, Parameter(negative="", help="KEY=VALUE; may be repeated.")] = None,
    common: options.Common = options.COMMON,
) -> None:
    """Make a cluster known to the hub, and show what brings its agent in. Repeating it, with the same labels or
    without any, changes nothing, and says that it was there.

    The table comes with text to paste, a join token inside; the other outputs make no token.
    """
    body: dict[str, object] = {"name": name, "labels": options.assignments(label or [])}
    if common.output == "table":
        body["manifest"] = {}
    async with common.hub() as hub:
        made = await hub.post(client.target("v1", "clusters"), body)
    KIND.show_one(made, common.output)
    if common.output == "table":
        terminal.data(joining.guide(made, common.profile))
    if made.get("obstacle"):
        terminal.say(f"no agent can be brought in yet: {made['obstacle']}")
    which = f"{name}{options.typed(common.profile)}"
    exists = _was_there(made) if made.get("existed") else f"cluster {name} exists"
    terminal.say(f"{exists}; next: riata clusters manifest {which} | kubectl apply -f -")


def _was_there(cluster: output.Item) -> str:
    """With it a second Kubernetes cluster could come in under the name of the first."""
    count = connected.agents(cluster) + connected.node_agents(cluster)
    return (
        f"cluster {cluster.get('name')} was there already, since {cluster.get('createdAt')},"
        f" {count} {'agent' if count == 1 else 'agents'} connected: a join token lets one more agent into it, so for"
        " another Kubernetes cluster take another name"
    )


@app.command
async def manifest(
    name: Name,
    /,
    *,
    image: Annotated[str, Parameter(help="The agent's image, when not the one that the hub is set to.")] = "",
    rbac: Annotated[
        Literal["impersonate", "constrained", "read-only"], Parameter(help="What the agents may do.")
    ] = "impersonate",
    no_node_agents: Annotated[
        bool, Parameter(negative="", help="No agents on the nodes: nothing to fall back to.")
    ] = False,
    no_cluster_admins: Annotated[
        bool, Parameter(negative="", help="Do not bind the hub's administrators to cluster-admin.")
    ] = False,
    values: Annotated[bool, Parameter(negative="", help="As a values file of the chart riata-agent.")] = False,
    shell: Annotated[
        bool, Parameter(negative="", help="As text to paste where only curl and kubectl are; it fetches the manifest.")
    ] = False,
    expires_in: options.Expiry = "",
    profile: options.Profile = "",
) -> None:
    """Print what is applied in a cluster so that its agent joins: riata clusters manifest NAME | kubectl apply -f -

    It holds a new join token, good for 15 minutes and one key. Lost it? Run this again, with the same options: the hub
    remembers none of them.
    """
    if values and shell:
        raise errors.UsageError("--values and --shell are two forms of the same", cure="give one of them")
    form = "values" if values else "shell" if shell else "manifest"
    body: dict[str, object] = {
        "profile": rbac,
        "nodeAgents": not no_node_agents,
        "clusterAdmins": not no_cluster_admins,
    }
    body |= {"image": image} if image else {}
    body |= {"expiresInSeconds": durations.parse(expires_in)} if expires_in else {}
    async with options.Common(profile=profile).hub() as hub:
        made = await hub.post(client.target("v1", "clusters", name, "manifest"), body)
    if not made.get(form):
        raise errors.CommandError(
            "the hub does not have the CA behind its pins, and curl would verify nothing",
            cure=f"riata clusters manifest {name}{options.typed(profile)} | kubectl apply -f -",
        )
    terminal.data(str(made[form]).rstrip("\n"))
    terminal.say(f"its join token {made.get('joinToken')} is valid until {made.get('expiresAt')}, for one agent key")


@app.command(name="list")
async def list_(
    *,
    all_: Annotated[
        bool, Parameter(name="--all", negative="", help="Also deleted ones in which something of riata may be left.")
    ] = False,
    common: options.Common = options.COMMON,
) -> None:
    """List the clusters you may use."""
    async with common.hub() as hub:
        found = sorted(await hub.items(client.target("v1", "clusters")), key=lambda c: str(c.get("name")))
        left = await hub.items(client.target("v1", "clean-ups")) if all_ else []
    if all_ and common.output in {"json", "yaml"}:
        output.document({"items": found, "cleanUps": left}, common.output)
        return
    KIND.show_all(found, common.output)
    if left and common.output == "table":
        terminal.data("")
        cleanups.KIND.show_all(left, common.output)


@app.command
async def show(name: Name, /, *, common: options.Common = options.COMMON) -> None:
    """Show one cluster, which route a request would take now, and, to those who administer it, its nodes with their
    roles and versions. json and yaml have all of it, its tunnels too.

    For a deleted one in which something of riata may be left: what, and how to remove it.
    """
    async with common.hub() as hub:
        try:
            found = await hub.get(client.target("v1", "clusters", name))
        except errors.CommandError as exc:
            left = await cleanups.named(hub, name) if exc.exit_code == errors.Exit.NOT_FOUND else []
            if not left:
                raise
            cleanups.KIND.show_all(left, common.output)
            for each in left:
                terminal.say(cleanups.advice(each, common.profile))
            return
        known = None if common.output == "name" else await nodes.of_cluster(hub, name)
    if known is not None and common.output != "table":
        found = {**found, "nodes": known}
    ONE.show_one(found, common.output)
    if known is not None and common.output == "table":
        nodes.show(known)


@app.command
async def forget(
    name: Annotated[str, Parameter(help="Name of the deleted cluster, or its uid.")],
    /,
    *,
    profile: options.Profile = "",
) -> None:
    """Take a deleted cluster off the list: what riata made there was removed by hand, or the cluster is no more."""
    async with options.Common(profile=profile).hub() as hub:
        left = await cleanups.named(hub, name)
        if not left:
            raise errors.CommandError(
                f"no deleted cluster {name} has anything left to clean up",
                cure=f"riata clusters list --all{options.typed(profile)}",
                exit_code=errors.Exit.NOT_FOUND,
            )
        for each in left:
            await hub.delete(client.target("v1", "clean-ups", str(each.get("id"))))
    terminal.say(f"{len(left)} clean-up of {name} forgotten" if len(left) == 1 else f"{len(left)} clean-ups forgotten")


async def _looked_at(hub: client.HubClient, name: str, deadline: float) -> Mapping[str, Any]:
    """The cluster; nothing of it where the hub is busy or away for a moment, until the deadline (of the loop)."""
    try:
        found: Mapping[str, Any] = await hub.get(client.target("v1", "clusters", name))
    except errors.CommandError as exc:
        is_passing = isinstance(exc, errors.BusyError) or exc.exit_code is errors.Exit.UNREACHABLE
        if not is_passing or asyncio.get_running_loop().time() >= deadline:
            raise
        return {}
    return found


@app.command
async def wait(
    name: Name,
    /,
    *,
    within: Annotated[str, Parameter(name="--timeout", help="How long to wait: a number and s, m, h or d.")] = "60s",
    common: options.Common = options.COMMON,
) -> None:
    """Wait until an agent of a cluster is connected."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + durations.parse(within)
    async with common.hub() as hub:
        while not (found := await _looked_at(hub, name, deadline)).get("connected"):
            if loop.time() >= deadline:
                raise errors.CommandError(
                    f"no agent of cluster {name} has connected within {within}",
                    cure="look at the agent's log: it says what is wrong and how to cure it",
                )
            await asyncio.sleep(_POLL_S)
    KIND.show_one(found, common.output)


@app.command
async def delete(
    name: Name,
    /,
    *,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"], negative="", help="Do not ask.")] = False,
    profile: options.Profile = "",
) -> None:
    """Delete a cluster at the hub: its agents are cut off, their keys and tokens and its grants end.

    What the agent's manifest made in the cluster is removed while an agent is connected, in your name and with your
    rights there; nothing else is. If it is not, the command to remove it is printed and kept: `riata clusters list
    --all`. A new cluster of this name inherits nothing.
    """
    if not yes:
        terminal.confirm(f"Delete cluster {name}, its agents' keys and tokens, and its grants?")
    async with options.Common(profile=profile).hub() as hub:
        try:
            begun = await hub.delete(client.target("v1", "clusters", name))
            terminal.say(f"cluster {name} deleted")
        except errors.CommandError as exc:
            begun = await _deleted_before(hub, name, exc)
            terminal.say(f"cluster {name} was deleted at {begun.get('deletedAt')}")
        left = await cleanups.settled(hub, begun) if begun else None
    if left is not None:
        terminal.say(cleanups.advice(left, profile))
    elif begun:
        terminal.say(cleanups.done(begun))


async def _deleted_before(hub: client.HubClient, name: str, exc: errors.CommandError) -> Mapping[str, Any]:
    """The newest clean-up of a cluster that is deleted already: the answer may have been lost. Raises CommandError,
    `exc` where there is none."""
    left = await cleanups.named(hub, name) if exc.exit_code == errors.Exit.NOT_FOUND else []
    if not left:
        raise exc
    return max(left, key=lambda each: str(each.get("deletedAt")))
