"""A hub of a script for the doctor: `/v1/ca` by plain HTTP, the tunnel's handshake, and faults in between."""

import contextlib
import email.utils
import http

from agent.config import KubeSettings, Settings
from tests.agent.uplink.hub import ServerTransport, settings, websocket_hub, welcome

NOW = 1_800_000_000.0
"""What both clocks say where they agree."""
KUBE = KubeSettings(url="https://kube.test", ca_file="/ca", token_file="/token")


def whole(pki, port, tmp_path, *, proxies=None, **more):
    """Settings for a loopback hub."""
    return Settings(hub=settings(pki, port, tmp_path, **more), kube=KUBE, proxy_environment=proxies or {})


class Hub:
    """What it was asked, and how it answers."""

    def __init__(self, *, refuse=None, strips=False, date=NOW, status=None, tries=True, ca=b""):
        self.refuse, self.strips, self.date, self.status = refuse, strips, date, status
        self.seen, self.tries, self.ca = [], tries, ca

    async def serve(self, connection):
        await welcome(ServerTransport(connection), refuse=self.refuse, seen=self.seen, tries=self.tries)

    def answer(self, connection, request):
        """What is no tunnel; and what a proxy makes of one that takes the Upgrade away."""
        is_tunnel = request.path == "/v1/tunnel"
        if is_tunnel and not self.strips and self.status is None:
            return None
        status = http.HTTPStatus.OK if not is_tunnel else self.status or http.HTTPStatus.BAD_REQUEST
        response = connection.respond(status, self.ca.decode() if request.path == "/v1/ca" else "")
        del response.headers["Date"]
        if self.date is not None:
            response.headers["Date"] = email.utils.formatdate(self.date, usegmt=True)
        return response

    @contextlib.asynccontextmanager
    async def listening(self, pki, **more):
        """Yields the port."""
        async with websocket_hub(pki, self.serve, process_request=self.answer, **more) as port:
            yield port
