"""Which credential the agent shows, by its settings, and what it does for it while a session is open.

What a way does not need is not imported: an agent with an agent token signs nothing, only one with its key in a Secret
loads the Kubernetes client (14 MiB), and a node agent does neither.
"""

import contextlib
import time
from collections.abc import Sequence

from agent.config import Settings
from agent.hubca import CaFile, CaStore, Unkept
from agent.kubeconfig import KubeAccess
from agent.uplink.connect import Duty
from agent.uplink.credentials import AgentTokenFile, HubCredential


def wall_clock() -> float:
    """Seconds since the epoch."""
    return time.clock_gettime(time.CLOCK_REALTIME)


def choose(
    settings: Settings, access: KubeAccess, stack: contextlib.AsyncExitStack
) -> tuple[HubCredential, Sequence[Duty]]:
    """The credential and the duties that belong to it; what has to be released goes onto `stack`."""
    hub = settings.hub
    if settings.mode == "node":
        from agent.uplink.nodetoken import NodeTokenFile

        return NodeTokenFile(hub.token_file), ()
    if not hub.has_key:
        return AgentTokenFile(hub.token_file), ()
    from agent.keys import KeyFile
    from agent.uplink.enrolment import Enrolment
    from agent.uplink.keyring import Keyring
    from agent.uplink.rotation import KeyRotation

    if hub.key_file is not None:
        ring = Keyring(KeyFile(hub.key_file), wall_clock)
        return Enrolment(ring, hub.join_token_file, KeyRotation(ring)), ()
    from agent.issuer import IssuerRegistration
    from agent.keysecret import KeySecret
    from agent.kube import KubeApi
    from agent.podmap import PodRegistration

    api = KubeApi(access)
    stack.push_async_callback(api.close)
    ring = Keyring(KeySecret(api, hub.key_secret), wall_clock)
    duties: list[Duty] = [IssuerRegistration(api, access).tend, PodRegistration(api, access).tend]
    if settings.fallback_lease:  # the manifest with node agents, and with the right to list nodes
        from agent.nodetable import NodeRegistration

        duties.append(NodeRegistration(api).tend)
    return Enrolment(ring, hub.join_token_file, KeyRotation(ring)), duties


def ca_store(settings: Settings, access: KubeAccess, stack: contextlib.AsyncExitStack) -> CaStore:
    """Where this agent keeps what the hub says of its CAs: beside its key. What is to be released goes onto `stack`."""
    hub = settings.hub
    if settings.mode != "node" and hub.key_file is not None:
        return CaFile(hub.key_file)
    if settings.mode == "node" or not hub.key_secret:
        return Unkept()
    from agent.casecret import CaSecret
    from agent.kube import KubeApi

    api = KubeApi(access)
    stack.push_async_callback(api.close)
    return CaSecret(api, hub.key_secret)
