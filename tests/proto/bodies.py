"""Bodies as API servers send them, and what other zstd implementations make of their blocks."""

import hashlib
import struct

from proto.compression import BLOCK_HEADER, HISTORY_BYTES, Form

EVENT_BYTES = 5000


def pod(number: int) -> bytes:
    """About 2 KiB: names, uids and digests differ from pod to pod, the rest does not."""
    seed = hashlib.sha256(str(number).encode()).hexdigest()
    managed = "".join(f'"f:{name}":{{"f:{seed[at]}":{{}}}},' for at, name in enumerate(("name", "ready", "state") * 15))
    return (
        f'{{"metadata":{{"name":"web-{seed[:9]}","uid":"{seed[9:41]}","resourceVersion":"{1000 + number}",'
        f'"managedFields":[{{"manager":"kubelet","fieldsV1":{{{managed}}}}}]}},'
        f'"spec":{{"nodeName":"node-{number % 200}","containers":[{{"image":"registry.example/web@sha256:{seed}"}}]}},'
        f'"status":{{"podIP":"10.0.{number >> 8 & 255}.{number & 255}"}}}}'
    ).encode()


def event(number: int) -> bytes:
    """A watch event of 5 KB or a little more, JSON, on a line of its own."""
    items = [pod(number)]
    while sum(map(len, items)) < EVENT_BYTES:
        items.append(pod(number + len(items)))
    return b'{"type":"MODIFIED","object":{"items":[' + b",".join(items) + b"]}}\n"


def pod_list(size: int) -> bytes:
    """A PodList of about `size` bytes."""
    items, total = list[bytes](), 0
    while total < size:
        items.append(pod(len(items)))
        total += len(items[-1]) + 1
    return b'{"kind":"PodList","items":[' + b",".join(items) + b"]}\n"


def block(form: int, size: int, payload: bytes) -> bytes:
    return BLOCK_HEADER.pack(form << 24 | size, len(payload)) + payload


def runs(size: int) -> bytes:
    """The blocks of a zstd frame of `size` equal bytes, which take four bytes a block (RFC 8878 §3.1.1.2)."""
    return (1 | 1 << 1 | size << 3).to_bytes(3, "little") + b"x"


def frames_of(blocks: bytes) -> list[tuple[bytes, int, int]]:
    """What docs/protocol.md says of a body, written down a second time: (frame, bytes in front to drop, size)."""
    found, history, at = [], 0, 0
    while at < len(blocks):
        word, length = BLOCK_HEADER.unpack_from(blocks, at)
        form, size = word >> 24, word & 0xFFFFFF
        payload = blocks[at + BLOCK_HEADER.size :][:length]
        known = min(history, HISTORY_BYTES) if form == Form.ZSTD_AFTER_HISTORY else 0
        if form != Form.STORED:
            found.append((b"\x28\xb5\x2f\xfd" + struct.pack("<BI", 0xA0, known + size) + payload, known, size))
        history += size
        at += BLOCK_HEADER.size + length
    return found
