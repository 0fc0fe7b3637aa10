"""What a kubeconfig holds as base64, read as kubectl reads it, by the agent and the command line alike."""

import base64


def decoded(data: str) -> bytes:
    """A field `…-data`: line breaks are skipped, and nothing else (Go's encoding/base64). Raises ValueError."""
    return base64.b64decode(data.replace("\r", "").replace("\n", ""), validate=True)


def ca_text(ca: bytes) -> str:
    """A CA in PEM as `ssl` takes it. What is not ASCII is a comment between certificates; it never becomes nothing,
    which would mean the system's store."""
    return ca.decode("ascii", "backslashreplace")
