"""The agent's credential, shown only to learn what the hub says of it: no key is made, no token used, nothing kept."""

from collections.abc import Mapping

from agent.uplink.credentials import Claims, HubCredential, Proven
from agent.uplink.diagnose import ConnectFailed, of_cause
from agent.uplink.enrolment import Enrolment
from proto import causes
from proto.aio.commands import Handler
from proto.aio.link import Link
from proto.commands import Verb
from proto.credentials import JOIN
from proto.errors import Code
from proto.messages import Credential, HubHello, Welcome


class Trial:
    """Implements HubCredential around the agent's own.

    What is missing is said when the hub asks for it, so that everything before it is still seen.
    """

    def __init__(self, inner: HubCredential) -> None:
        self.hello: HubHello | None = None
        """What the hub said first, once it has."""
        self._inner = inner
        self._missing: ConnectFailed | None = None

    async def prepare(self) -> None:
        try:
            if isinstance(self._inner, Enrolment):
                await self._inner.look()
            else:
                await self._inner.prepare()
        except ConnectFailed as exc:
            self._missing = exc

    def present(self, hello: HubHello, claims: Claims) -> Credential:
        self.hello = hello
        if self._missing is not None:
            raise self._missing
        credential = self._inner.present(hello, claims)
        if credential.scheme == JOIN:
            raise ConnectFailed(of_cause(causes.CREDENTIAL_NOT_JOINED))
        return credential

    async def welcomed(self, welcome: Welcome) -> None:
        pass

    def refused(self, code: Code) -> bool:
        return self._inner.refused(code)

    async def tend(self, link: Link, proven: Proven) -> None:
        raise AssertionError("no session comes of a trial")

    def handlers(self, link: Link, proven: Proven) -> Mapping[Verb, Handler]:
        return {}

    def mark(self) -> object:
        return self._inner.mark()
