"""`riata tokens`: bearer tokens of people and programs that use the hub."""

import collections
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from cyclopts import App, Parameter

from ctl import client, durations, lifetimes, options, output, reveal, terminal

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

_USERS_MAX = 10


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

    Without hub administration you make tokens for yourself only, never wider or longer-lived than your own: one that
    was to live longer ends with yours, and a message says so.
    """
    reveal.refuse_existing(write_token)
    seconds = durations.parse(expires_in)
    body: dict[str, object] = {"name": name, "expiresInSeconds": seconds}
    body |= {key: value for key, value in (("user", user), ("groups", group), ("clusters", cluster)) if value}
    async with common.hub() as hub:
        made = await hub.post(client.target("v1", "tokens"), body)
        reveal.token(made, common.output, write_token, "token")
        await lifetimes.tell(hub, made, seconds)


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
    yes: Annotated[
        bool, Parameter(name=["--yes", "-y"], negative="", help="Do not show and ask what --with-descendants ends.")
    ] = False,
    profile: options.Profile = "",
) -> None:
    """Revoke a token. Requests and streams that use it are cut off at once.

    Was it stolen? The thief may have made others with it: --with-descendants ends them too, also when it is revoked
    already. It says first how many these are, and whose: everything that an administrator made with a token descends
    from it.
    """
    async with options.Common(profile=profile).hub() as hub:
        if not with_descendants:
            await hub.delete(client.target("v1", "tokens", token_id))
            terminal.say(f"token {token_id} revoked")
            return
        family = client.target("v1", "tokens", token_id, "with-descendants")
        if not yes:
            found = await hub.items(family)
            terminal.say(_would_end(found, hub.login.token))
            terminal.confirm("Revoke them?" if len(found) > 1 else "Revoke it?")
        answer = await hub.delete(family)
    for revoked in answer["items"]:
        made_with = revoked.get("createdWith")
        terminal.say(f"token {revoked.get('id')} revoked" + (f" (made with {made_with})" if made_with else ""))


def _would_end(found: Sequence[Mapping[str, Any]], own: str) -> str:
    """`own`: the token of this login."""
    users = collections.Counter(str(each.get("user")) for each in found)
    whose = ", ".join(f"{count} of {user}" for user, count in users.most_common(_USERS_MAX))
    shown = sum(count for _, count in users.most_common(_USERS_MAX))
    whose += f", {len(found) - shown} of others" if shown < len(found) else ""
    text = f"{len(found)} {'token' if len(found) == 1 else 'tokens'} would end: {whose}"
    is_own = any(f"riata_{each.get('id')}_" in own for each in found)
    return text + ("\nthe one that you are logged in with is among them" if is_own else "")
