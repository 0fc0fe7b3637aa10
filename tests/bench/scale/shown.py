"""What a simulated agent shows the hub: the agent token of its cluster, or a signature by the cluster's key.

One line of text each, in a file that only its owner may read: the token, or the cluster's uid, the key's seed in
hexadecimal and the hub's pin.
"""

from collections.abc import Callable

from hub.clock import wall_clock
from proto import codec, credentials, messages

Shown = Callable[[messages.HubHello, bytes, int], messages.Credential]
"""The credential for a session that begins, by the hub's HELLO, the agent's instance and its epoch."""


def key_line(cluster_uid: str, seed: bytes, pin: str) -> str:
    return f"{cluster_uid} {seed.hex()} {pin}"


def read(line: str) -> Shown:
    """Raises ValueError."""
    if " " not in line:
        token = messages.Credential(scheme="bearer", value=line.encode())
        return lambda hello, instance, epoch: token
    uid, seed, pin = line.split()
    return _signing(uid, bytes.fromhex(seed), pin)


def _signing(uid: str, seed: bytes, pin: str) -> Shown:
    key = credentials.public_key(seed)

    def sign(hello: messages.HubHello, instance: bytes, epoch: int) -> messages.Credential:
        transcript = messages.Transcript(
            purpose=credentials.SIGNATURE,
            hub_id=hello.hub_id,
            nonce=hello.nonce,
            pins=(pin,),
            cluster=uid,
            token_sha256=b"",
            role="cluster",
            instance=instance,
            epoch=epoch,
            signed_at=int(wall_clock() * 1000),
            key=key,
        )
        at, signature = transcript.signed_at, credentials.sign(seed, transcript)
        proof = messages.SignatureProof(cluster=uid, key=key, pins=(pin,), signed_at=at, signature=signature)
        return messages.Credential(scheme=credentials.SIGNATURE, value=codec.encode(proof))

    return sign
