"""Knowing the hub: a TLS context whose only roots are CAs that match the pins (design P8).

There is no trust on first use and no way to switch verification off. Since nothing but a pinned CA is in the store, a
verified chain ends in one. Without a CA file the CA is fetched over a connection that carries no credential and proves
nothing; what does not match a pin is thrown away before anything is trusted.
"""

import logging
import ssl
from collections.abc import Awaitable, Callable

from agent.config import HubSettings
from agent.uplink import fetch
from agent.uplink.diagnose import ConnectFailed, of_cause, of_network_error
from agent.uplink.proxies import Proxy
from proto import causes
from proto.pins import PinError, keep_pinned, pins_of_pem

logger = logging.getLogger(__name__)

Fetch = Callable[[HubSettings, Proxy | None], Awaitable[bytes]]
"""Returns the hub's CA bundle as it claims to be. Raises OSError."""


class HubTrust:
    """Makes the context for each connect; remembers it while its source stays the same."""

    def __init__(self, settings: HubSettings, *, fetch_ca: Fetch | None = None) -> None:
        self._settings = settings
        self._fetch = fetch_ca or _fetch_ca
        self._source = b""
        self.pins: tuple[str, ...] = ()
        """Pins of the CAs in the last context."""
        self._context: ssl.SSLContext | None = None

    async def context(self, proxy: Proxy | None) -> ssl.SSLContext:
        """The context to connect with; reads or fetches the CA. Raises ConnectFailed."""
        if self._settings.ca_file is not None:
            try:
                source = self._read_file()
            except OSError as exc:
                raise _no_ca(f"--hub-ca-file {self._settings.ca_file} cannot be read: {exc.strerror}") from exc
            if self._context is not None and source == self._source:
                return self._context
        elif self._context is not None:
            return self._context
        else:
            source = await self._fetched(proxy)
        self._context = self._build(source)
        self._source = source
        return self._context

    def doubt(self) -> None:
        """The hub's chain did not verify: fetch the CA again next time (its key is the same, its dates may not be)."""
        self._context = None

    def _read_file(self) -> bytes:
        assert self._settings.ca_file is not None
        return self._settings.ca_file.read_bytes()

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
        self.pins = tuple(dict.fromkeys(pins_of_pem(kept)))
        try:
            context = ssl.create_default_context(cadata=kept.decode("ascii"))
        except ssl.SSLError as exc:
            raise _no_ca(f"{where} holds the pinned key in a malformed certificate") from exc
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # A pin may name an intermediate CA; then the chain ends there.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if self._settings.allow_legacy_ca:
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.set_alpn_protocols(["http/1.1"])
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


def _no_ca(what: str) -> ConnectFailed:
    return ConnectFailed(of_cause(causes.PIN_NO_CA, said=what))
