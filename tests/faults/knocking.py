"""`python -m tests.faults.knocking PORT`: clients that connect, read a word and begin anew, until a line is read; then
prints what became of them, as JSON. A process of its own: only two processors can be in the same moment."""

import collections
import concurrent.futures
import json
import socket
import sys
import threading

CLIENTS = 8
UNANSWERED_S = 0.1
"""Less than a client's kernel waits before it knocks again."""
UNSERVED_S = 5.0


def knock(port: int) -> str:
    """What became of one client."""
    is_connected = False
    with socket.socket() as client:
        try:
            client.settimeout(UNANSWERED_S)
            client.connect(("127.0.0.1", port))
            is_connected = True
            client.settimeout(UNSERVED_S)
            return "served" if client.recv(1) else "closed_unserved"
        except TimeoutError:
            return "taken_by_nobody" if is_connected else "not_answered"
        except OSError as error:
            return "refused" if isinstance(error, ConnectionRefusedError) else type(error).__name__


def main() -> None:
    port, enough = int(sys.argv[1]), threading.Event()

    def one() -> collections.Counter[str]:
        fates: collections.Counter[str] = collections.Counter()
        while not enough.is_set():
            fates[knock(port)] += 1
        return fates

    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        counting = [pool.submit(one) for _ in range(CLIENTS)]
        sys.stdin.readline()
        enough.set()
        print(json.dumps(sum([each.result() for each in counting], collections.Counter())))


if __name__ == "__main__":
    main()
