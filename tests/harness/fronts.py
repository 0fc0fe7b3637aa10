"""What stands in front of hubs in real installations: HAProxy ending TLS, with a certificate of another CA."""

from __future__ import annotations

import dataclasses
import shutil
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import trustme

from proto.pins import pins_of_pem
from tests.harness.children import Child, until
from tests.harness.failures import HarnessError
from tests.harness.hubs import Hub
from tests.harness.runs import Run

_CONFIG = """
global
    maxconn 2000
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout tunnel 1h
frontend public
{binds}
    http-request deny deny_status 404 if !{{ path -m beg {prefix}/ }}
    http-request replace-path {prefix}(/.*) \\1
    default_backend hub
backend hub
    server hub {hub} {tls}
"""


@dataclasses.dataclass(frozen=True)
class Terminator:
    """The CA and the certificate of a terminator, before it runs: the hub has to know its pin when it starts."""

    directory: Path
    ca_file: Path
    pin: str
    certificate: Path


def terminator(name: str, hosts: Sequence[str]) -> Terminator:
    """`hosts`: names and addresses that the certificate covers."""
    directory = Run.current().subdirectory(name)
    ca = trustme.CA()
    ca_file, certificate = directory / "ca.crt", directory / "front.pem"
    ca.cert_pem.write_to_path(str(ca_file))
    certificate.touch(mode=0o600)
    ca.issue_cert(*hosts).private_key_and_cert_chain_pem.write_to_path(str(certificate))
    return Terminator(directory, ca_file, pins_of_pem(ca_file.read_bytes())[0], certificate)


@asynccontextmanager
async def haproxy(
    made: Terminator, hub: Hub, hosts: Sequence[str], *, prefix: str = "", port: int = 0, plain: bool = False
) -> AsyncIterator[Hub]:
    """`hub` as it is seen through an HAProxy on each of `hosts`, `port` 0 for a free one. It passes on what is below
    `prefix`, without it. `plain`: the hub serves no TLS. Raises HarnessError when there is no such program."""
    program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if program is None:
        raise HarnessError("there is no haproxy: make node-packages, or apt-get install haproxy")
    port = port or _free(hosts)
    binds = "\n".join(f"    bind {host}:{port} ssl crt {made.certificate} alpn http/1.1" for host in hosts)
    tls = "" if plain else f"ssl verify required ca-file {hub.ca_file} verifyhost localhost"
    config = made.directory / "haproxy.cfg"
    address = urlsplit(hub.url).netloc
    config.write_text(_CONFIG.format(binds=binds, prefix=prefix, hub=address, tls=tls))
    child = Child.start("haproxy", [program, "-db", "-f", str(config)], log=made.directory / "haproxy.log")
    try:
        for host in hosts:
            await until(lambda: _listens(host, port), what="haproxy does not listen", timeout_s=10, alive=[child])  # noqa: B023
        shown = "" if port == 443 else f":{port}"
        urls = [f"https://{host}{shown}{prefix}" for host in hosts]
        yield dataclasses.replace(hub, urls=urls, url=urls[0], ca_file=made.ca_file, ca_pin=made.pin)
    finally:
        await child.stop(5)


def _listens(host: str, port: int) -> bool:
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex((host, port)) == 0


def _free(hosts: Sequence[str]) -> int:
    """A port that is free on all of them. Raises HarnessError."""
    for _ in range(20):
        with _bound(hosts[0], 0) as port:
            try:
                for host in hosts[1:]:
                    with _bound(host, port):
                        pass
            except OSError:
                continue
            return port
    raise HarnessError(f"no port is free on {', '.join(hosts)}")


@contextmanager
def _bound(host: str, port: int) -> Iterator[int]:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        yield sock.getsockname()[1]
