"""`riata login`, `logout`, `whoami`: which hub, and as whom."""

import functools
import os
from typing import Annotated

from cyclopts import Parameter

from ctl import client, errors, files, logins, options, output, terminal, trust

_DEFAULT = "default"

_WHO = output.Kind(
    "user",
    {
        "USER": lambda who: who.get("user"),
        "GROUPS": lambda who: who.get("groups"),
        "ADMIN": lambda who: bool(who.get("admin")),
        "HUB": lambda who: who.get("hub"),
    },
)


async def login(
    *,
    hub: Annotated[str, Parameter(help="URL of the hub. Environment: RIATA_HUB.")] = "",
    ca_file: Annotated[str, Parameter(help="PEM file of the hub's CA; without it the system's trust store.")] = "",
    ca_pin: Annotated[str, Parameter(help="sha256:… of the CA's public key; must match the CA file.")] = "",
    token_file: Annotated[
        str, Parameter(allow_leading_hyphen=True, help="File with the token; - reads standard input.")
    ] = "",
    common: options.Common = options.COMMON,
) -> None:
    """Check a hub, its CA and a token, and keep them for later commands.

    The three are copied into the configuration file (mode 0600), so the files given may go. A second hub is kept
    beside the first with --profile NAME, without which no login for another hub is replaced; the login made last is
    the current one. Options left out come from the environment: RIATA_HUB, RIATA_CA_FILE, RIATA_TOKEN_FILE.
    """
    made = _candidate(
        hub or os.environ.get("RIATA_HUB", ""),
        ca_file or os.environ.get("RIATA_CA_FILE", ""),
        ca_pin,
        token_file or os.environ.get("RIATA_TOKEN_FILE", ""),
    )
    name = logins.profile_name(common.profile or os.environ.get("RIATA_PROFILE", "") or _DEFAULT)
    who = await _whoami(made)
    file = logins.path(os.environ)
    logins.change(file, functools.partial(_with, name, made, may_replace=bool(common.profile)))
    _WHO.show_one(who, common.output)
    terminal.say(f"logged in to {made.hub} as {who.get('user')}; kept as profile {name} in {file}")
    terminal.say("next: riata clusters list")


def _with(name: str, made: logins.Login, stored: logins.LoginFile, *, may_replace: bool) -> logins.LoginFile:
    """The logins with `made`. CommandError where it would take the place of one for another hub, whose token may be
    nowhere else, without that being asked for."""
    old = stored.hubs.get(name)
    if old is not None and old.hub != made.hub and not may_replace:
        raise errors.CommandError(
            f"profile {name} is a login for {old.hub}",
            means="its token would be lost; nothing was changed",
            cure=f"--profile NAME keeps both, --profile {name} replaces it",
            exit_code=errors.Exit.CONFLICT,
        )
    return logins.LoginFile(current=name, hubs={**stored.hubs, name: made})


def _candidate(hub: str, ca_file: str, ca_pin: str, token_file: str) -> logins.Login:
    for value, option in ((hub, "--hub"), (token_file, "--token-file")):
        if not value:
            raise errors.UsageError(
                f"{option} is missing", cure="riata login --hub URL --ca-file FILE --token-file FILE"
            )
    url = logins.hub_url(hub)
    ca = files.read_ca(ca_file) if ca_file else ""
    pin = ""
    if ca_pin:
        if not ca:
            raise errors.UsageError("--ca-pin needs --ca-file", cure="get the CA from the hub: GET /v1/ca")
        ca, pin = trust.pinned(ca, ca_pin)
    return logins.Login(hub=url, ca=ca, ca_pin=pin, token=files.read_token(token_file))


async def _whoami(login: logins.Login) -> dict[str, object]:
    async with client.HubClient(login) as hub:
        who = await hub.get(client.target("v1", "whoami"))
    if not isinstance(who, dict):
        raise errors.CommandError(f"{login.hub} does not answer like a riata hub", cure="check the URL")
    return {**who, "hub": login.hub}


async def whoami(*, common: options.Common = options.COMMON) -> None:
    """Show who the hub says you are."""
    _WHO.show_one(await _whoami(logins.resolve(os.environ, common.profile)), common.output)


async def logout(
    *,
    revoke: Annotated[
        bool, Parameter(negative="", help="Also revoke the token at the hub. It cannot be undone.")
    ] = False,
    profile: options.Profile = "",
) -> None:
    """Forget a stored login. Kubeconfigs made with it hold tokens of their own and stay valid."""
    file = logins.path(os.environ)
    stored = logins.load(file)
    name = profile or os.environ.get("RIATA_PROFILE", "") or stored.current
    if name not in stored.hubs:
        raise errors.CommandError("there is no such login to forget", exit_code=errors.Exit.NOT_FOUND)
    gone = stored.hubs[name]
    if revoke:
        await _revoke(gone)
    current = logins.change(file, functools.partial(_without, name, gone)).current
    terminal.say(f"forgot profile {name}" + (f"; the current one is now {current}" if current else ""))


def _without(name: str, gone: logins.Login, stored: logins.LoginFile) -> logins.LoginFile:
    """The logins without `gone`; a newer one that was made under its name meanwhile stays."""
    hubs = {key: login for key, login in stored.hubs.items() if (key, login.token) != (name, gone.token)}
    current = stored.current if stored.current in hubs else next(iter(hubs), "")
    return logins.LoginFile(current=current, hubs=hubs)


async def _revoke(login: logins.Login) -> None:
    async with client.HubClient(logins.sendable(login)) as hub:
        _, _, rest = login.token.partition("_")
        await hub.delete(client.target("v1", "tokens", rest.partition("_")[0]))
