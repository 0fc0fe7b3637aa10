"""How a command fails: an exit code for scripts, and three sentences for a person."""

import enum


class Exit(enum.IntEnum):
    """Exit codes; docs/reference/cli.md lists them from here."""

    OK = 0, "done"
    FAILURE = 1, "the command failed; the message says why"
    USAGE = 2, "wrong command line or configuration file; nothing was done"
    UNAUTHORIZED = 3, "no credential, or the hub refuses it (HTTP 401)"
    NOT_FOUND = 4, "no such object, or you may not know of it (HTTP 404)"
    UNREACHABLE = 5, "the hub cannot be reached: name, network, proxy, TLS or timeout"
    FORBIDDEN = 6, "the hub knows you and says no (HTTP 403)"
    CONFLICT = 7, "the object exists already and is different (HTTP 409)"
    INTERRUPTED = 130, "ended by Ctrl-C"

    meaning: str

    def __new__(cls, value: int, meaning: str) -> "Exit":
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


class CommandError(Exception):
    """Ends a command. `what` happened, what it `means`, what to do `next`: none of them ever holds a secret."""

    def __init__(self, what: str, *, means: str = "", cure: str = "", exit_code: Exit = Exit.FAILURE) -> None:
        super().__init__(what)
        self.what = what
        self.means = means
        self.cure = cure
        self.exit_code = exit_code

    def render(self) -> str:
        lines = [f"riata: {self.what}"]
        if self.means:
            lines.append(f"  {self.means}")
        if self.cure:
            lines.append(f"  next: {self.cure}")
        return "\n".join(lines)


class BusyError(CommandError):
    """The hub, or what stands in front of it, cannot answer now, and may in a moment."""


class LimitError(BusyError):
    """Over a limit of the hub's (HTTP 429), so nothing was done; no news of what was asked."""


class UsageError(CommandError):
    """The command line or the configuration is wrong; nothing was done."""

    def __init__(self, what: str, *, means: str = "", cure: str = "") -> None:
        super().__init__(what, means=means, cure=cure, exit_code=Exit.USAGE)
