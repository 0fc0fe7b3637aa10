"""A side of a relay that writes down what it hears (proto.aio.busypoll.Leg)."""

from __future__ import annotations

from proto.aio.busypoll import BusyPoll, Leg


class Heard(Leg):
    """`log`: what was sent and what arrived, with its size."""

    __slots__ = ("log",)

    def __init__(self) -> None:
        super().__init__(BusyPoll(0.0))
        self.log: list[tuple[str, int]] = []

    def sent(self, size: int) -> None:
        self.log.append(("sent", size))

    def arrived(self, size: int) -> None:
        self.log.append(("arrived", size))
