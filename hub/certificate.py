"""The hub's certificate: which files, which names, and its care while the hub runs."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import logging
import re
import socket
import urllib.parse
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Protocol

from hub import carotation, ownership, tls
from hub.config import Settings, host_and_port
from proto import pins
from proto.pins import PinError

logger = logging.getLogger(__name__)

SWEEP_S: Final = 5.0
"""How soon a replaced certificate file is noticed without SIGHUP."""
_DRAFT: Final = re.compile(r"\.[0-9a-f]{8}$")
"""How the name of a file ends that is not in its place yet (tls.write_private)."""
WILDCARDS: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 compared with, not listened on


class Reload(Protocol):
    """Look at the files of the certificate, and read them in any case when somebody asks."""

    def __call__(self, *, is_asked: bool) -> None: ...


async def renew(settings: Settings, reload: Reload, look: Callable[[], Awaitable[None]]) -> None:
    """Notice replaced files; make the self-made leaf anew before it ends; `look` where a rotation is. For ever."""
    said = ""
    while True:
        await asyncio.sleep(SWEEP_S)
        try:
            await asyncio.to_thread(ensure, settings)
            reload(is_asked=False)
            await look()
            said = ""
        except (tls.TlsError, PinError, OSError) as exc:
            reason = _closed(exc)
            fault = reason or _kind(exc)
            if fault == said:  # a disk may be read-only for days
                continue
            said = fault
            if reason:
                logger.error("a file of the hub cannot be read", extra={"reason": reason})
            else:
                logger.exception("hub certificate could not be renewed")


def _closed(exc: Exception) -> str:
    """Which file may not be opened by whom, and the cure; empty if something else is wrong."""
    if isinstance(exc, tls.TlsError) and isinstance(exc.__cause__, PermissionError):
        return str(exc)
    if not isinstance(exc, PermissionError) or not exc.filename:
        return ""
    path = Path(exc.filename)
    return f"{path}: {ownership.closed(path)}"


def _kind(exc: Exception) -> str:
    """What is the same at each look while the same is wrong."""
    return f"{exc.errno} {_DRAFT.sub('', str(exc.filename))}" if isinstance(exc, OSError) else str(exc)


def tls_files(settings: Settings) -> tls.TlsFiles:
    """The operator's files, or the ones that the hub makes."""
    if settings.tls_cert is not None and settings.tls_key is not None:
        # Behind a terminator of one's own (agent_pins) nobody meets this certificate by the public name.
        host = "" if settings.agent_pins else urllib.parse.urlsplit(settings.public_url).hostname or ""
        return tls.TlsFiles(settings.tls_cert, settings.tls_key, settings.tls_ca, host=host)
    directory = settings.data / tls.DIRECTORY
    more = carotation.accepted(directory)
    return tls.TlsFiles(directory / tls.LEAF_CERT, directory / tls.LEAF_KEY, directory / tls.CA_CERT, more)


def is_self_made(settings: Settings) -> bool:
    """Whether the hub has a CA of its own that signs its certificate."""
    return not settings.plain_http and settings.tls_cert is None


def ensure(settings: Settings) -> None:
    """Make the self-made leaf, or make it anew if names, dates or the CA ask for it; finish what a rotation of the CA
    has begun, and switch to an introduced CA when the one before it has ended: nobody could run a command in a pod
    whose hub does not start for that. Raises TlsError, OSError."""
    if not is_self_made(settings):
        return
    directory, now = settings.data / tls.DIRECTORY, datetime.datetime.now(datetime.UTC)
    with carotation.locked(directory):
        if carotation.switch_if_overdue(directory, now):
            logger.warning(
                "the hub's CA has ended, or this machine's clock is wrong: the next CA signs now; agents and"
                " kubeconfigs that do not know it need new manifests (riata clusters manifest) and `riata kubeconfig`"
            )
        tls.ensure_leaf(directory, hosts(settings), now, carotation.chain(directory))


def check_agent_ca(settings: Settings) -> None:
    """Raises TlsError when nobody could verify the hub by the CA that agents are to be given."""
    file = settings.agent_ca
    if file is None:
        return
    try:
        found = pins.pins_of_pem(file.read_bytes())
    except PermissionError as exc:
        raise tls.TlsError(f"{file}: {ownership.closed(file)}") from exc
    except OSError as exc:
        raise tls.TlsError(f"{file}, the file of agent_ca, cannot be read: {exc.strerror}") from exc
    except PinError as exc:
        raise tls.TlsError(f"{file}, the file of agent_ca: {exc}") from exc
    if pins.parse_pin(settings.agent_pins[0]) not in found:
        raise tls.TlsError(f"{file}, the file of agent_ca, has {', '.join(found)}: agent_pins has to name it first")


def hosts(settings: Settings) -> list[str]:
    """Every name under which clients may call this hub."""
    found = {"localhost", "127.0.0.1", "::1", *settings.tls_names}
    for address in settings.listen:
        host, _ = host_and_port(address)
        found.add(_host_name() if _canonical(host) in WILDCARDS else host)
    public = urllib.parse.urlsplit(settings.public_url).hostname
    return sorted(set(map(_canonical, found | ({public} if public else set()))))


def _canonical(host: str) -> str:
    """An address as certificates show it, without the zone, which is this machine's alone; a name as it is."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return host


def _host_name() -> str:
    """This machine's name, if a certificate can hold it."""
    name = socket.gethostname()
    return name if name.isascii() and name else "localhost"
