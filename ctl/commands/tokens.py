"""`riata tokens`: bearer tokens of people and programs that use the hub."""

from typing import Annotated

from cyclopts import App, Parameter

from ctl import client, durations, options, output, reveal, terminal

app = App(name="tokens", help="Bearer tokens of people and programs that use the hub.")

KIND = output.Kind(
    "id",
    {
        "ID": lambda t: t.get("id"),
        "NAME": lambda t: t.get("name"),
        "USER": lambda t: t.get("user"),
        "GROUPS": lambda t: t.get("groups"),
        "CLUSTERS": lambda t: "all" if t.get("clusters") is None else t["clusters"],
        "EXPIRES": lambda t: t.get("expiresAt"),
    },
)


@app.command
async def create(
    name: Annotated[str, Parameter(help="A name to know the token by.")],
    /,
    *,
    user: Annotated[str, Parameter(help="Whose token it is; yourself when left out.")] = "",
    group: Annotated[list[str] | None, Parameter(negative="", help="A group of that user; may be repeated.")] = None,
    cluster: Annotated[
        list[str] | None, Parameter(negative="", help="Valid for this cluster only; may be repeated.")
    ] = None,
    expires_in: options.Expiry = "7d",
    write_token: reveal.WriteToken = "",
    common: options.Common = options.COMMON,
) -> None:
    """Make a token. It is shown once; the hub keeps a hash.

    Without hub administration you make tokens for yourself only, never wider or longer-lived than your own.
    """
    reveal.refuse_existing(write_token)
    body: dict[str, object] = {"name": name, "expiresInSeconds": durations.parse(expires_in)}
    body |= {key: value for key, value in (("user", user), ("groups", group), ("clusters", cluster)) if value}
    async with common.hub() as hub:
        made = await hub.post(client.target("v1", "tokens"), body)
    reveal.token(made, common.output, write_token, "token")


@app.command(name="list")
async def list_(*, common: options.Common = options.COMMON) -> None:
    """List tokens, without their secrets: your own, or all as an administrator of the hub."""
    async with common.hub() as hub:
        found = await hub.items(client.target("v1", "tokens"))
    KIND.show_all(found, common.output)


@app.command
async def revoke(
    token_id: Annotated[str, Parameter(name="ID", help="Id of the token.")],
    /,
    *,
    with_descendants: Annotated[
        bool, Parameter(negative="", help="Also every token that was made with it, or with one of those.")
    ] = False,
    profile: options.Profile = "",
) -> None:
    """Revoke a token. Requests and streams that use it are cut off at once.

    Was it stolen? The thief may have made others with it: --with-descendants ends them too, also when it is revoked
    already.
    """
    async with options.Common(profile=profile).hub() as hub:
        if not with_descendants:
            await hub.delete(client.target("v1", "tokens", token_id))
            terminal.say(f"token {token_id} revoked")
            return
        answer = await hub.delete(client.target("v1", "tokens", token_id, "with-descendants"))
    for revoked in answer["items"]:
        made_with = revoked.get("createdWith")
        terminal.say(f"token {revoked.get('id')} revoked" + (f" (made with {made_with})" if made_with else ""))
