"""`riata grants`: who may use which cluster."""

from typing import Annotated, Literal

from cyclopts import App, Parameter

from ctl import client, errors, options, output, terminal

app = App(name="grants", help="Who may use which cluster.")


def _who(grant: output.Item) -> str:
    return f"user:{grant['user']}" if grant.get("user") else f"group:{grant.get('group')}"


def _acts_as(grant: output.Item) -> list[str]:
    allowed = grant.get("impersonate") or {}
    return [f"user:{u}" for u in allowed.get("users") or []] + [f"group:{g}" for g in allowed.get("groups") or []]


KIND = output.Kind(
    "name",
    {
        "NAME": lambda g: g.get("name"),
        "WHO": _who,
        "CLUSTER": lambda g: g.get("cluster"),
        "ROLE": lambda g: g.get("role"),
        "IMPERSONATES": _acts_as,
    },
)

Name = Annotated[str, Parameter(help="Name of the grant.")]
Names = Annotated[
    list[str] | None,
    Parameter(
        negative="",
        help="May be acted as (kubectl --as); may be repeated; * for any. Arrives as riata:NAME; system: names are "
        "refused.",
    ),
]


@app.command
async def create(
    name: Name,
    /,
    *,
    role: Annotated[
        Literal["use", "admin", "hub-admin"],
        Parameter(
            help="use: as oneself; admin: cluster-admin there; hub-admin: everything on the hub, and admin in every "
            "cluster."
        ),
    ] = "use",
    cluster: Annotated[str, Parameter(help="Name of the cluster; * for all.")] = "",
    user: Annotated[str, Parameter(help="The user it is for.")] = "",
    group: Annotated[str, Parameter(help="The group it is for.")] = "",
    impersonate_user: Names = None,
    impersonate_group: Names = None,
    common: options.Common = options.COMMON,
) -> None:
    """Grant a user or a group the use of a cluster. What they may do in it, its own RBAC decides."""
    if bool(user) == bool(group):
        raise errors.UsageError("a grant is for one user or one group", cure="give --user NAME or --group NAME")
    if not cluster and role != "hub-admin":
        raise errors.UsageError("--cluster is missing", cure="give --cluster NAME, or --cluster '*' for all")
    body: dict[str, object] = {"name": name, "role": role, "cluster": cluster or "*"}
    body |= {"user": user} if user else {"group": group}
    if impersonate_user or impersonate_group:
        body["impersonate"] = {"users": impersonate_user or [], "groups": impersonate_group or []}
    async with common.hub() as hub:
        made = await hub.post(client.target("v1", "grants"), body)
    KIND.show_one(made, common.output)
    terminal.say(f"grant {name} exists")


@app.command(name="list")
async def list_(*, common: options.Common = options.COMMON) -> None:
    """List the grants you may see."""
    async with common.hub() as hub:
        found = await hub.items(client.target("v1", "grants"))
    KIND.show_all(found, common.output)


@app.command
async def show(name: Name, /, *, common: options.Common = options.COMMON) -> None:
    """Show one grant."""
    async with common.hub() as hub:
        found = await hub.get(client.target("v1", "grants", name))
    KIND.show_one(found, common.output)


@app.command
async def delete(
    name: Name,
    /,
    *,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"], negative="", help="Do not ask.")] = False,
    profile: options.Profile = "",
) -> None:
    """Delete a grant. What was running under it is cut off."""
    if not yes:
        terminal.confirm(f"Delete grant {name}?")
    async with options.Common(profile=profile).hub() as hub:
        await hub.delete(client.target("v1", "grants", name))
    terminal.say(f"grant {name} deleted")
