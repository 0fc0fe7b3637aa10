"""Knowing the hub: a TLS context whose only roots are CAs that match the pins (design P8).

There is no trust on first use and no way to switch verification off. Since nothing but a pinned CA is in the store, a
verified chain ends in one. Without a CA file the CA is fetched over a connection that carries no credential and proves
nothing; what does not match a pin is thrown away before anything is trusted.

While the hub's CA is replaced the hub says over the authenticated tunnel which CAs take its place (`learn`); that holds
until the settings name other pins (agent.hubca).
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Final

from agent.config import HubSettings
from agent.hubca import CaStore, CaUnusable, HubCa, Unkept
from agent.uplink import fetch
from agent.uplink.diagnose import ConnectFailed, of_cause, of_network_error
from agent.uplink.proxies import Proxy
from proto import causes
from proto.commands import ACCEPTED_MAX, CaLearnt, LearnCa
from proto.errors import Code, StreamReset
from proto.pins import PinError, certificates_by_pin, keep_pinned, pem_of
from proto.versions import SUBPROTOCOL

logger = logging.getLogger(__name__)

LOOK_S: Final = 2.0
"""Seconds that an attempt waits for the store once something is known: also where the API server is down."""
KEPT: Final = (
    "what this agent keeps of the hub's CAs (the entry hub-ca.json of its Secret, or KEYFILE.hub-ca: remove it)"
)
Fetch = Callable[[HubSettings, Proxy | None], Awaitable[bytes]]
"""Returns the hub's CA bundle as it claims to be. Raises OSError."""


class HubTrust:
    """Makes the context for each connect; remembers it while its source stays the same."""

    def __init__(self, settings: HubSettings, *, fetch_ca: Fetch | None = None, store: CaStore | None = None) -> None:
        self._settings = settings
        self._store = store or Unkept()
        self._learnt: bytes | None = None
        """PEM of what the hub has said; None while the settings hold."""
        self._is_loaded = False
        self._stored: HubCa | None = None
        """What the store had when it was last read or written here."""
        self._kept = b""
        self._fetch = fetch_ca or _fetch_ca
        self._source = b""
        self._is_doubted = False
        """The hub's chain did not verify with the last context."""
        self.pins: tuple[str, ...] = ()
        """Pins of the CAs in the last context."""
        self._context: ssl.SSLContext | None = None

    async def context(self, proxy: Proxy | None) -> ssl.SSLContext:
        """The context to connect with; reads or fetches the CA. Raises ConnectFailed."""
        await self._load()
        if self._learnt is not None:
            if self._context is None:
                context = self._context = self._make(self._learnt, "what the hub has said of its CA")
                await self._add_renewed(context, proxy)
            return self._context
        if self._settings.ca_file is not None:
            try:
                source = self._read_file()
            except OSError as exc:
                raise _no_ca(f"--hub-ca-file {self._settings.ca_file} cannot be read: {exc.strerror}") from exc
            if self._context is not None and source == self._source:
                return self._context
            context = self._context = self._build(source)
            self._source = source
            await self._add_renewed(context, proxy)
            return context
        if self._context is None:
            self._context = self._build(await self._fetched(proxy))
        return self._context

    def doubt(self) -> None:
        """The hub's chain did not verify: next time ask the hub for its CA (of the same key, with other dates), and the
        store for what another replica has learnt."""
        self._context = None
        self._is_doubted = True
        self._is_loaded = False

    async def learn(self, args: LearnCa) -> CaLearnt:
        """What the hub says of its CAs on an open session. Raises StreamReset: nothing has changed then."""
        try:
            given = certificates_by_pin(args.ca.encode())
            ours = certificates_by_pin(self._kept)
        except (PinError, UnicodeError, ValueError):
            raise StreamReset("the CAs are malformed", Code.PROTOCOL) from None
        if not given.keys() & ours.keys():
            if not ours.keys() & set(args.pins):
                raise StreamReset(
                    "none of the CAs that this agent trusts would stay: behind a TLS terminator, name its pin in the"
                    " hub's agent_pins",
                    Code.REFUSED,
                )
            return CaLearnt(pins=tuple(ours), keeps=True)  # a terminator ends our TLS: the hub's own CA is not met
        wanted = {pin: der for pin, der in ours.items() if pin in args.pins} | given
        if len(wanted) > ACCEPTED_MAX:
            raise StreamReset(f"more than {ACCEPTED_MAX} CAs", Code.TOO_BIG)
        # A CA that was renewed with its key has the pin that it had; where the settings hold, `doubt` has it fetched.
        if wanted != ours if self._learnt is not None else wanted.keys() != ours.keys():
            pem = pem_of(wanted.values())
            try:
                self._context = self._make(pem, "what the hub says of its CA")
            except ConnectFailed:
                raise StreamReset("the CAs are malformed", Code.PROTOCOL) from None
            self._learnt = pem
            logger.info("hub CAs learnt", extra={"pins": list(self.pins)})
        return CaLearnt(pins=self.pins, keeps=await self._keep())

    async def _keep(self) -> bool:
        """Whether what is trusted now outlives this process."""
        if self._learnt is None:
            return True
        settings = self._settings
        known = HubCa(settings.ca_pins, self._learnt.decode("ascii"))
        try:
            await self._store.save(known)
        except CaUnusable as exc:
            logger.info("hub CAs not kept", extra={"reason": str(exc)})
            return settings.ca_file is None and set(self.pins) <= set(settings.ca_pins)
        self._stored = known
        return True

    async def _load(self) -> None:
        """What an earlier process has learnt, once; what another replica has, once the hub did not verify. Raises
        ConnectFailed."""
        if self._is_loaded:
            return
        before = self._learnt
        try:
            async with asyncio.timeout(LOOK_S if self.pins else None):
                known = await self._store.load()
        except (CaUnusable, TimeoutError) as exc:
            if self.pins:  # what is known holds, and the store is asked again
                return
            raise _unread(exc) from exc
        if known != self._stored and self._learnt is before:  # what was learnt here, and could not be kept, is newer
            try:
                self._take_over(known)
            except ConnectFailed:
                if self.pins:
                    return
                raise
            self._stored = known
        self._is_loaded = True

    def _take_over(self, known: HubCa | None) -> None:
        """Raises ConnectFailed for what is malformed: nothing has changed then."""
        if known is not None and known.settings == self._settings.ca_pins:
            learnt = known.ca.encode()
            self._make(learnt, KEPT)
            self._learnt, self._context = learnt, None

    def _read_file(self) -> bytes:
        assert self._settings.ca_file is not None
        return self._settings.ca_file.read_bytes()

    async def _add_renewed(self, context: ssl.SSLContext, proxy: Proxy | None) -> None:
        """Have `context`, whose CAs are kept here, trust what the hub gives out for the same keys too, once the hub did
        not verify: a CA that was renewed with its key has a certificate that is not here, and this one may have ended.
        """
        if not self._is_doubted:
            return
        pins = self.pins
        with contextlib.suppress(ConnectFailed, PinError, ssl.SSLError):
            renewed = keep_pinned(await self._fetched(proxy), pins)
            if renewed:
                context.load_verify_locations(cadata=renewed.decode("ascii"))
        self._is_doubted = False

    async def _fetched(self, proxy: Proxy | None) -> bytes:
        settings = self._settings
        try:
            return await self._fetch(settings, proxy)
        except (OSError, UnicodeError) as exc:
            through = proxy.address if proxy else ""
            raise ConnectFailed(of_network_error(exc, settings.host, settings.port, through=through)) from exc

    def _build(self, source: bytes) -> ssl.SSLContext:
        file = self._settings.ca_file
        where = f"--hub-ca-file {file}" if file is not None else "the hub's answer to /v1/ca"
        try:
            kept = keep_pinned(source, self._settings.ca_pins)
        except PinError as exc:
            raise _no_ca(f"{where} is unusable: {exc}") from exc
        if not kept:
            raise _no_ca(f"{where} holds no CA with the pin of --hub-ca-pin: one of the two belongs to another hub")
        return self._make(kept, where)

    def _make(self, kept: bytes, where: str) -> ssl.SSLContext:
        """A context that trusts these. Raises ConnectFailed."""
        try:
            found = certificates_by_pin(kept)
            context = ssl.create_default_context(cadata=kept.decode("ascii"))
        except (ssl.SSLError, UnicodeError) as exc:
            raise _no_ca(f"{where} holds the pinned key in a malformed certificate") from exc
        except PinError as exc:
            raise _no_ca(f"{where} is unusable: {exc}") from exc
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # A pin may name an intermediate CA; then the chain ends there.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if self._settings.allow_legacy_ca:
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.set_alpn_protocols([SUBPROTOCOL, "http/1.1"])  # the first says who we are: nobody chooses it
        self.pins, self._kept = tuple(found), pem_of(found.values())
        return context


async def _fetch_ca(settings: HubSettings, proxy: Proxy | None) -> bytes:
    """`GET /v1/ca`, unverified, without any credential."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    answer = await fetch.ask(settings.host, settings.port, f"{settings.prefix}/v1/ca", context=context, proxy=proxy)
    if answer.status != 200:
        raise ConnectFailed(of_cause(causes.HTTP_NO_CA, status=answer.status))
    logger.info("fetched the hub's CA", extra={"bytes": len(answer.body)})
    return answer.body


def _unread(exc: Exception) -> ConnectFailed:
    """Whether the hub has taught other CAs is not known."""
    if isinstance(exc, CaUnusable) and not exc.may_pass:
        return _no_ca(str(exc))
    return ConnectFailed(of_cause(causes.CREDENTIAL_UNREAD, said=str(exc)))


def _no_ca(what: str) -> ConnectFailed:
    return ConnectFailed(of_cause(causes.PIN_NO_CA, said=what))
