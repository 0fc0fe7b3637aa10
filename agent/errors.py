"""The agent's branches of the error hierarchy."""

from proto.errors import Code


class AgentError(Exception):
    """Root of the agent's errors; the text is written for the person who runs the agent."""


class ConfigError(AgentError):
    """A setting is missing or wrong. Never leaves the process: exit code 2. The text names the flag and the cure."""


class TokenUnavailable(AgentError):
    """The API server's credential cannot be read; streams end with KUBE_UNAUTHORIZED until it can."""


class Refused(AgentError):
    """The cluster's own policy forbids a request. `reason` is one of a closed set, for the metric; `code` goes into the
    stream's RESET."""

    def __init__(self, reason: str, text: str, code: Code = Code.FORBIDDEN) -> None:
        super().__init__(text)
        self.reason = reason
        self.code = code
