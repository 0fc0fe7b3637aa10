"""What times get on a machine that does other things too, as one that runs `make test` does."""

import functools
import os


@functools.cache
def room() -> float:
    """By how much a time may be longer than promised: RIATA_FAULTS_ROOM, 1 in `make faults`, whose machine does nothing
    else. A test run's machine does, and what it shows there is that the promise is not missed by far."""
    return float(os.environ.get("RIATA_FAULTS_ROOM", 3))
