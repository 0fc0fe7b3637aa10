"""All of `riata doctor`, in order."""

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from typing import Final

from ctl import client, errors, logins, options
from ctl.doctor import causes, clusters, way
from proto import findings
from proto.causes import Level
from proto.findings import Finding, good

BEHIND = (causes.CLUSTERS, causes.KUBECONFIG)
_NAMES: dict[str, str] = {}
_COMMAND: Final = re.compile(
    r"(?<!administrator: )(?<!another login's: )"
    r"\briata (?:login|kubeconfig|clusters (?:manifest|list)|tokens create|doctor)\b"
)
"""In a cure, and for the hub that was looked at. What an administrator is to type has nothing of this user's in it, and
what is for another login has that one's profile."""


async def examine(
    profile: str, wanted: Sequence[str], now: float, env: Mapping[str, str] = os.environ
) -> list[Finding]:
    """Every finding; commands in it are for the hub of `profile`, given as it was typed. `wanted`: names of clusters,
    all when empty. `now`: seconds since the epoch. Changes nothing.

    Raises CommandError for a wanted cluster that the hub does not show.
    """
    behind = options.typed(profile)
    found = await _examine(profile, wanted, now, env)
    return [dataclasses.replace(each, cure=_COMMAND.sub(lambda typed: typed[0] + behind, each.cure)) for each in found]


async def _examine(profile: str, wanted: Sequence[str], now: float, env: Mapping[str, str]) -> list[Finding]:
    try:
        login = logins.resolve(env, profile)
        login_finding = _login(login)
    except errors.CommandError as exc:
        is_none = exc.exit_code is errors.Exit.UNAUTHORIZED
        said = f"{exc.what}; {exc.cure}" if exc.cure and not is_none else exc.what
        bad = findings.bad(causes.LOGIN_NONE if is_none else causes.LOGIN_UNUSABLE, _NAMES, said=said)
        return [bad, *(findings.not_run(check, causes.LOGIN) for check in (*way.CHECKS, *BEHIND))]
    found = await way.Way(login, env, now).examine()
    needed = {finding.check: finding for finding in found}[causes.CREDENTIAL]
    if needed.level in {Level.FAIL, Level.NOT_RUN}:
        first = next(finding.check for finding in found if finding.level is Level.FAIL)
        return [login_finding, *found, *(findings.not_run(check, first) for check in BEHIND)]
    async with client.HubClient(login, env) as hub:
        return [login_finding, *found, *(await clusters.behind(hub, wanted, env))]


def _login(login: logins.Login) -> Finding:
    """Raises CommandError for one that cannot be used."""
    if not login.token:
        raise errors.CommandError(f"the login for {login.hub} has no token", exit_code=errors.Exit.UNAUTHORIZED)
    if login.hub.startswith("https:"):
        from ctl import trust

        trust.context(login)
    return good(causes.LOGIN, login.hub)
