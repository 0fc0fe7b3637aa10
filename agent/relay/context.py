"""What all exchanges share."""

from dataclasses import dataclass, field

from agent.counts import Counts
from agent.relay.credential import KubeCredential
from agent.relay.endpoint import Endpoint
from agent.relay.policy import Policy
from agent.relay.pool import Pool
from proto.compression import Histories


@dataclass(frozen=True, slots=True)
class RelayContext:
    """The parts of the relay, built once by the composition root."""

    endpoint: Endpoint
    pool: Pool
    credential: KubeCredential
    policy: Policy
    counts: Counts
    histories: Histories = field(default_factory=lambda: Histories(0))
    """Bounds how many answers are compressed at once."""
