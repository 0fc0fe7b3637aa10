"""Says of a token that was made that it ends sooner than was asked for: the hub shortens lives without an error."""

import datetime
from collections.abc import Mapping
from typing import Any, Final

from ctl import client, errors, terminal

_SLACK_S: Final = 2.0
"""The API's times are whole seconds."""


async def tell(hub: client.HubClient, made: Mapping[str, Any], wanted_s: int) -> None:
    """`made`: the answer to the creation; `wanted_s`: the seconds that were asked for. Never fails: the token is there.

    By the hub's clock alone."""
    made_at, ends = _instant(made.get("createdAt")), _instant(made.get("expiresAt"))
    if made_at is None or ends is None or ends - made_at > wanted_s - _SLACK_S:
        return
    terminal.say(f"token {made.get('id')} ends sooner than you asked for: {await _why(hub, ends)}")


async def _why(hub: client.HubClient, ends: float) -> str:
    try:
        who = await hub.get(client.target("v1", "whoami"))
    except errors.CommandError:
        who = None
    if not isinstance(who, dict):
        return "the hub shortened its life"
    own = _instant(who.get("tokenExpiresAt"))
    if who.get("admin") or own is None or abs(own - ends) > _SLACK_S:
        return "the hub lets none live longer (token_lifetime_max_s)"
    return "none that you make outlives the one you are logged in with; an administrator makes one that does"


def _instant(text: object) -> float | None:
    """A time of the API, in seconds since the epoch; None when it is none."""
    try:
        return datetime.datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None
