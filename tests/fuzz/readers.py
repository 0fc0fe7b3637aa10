"""Everything that reads the peer's bytes, as one function of one input, and the seeds it starts from.

The contract: input is accepted, or refused with a ProtocolError (handshake, codec) or by ending the session or a
stream (session). Anything else is a crash. The first byte picks the reader; for a session the rest is cut into
messages by two-byte lengths.
"""

import pathlib
from collections.abc import Iterator

from proto import codec, errors, messages
from proto.compression import BLOCK_MAX_BYTES
from proto.compressor import Compressor
from proto.decompressor import Decompressor
from proto.errors import Code
from proto.events import EndKind
from proto.handshake import AgentHandshake, HubHandshake
from proto.limits import Limits
from tests.proto import recording
from tests.proto.pair import INSTANCE, NONCE, Pair

SEEDS = sorted(recording.DIRECTORY.glob("v*.hex"))


def cut(data: bytes) -> Iterator[bytes]:
    position = 0
    while position + 2 <= len(data):
        length = int.from_bytes(data[position : position + 2])
        yield data[position + 2 : position + 2 + length]
        position += 2 + length


def read_session(data: bytes) -> None:
    """Feed messages to a session that has streams in every state a peer can meet."""
    pair = Pair(Limits(window_bytes=4096, window_max_bytes=8192, session_window_bytes=16_384))
    pair.hub.get()
    answered = pair.hub.request("POST")
    upgraded = pair.hub.request("GET", upgrade="websocket")
    pair.hub.dial()
    pair.hub.flush()
    for number, message in enumerate(cut(data)):
        pair.hub.receive(message)
        pair.hub.flush()
        pair.hub.session.consumed(answered, 100)
        if number == 3:
            pair.hub.session.reset_stream(upgraded, Code.CANCELLED, now=pair.now)
        pair.now += 0.5
        pair.hub.session.handle_timer(pair.now)
    reason = pair.hub.session.end_reason
    assert reason is None or reason.kind is not EndKind.INTERNAL
    kept = sum(stream.buffered for stream in pair.hub.session.table.streams.values())
    assert kept <= min(len(data), 16_384 * 8)


def read_message(data: bytes) -> None:
    """Decode one control message of every type; what is accepted must encode to the same bytes."""
    if not data:
        return
    kind = codec._TYPES[data[0] % len(codec._TYPES)]
    try:
        message = codec.decode(kind, data[1:])
    except errors.ProtocolError:
        return
    assert codec.encode(message) == data[1:]


def read_handshake(data: bytes) -> None:
    """Both sides of a handshake against whatever comes."""
    hub = HubHandshake("hub", NONCE, Limits())
    agent = AgentHandshake("cluster", INSTANCE, 1, Limits())
    hello = hub.hello()
    for step, message in enumerate(cut(data)):
        try:
            if step % 2:
                hub.receive(message)
                hub.welcome(hub.make_welcome("s", "c"))
            elif step == 0:
                agent.receive_hello(message)
            else:
                agent.receive_answer(message)
        except errors.ProtocolError:
            agent = AgentHandshake("cluster", INSTANCE, 1, Limits())
            agent.receive_hello(hello)
            agent.auth(messages.Credential(scheme="bearer", value=b"x"))
        except errors.UsageError:
            return  # `welcome` twice: the caller ends with the first error


def read_body(data: bytes) -> None:
    """Decode a compressed body that comes in pieces; no block yields more than it may."""
    decompressor = Decompressor()
    for piece in cut(data):
        decompressor.feed(piece)
        try:
            while (block := decompressor.next()) is not None:
                assert 0 < len(block.data) <= BLOCK_MAX_BYTES
        except errors.ProtocolError:
            return
    assert decompressor.pending_bytes <= len(data)


READERS = (read_session, read_message, read_handshake, read_body)


def one_input(data: bytes) -> None:
    """The fuzz target."""
    if data:
        READERS[data[0] % len(READERS)](data[1:])


def seeds() -> Iterator[bytes]:
    """Inputs from the recordings: what each side said, as one session and one handshake."""
    for path in SEEDS:
        steps = recording.parse(path.read_text())
        shake = steps.pop("handshake")
        yield b"\x02" + b"".join(len(message).to_bytes(2) + message for _, message in shake)
        for speaker in ("hub", "agent"):
            said = [message for step in steps.values() for who, message in step if who == speaker]
            yield b"\x00" + b"".join(len(message).to_bytes(2) + message for message in said)
        for _, message in shake:
            yield b"\x01" + message[8:]
    compressor = Compressor(4096)
    blocks = [block for number in range(3) for block in compressor.encode(b'{"number":%d}' % number * 40)]
    yield b"\x03" + b"".join(len(block).to_bytes(2) + block for block in blocks)


def write_seeds(directory: pathlib.Path) -> None:
    for number, seed in enumerate(seeds()):
        (directory / f"seed-{number}").write_bytes(seed)
