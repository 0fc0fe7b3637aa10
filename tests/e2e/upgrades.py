"""Which transport kubectl used: it falls back from WebSocket to SPDY without a word, so its log (`-v=8`) is read."""

import re
from typing import NamedTuple

from tests.e2e.kubectl import SPDY, WEBSOCKET


class Upgrade(NamedTuple):
    """A request that was answered with 101, and the protocol that the answer named."""

    verb: str
    protocol: str


COMMAND = {WEBSOCKET: Upgrade("GET", "v5.channel.k8s.io"), SPDY: Upgrade("POST", "v4.channel.k8s.io")}
"""exec, attach and cp. Over SPDY an API server speaks v4 at most."""

FORWARD = {WEBSOCKET: Upgrade("GET", "SPDY/3.1+portforward.k8s.io"), SPDY: Upgrade("POST", "portforward.k8s.io")}
"""port-forward. Over WebSocket it is SPDY inside (KEP-4006)."""

_VERB = re.compile(r'"Request" verb="(\w+)"')
_PROTOCOL = re.compile(r"\s+(?:Sec-Websocket-Protocol|X-Stream-Protocol-Version): (\S+)")


def upgrades(log: str) -> list[Upgrade]:
    """Every upgrade that the standard error of a `kubectl -v=8` shows, in its order."""
    found = []
    verb, protocol, in_upgrade = "", "", False
    for line in log.splitlines():
        if match := _VERB.search(line):
            verb = match[1]
        elif '"Response" status="101 Switching Protocols"' in line:
            in_upgrade, protocol = True, ""
        elif in_upgrade and (match := _PROTOCOL.fullmatch(line)):
            protocol = match[1]
        elif in_upgrade and line.startswith(" >"):
            in_upgrade = False
            found.append(Upgrade(verb, protocol))
    return found
