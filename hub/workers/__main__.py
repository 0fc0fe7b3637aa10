"""A worker process: `python -m hub.workers DESCRIPTOR PARENT`, started by the main process only."""

import sys


def main() -> int:
    from hub.workers import process

    process.leave_signals()
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    process.end_with(parent)
    from hub.workers.worker import run
    from proto.aio import loop

    loop.settle()
    return loop.run(run(descriptor))


if __name__ == "__main__":
    sys.exit(main())
