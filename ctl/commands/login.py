"""`riata login`, `logout`, `whoami`: which hub, and as whom."""

import functools
import os
import shlex
from typing import Annotated

from cyclopts import Parameter

from ctl import client, errors, files, identities, logins, options, output, terminal, trust

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

    The three are copied into the configuration file (mode 0600), so the files given may go. A second hub or user is
    kept beside the first with --profile NAME, without which no login for another hub or of another user is replaced;
    the login made last is the current one. Options left out come from the environment: RIATA_HUB, RIATA_CA_FILE,
    RIATA_TOKEN_FILE.
    """
    hub = hub or os.environ.get("RIATA_HUB", "")
    ca_file = ca_file or os.environ.get("RIATA_CA_FILE", "")
    token_file = token_file or os.environ.get("RIATA_TOKEN_FILE", "")
    made = _candidate(hub, ca_file, ca_pin, token_file)
    name = logins.profile_name(common.profile or os.environ.get("RIATA_PROFILE", "") or _DEFAULT)
    file = logins.path(os.environ)
    lender = _lender(made, logins.load(file))
    try:
        who = await _whoami(made, doctor="" if lender else _doctor(hub, ca_file, token_file))
    except errors.CommandError as exc:
        if lender and exc.exit_code is errors.Exit.UNREACHABLE:
            exc.means += f"; no --ca-file was given, and profile {lender} has a CA for this hub"
        raise
    old = logins.load(file).hubs.get(name)
    if old is not None and not common.profile:
        await _refuse_to_lose(name, old, made, str(who.get("user")))
    logins.change(file, functools.partial(_with, name, made, old, may_replace=bool(common.profile)))
    _WHO.show_one(who, common.output)
    terminal.say(f"logged in to {made.hub} as {who.get('user')}; kept as profile {name} in {file}")
    terminal.say("next: riata clusters list")


async def _refuse_to_lose(name: str, old: logins.Login, made: logins.Login, user: str) -> None:
    """CommandError where `made` would take the place of a login for another hub or of another user, whose token may be
    nowhere else. A token that the hub accepts no longer is no loss; of one that it cannot be asked about nobody knows.

    It is sent to nobody but its own hub, as its own login knows that: by a CA that came with `made` whoever hands out
    CA and token, and is in between, would get a token that may do more."""
    if old.hub != made.hub:
        what = f"is a login for {old.hub}"
    elif old.token in {"", made.token}:
        return
    else:
        try:
            owner = await identities.user(old)
        except errors.CommandError as exc:
            what = f"is a login for {old.hub}, and whose it is cannot be asked there: {exc.what}"
        else:
            if owner in {None, user}:
                return
            what = f"is {owner}'s login for {old.hub}, and this token is {user}'s"
    raise errors.CommandError(
        f"profile {name} {what}",
        means="its token would be lost; nothing was changed",
        cure=f"--profile NAME keeps both, --profile {name} replaces it",
        exit_code=errors.Exit.CONFLICT,
    )


def _with(
    name: str, made: logins.Login, seen: logins.Login | None, stored: logins.LoginFile, *, may_replace: bool
) -> logins.LoginFile:
    """The logins with `made` in the place of `seen`. CommandError where another one came there meanwhile."""
    old = stored.hubs.get(name)
    if old is not None and not may_replace and (seen is None or (seen.hub, seen.token) != (old.hub, old.token)):
        raise errors.CommandError(
            f"another riata changed profile {name} meanwhile",
            means="its token would be lost; nothing was changed",
            cure="repeat the command",
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


def _lender(made: logins.Login, stored: logins.LoginFile) -> str:
    """The profile whose CA `riata doctor` would look with in the place of the one that `made` lacks, so that it would
    find nothing; empty for none."""
    current = stored.hubs.get(stored.current)
    is_lender = current is not None and current.hub == made.hub and current.ca and not made.ca
    return stored.current if is_lender else ""


def _doctor(hub: str, ca_file: str, token_file: str) -> str:
    """How `riata doctor` looks at a login that is not kept yet: without all that it would look at another one. Empty
    where standard input is part of it, which was read."""
    if "-" in {ca_file, token_file}:
        return ""
    given = {"RIATA_HUB": hub, "RIATA_CA_FILE": ca_file, "RIATA_TOKEN_FILE": token_file}
    words = [f"{name}={shlex.quote(value)}" for name, value in given.items() if value]
    if os.environ.get("RIATA_PROFILE"):  # the doctor refuses one that is not there yet
        words.insert(0, "RIATA_PROFILE=")
    return " ".join([*words, "riata doctor"])


async def _whoami(login: logins.Login, *, doctor: str) -> dict[str, object]:
    return {**await identities.whoami(login, doctor=doctor), "hub": login.hub}


async def whoami(*, common: options.Common = options.COMMON) -> None:
    """Show who the hub says you are."""
    login = logins.resolve(os.environ, common.profile)
    _WHO.show_one(await _whoami(login, doctor=options.doctor(common.profile)), common.output)


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
        await _revoke(gone, profile)
    current = logins.change(file, functools.partial(_without, name, gone)).current
    terminal.say(f"forgot profile {name}" + (f"; the current one is now {current}" if current else ""))


def _without(name: str, gone: logins.Login, stored: logins.LoginFile) -> logins.LoginFile:
    """The logins without `gone`; a newer one that was made under its name meanwhile stays."""
    hubs = {key: login for key, login in stored.hubs.items() if (key, login.token) != (name, gone.token)}
    current = stored.current if stored.current in hubs else next(iter(hubs), "")
    return logins.LoginFile(current=current, hubs=hubs)


async def _revoke(login: logins.Login, profile: str) -> None:
    """`profile`: as it was typed. CommandError when the token may still be valid."""
    try:
        async with client.HubClient(logins.sendable(login), doctor=options.doctor(profile)) as hub:
            _, _, rest = login.token.partition("_")
            await hub.delete(client.target("v1", "tokens", rest.partition("_")[0]))
    except errors.CommandError as exc:
        if exc.exit_code is errors.Exit.UNAUTHORIZED:
            terminal.say(f"{login.hub} accepts its token no longer: it has expired or was revoked already")
            return
        forgets = f"`riata logout{options.typed(profile)}`, without --revoke, forgets it here"
        exc.cure = f"{exc.cure}; {forgets}" if exc.cure else forgets
        raise
