"""What all exchanges share."""

from dataclasses import dataclass

from agent.metrics import Counts
from agent.relay.credential import KubeCredential
from agent.relay.endpoint import Endpoint
from agent.relay.policy import Policy
from agent.relay.pool import Pool


@dataclass(frozen=True, slots=True)
class RelayContext:
    """The parts of the relay, built once by the composition root."""

    endpoint: Endpoint
    pool: Pool
    credential: KubeCredential
    policy: Policy
    counts: Counts
