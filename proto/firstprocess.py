"""The first process of a container, which the kernel keeps from every signal that it does not handle.

Until the program has its own handlers (proto.aio.shutdown), a second of imports on a busy node, SIGTERM would be lost:
the pod would go on, serve, and be killed in the midst of it at the end of its grace period.
"""

import os
import signal


def end_on_sigterm() -> None:
    """End at SIGTERM at once, with status 143. Where this process is not the first one the kernel does so itself."""
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
