"""`riata agent-tokens`: what the agents of a cluster show to the hub."""

from typing import Annotated

from cyclopts import App, Parameter

from ctl import client, durations, options, output, reveal, terminal

app = App(name="agent-tokens", help="What the agents of a cluster show to the hub.")

KIND = output.Kind(
    "id",
    {
        "ID": lambda t: t.get("id"),
        "NAME": lambda t: t.get("name"),
        "CREATED": lambda t: t.get("createdAt"),
        "EXPIRES": lambda t: t.get("expiresAt"),
    },
)

Cluster = Annotated[str, Parameter(help="Name of the cluster.")]


@app.command
async def create(
    cluster: Cluster,
    /,
    *,
    name: Annotated[str, Parameter(help="A name to know the token by.")] = "agent",
    expires_in: options.Expiry = "",
    write_token: reveal.WriteToken = "",
    common: options.Common = options.COMMON,
) -> None:
    """Make a token for the agents of a cluster. It is shown once; the hub keeps a hash."""
    reveal.refuse_existing(write_token)
    body: dict[str, object] = {"name": name}
    if expires_in:
        body["expiresInSeconds"] = durations.parse(expires_in)
    async with common.hub() as hub:
        made = await hub.post(client.target("v1", "clusters", cluster, "agent-tokens"), body)
    reveal.token(made, common.output, write_token, f"agent token of cluster {cluster}")


@app.command(name="list")
async def list_(cluster: Cluster, /, *, common: options.Common = options.COMMON) -> None:
    """List the agent tokens of a cluster, without their secrets."""
    async with common.hub() as hub:
        found = await hub.items(client.target("v1", "clusters", cluster, "agent-tokens"))
    KIND.show_all(found, common.output)


@app.command
async def revoke(
    cluster: Cluster,
    token_id: Annotated[str, Parameter(name="ID", help="Id of the token.")],
    /,
    *,
    profile: options.Profile = "",
) -> None:
    """Revoke an agent token. Agents that used it are cut off at once."""
    async with options.Common(profile=profile).hub() as hub:
        await hub.delete(client.target("v1", "clusters", cluster, "agent-tokens", token_id))
    terminal.say(f"agent token {token_id} revoked")
