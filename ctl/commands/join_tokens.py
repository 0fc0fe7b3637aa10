"""`riata join-tokens`: what a new agent shows to the hub, once."""

from typing import Annotated

from cyclopts import App, Parameter

from ctl import client, durations, options, output, reveal, terminal

app = App(name="join-tokens", help="What a new agent shows to the hub, once, to enrol its own key.")

KIND = output.Kind(
    "id",
    {
        "ID": lambda t: t.get("id"),
        "CREATED": lambda t: t.get("createdAt"),
        "EXPIRES": lambda t: t.get("expiresAt"),
        "USED": lambda t: t.get("usedAt"),
    },
)

Cluster = Annotated[str, Parameter(help="Name of the cluster.")]


@app.command
async def create(
    cluster: Cluster,
    /,
    *,
    expires_in: Annotated[
        str,
        Parameter(help="How long it is valid: a number and s, m, h or d; 15 minutes when left out."),
    ] = "",
    write_token: reveal.WriteToken = "",
    common: options.Common = options.COMMON,
) -> None:
    """Make a token with which one agent of a cluster joins. It is shown once; the hub keeps a hash.

    It is good for one agent key: all replicas of one Deployment share theirs. At most 24 hours.
    """
    reveal.refuse_existing(write_token)
    body: dict[str, object] = {"expiresInSeconds": durations.parse(expires_in)} if expires_in else {}
    async with common.hub() as hub:
        made = await hub.post(client.target("v1", "clusters", cluster, "join-tokens"), body)
    reveal.token(made, common.output, write_token, f"join token of cluster {cluster}")


@app.command(name="list")
async def list_(cluster: Cluster, /, *, common: options.Common = options.COMMON) -> None:
    """List the join tokens of a cluster, without their secrets."""
    async with common.hub() as hub:
        found = await hub.items(client.target("v1", "clusters", cluster, "join-tokens"))
    KIND.show_all(found, common.output)


@app.command
async def revoke(
    cluster: Cluster,
    token_id: Annotated[str, Parameter(name="ID", help="Id of the token.")],
    /,
    *,
    profile: options.Profile = "",
) -> None:
    """Take a join token back. An agent that has joined with it stays: see `riata agents revoke`."""
    async with options.Common(profile=profile).hub() as hub:
        await hub.delete(client.target("v1", "clusters", cluster, "join-tokens", token_id))
    terminal.say(f"join token {token_id} revoked")
