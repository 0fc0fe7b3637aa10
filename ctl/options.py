"""Options that many commands share."""

import dataclasses
import os
import shlex
from typing import Annotated

from cyclopts import Parameter

from ctl import client, errors, logins, output

Output = Annotated[
    output.Format,
    Parameter(name=["--output", "-o"], help="What standard output gets. Messages go to standard error."),
]
Profile = Annotated[str, Parameter(name="--profile", help="Which stored login to use. Environment: RIATA_PROFILE.")]
Expiry = Annotated[str, Parameter(help="How long it is valid: a number and s, m, h or d.")]


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, slots=True)
class Common:
    """The options of every command that asks a hub."""

    output: Output = "table"
    profile: Profile = ""

    def hub(self) -> client.HubClient:
        """The hub of the chosen login, ready to be entered. CommandError when there is none."""
        return client.HubClient(logins.resolve(os.environ, self.profile), doctor=doctor(self.profile))


COMMON = Common()


def assignments(pairs: list[str]) -> dict[str, str]:
    """`k=v` options as a mapping. UsageError for one without `=` or a key given twice."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key or key in found:
            raise errors.UsageError(f"{pair!r} is not a label", cure="write --label KEY=VALUE, each key once")
        found[key] = value
    return found


def typed(profile: str) -> str:
    """What goes behind a command that is printed to be pasted: at another hub the same name is another cluster."""
    return f" --profile {shlex.quote(profile)}" if profile else ""


def doctor(profile: str) -> str:
    """The command that looks closer at the login of `profile`, given as it was typed."""
    return f"riata doctor{typed(profile)}"
