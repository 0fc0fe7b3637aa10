"""How a new secret reaches its owner: once, on standard output or in a file of mode 0600."""

import os
import pathlib
from collections.abc import Mapping
from typing import Annotated, Any

from cyclopts import Parameter

from ctl import errors, files, output, terminal

WriteToken = Annotated[str, Parameter(help="Write the token to this new file (mode 0600) instead of standard output.")]


def refuse_existing(write_token: str) -> None:
    """Before a token is made: whoever put something at that path could own the file, or read it. Raises UsageError."""
    if write_token and os.path.lexists(write_token):
        raise errors.UsageError(
            f"{write_token} exists already: no token was made",
            cure="name a file that does not exist, or remove this one first",
        )


def token(made: Mapping[str, Any], form: output.Format, write_token: str, what: str) -> None:
    """Show the answer to a creation. `table` prints the bare token, so that `> FILE` and `$(…)` work.

    With a file the token goes there and nowhere else.
    """
    shown = {key: value for key, value in made.items() if key != "token"}
    if write_token:
        _write(pathlib.Path(write_token), str(made["token"]), str(made.get("id")))
    try:
        if form in {"json", "yaml"}:
            output.document(shown if write_token else dict(made), form)
        elif form == "name":
            terminal.data(terminal.clean(str(made.get("id"))))
        elif not write_token:
            terminal.data(str(made["token"]))
    except (errors.CommandError, BrokenPipeError) as exc:
        if write_token:
            raise
        what = exc.what if isinstance(exc, errors.CommandError) else "nobody reads standard output"
        raise _lost(what, str(made.get("id"))) from exc
    place = f"in {write_token}" if write_token else "on standard output"
    until = f", valid until {made['expiresAt']}" if made.get("expiresAt") else ""
    hidden = form == "name" and not write_token
    terminal.say(
        f"{what} {made.get('id')} made{until}; " + ("not shown" if hidden else f"the token is {place}, this once")
    )


def _write(path: pathlib.Path, secret: str, token_id: str) -> None:
    try:
        files.create_secret(path, secret + "\n")
    except OSError as exc:
        raise _lost(f"cannot write {path}: {exc.strerror}", token_id) from exc


def _lost(what: str, token_id: str) -> errors.CommandError:
    return errors.CommandError(
        what, means=f"the token {token_id} exists, but nobody has it now", cure="revoke it and make another"
    )
