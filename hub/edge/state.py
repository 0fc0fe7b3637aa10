"""Where a client connection stands."""

import enum


class State(enum.IntEnum):
    """HEAD: before or in a request head. BODY: the body is under way. ANSWER: request read, response under way.
    OPAQUE: upgraded. LINGER: answered and about to close, input is thrown away. CLOSED: also when handed over."""

    HEAD = 0
    BODY = 1
    ANSWER = 2
    OPAQUE = 3
    LINGER = 4
    CLOSED = 5
