"""riata-hub that dies by SIGKILL at a chosen write: `python -m tests.e2e.failpoint N:before|after serve …`.

N counts the changes of the store since the start, from 1. `before`: inside the transaction, nothing of it is kept.
`after`: it is committed and durable, and nobody was told. N = 0 never dies.
"""

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from hub import cli
from hub.store import statements
from hub.store.writer import Writer


def arm(number: int, is_after: bool) -> None:
    """Patch the store."""
    log, commit = statements._log, Writer._commit
    state = {"count": 0, "doomed": False}

    def counted(*args: Any, **more: Any) -> Any:
        state["count"] += 1
        if state["count"] == number:
            if not is_after:
                os.kill(os.getpid(), signal.SIGKILL)
            state["doomed"] = True
        return log(*args, **more)

    def committed(self: Writer, jobs: Sequence[Any]) -> None:
        commit(self, jobs)
        if state["doomed"]:
            os.kill(os.getpid(), signal.SIGKILL)

    statements._log = counted
    Writer._commit = committed  # type: ignore[method-assign]


def main() -> int:
    number, _, when = sys.argv[1].partition(":")
    if int(number):
        arm(int(number), when == "after")
    return cli.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
