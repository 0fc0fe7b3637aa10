"""Whose a token is: the hub's own word for it."""

from typing import Any

from ctl import client, errors, logins
from proto import causes


async def whoami(login: logins.Login, *, doctor: str = "riata doctor") -> dict[str, Any]:
    """What the hub says of the login's token; `doctor` as for the client. Raises CommandError."""
    try:
        async with client.HubClient(login, doctor=doctor) as hub:
            who = await hub.get(client.target("v1", "whoami"))
    except errors.CommandError as exc:
        if exc.exit_code is not errors.Exit.NOT_FOUND:
            raise
        found = causes.HTTP_NO_HUB.found(causes.OPERATOR, path="/v1/whoami")  # every hub knows it
        raise errors.CommandError(found.what, means=f"tried {login.hub}", cure=found.cure) from exc
    if not isinstance(who, dict) or "user" not in who:
        raise errors.CommandError(f"{login.hub} does not answer like a riata hub", cure="check the URL")
    return who


async def user(login: logins.Login) -> str | None:
    """Whose the login's token is; None: the hub accepts it no longer. Raises CommandError where it does not say."""
    try:
        return str((await whoami(logins.sendable(login)))["user"])
    except errors.CommandError as exc:
        if exc.exit_code is errors.Exit.UNAUTHORIZED:
            return None
        raise
