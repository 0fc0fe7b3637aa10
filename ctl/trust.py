"""Whom we believe to be the hub: the CAs of the login and nothing else."""

import ssl

from ctl import errors, logins
from proto import pins


def context(login: logins.Login) -> ssl.SSLContext:
    """A verifying TLS context: only the login's CAs when it has any, else the system's."""
    try:
        made = ssl.create_default_context(cadata=login.ca or None)
    except (ssl.SSLError, ValueError, TypeError) as exc:
        raise errors.UsageError(
            "the CA file holds no certificate in PEM form", cure="use the hub's ca.crt (GET /v1/ca gives it too)"
        ) from exc
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    return made


def pinned(ca: str, pin: str) -> tuple[str, str]:
    """The certificates of the PEM text `ca` that have `pin`, and the pin in its normal form (design P8).

    Others in the file are dropped: what the pin does not vouch for is not trusted. CommandError when none is left.
    """
    try:
        wanted = pins.parse_pin(pin)
        kept = pins.keep_pinned(ca.encode(), [wanted]).decode()
        found = pins.pins_of_pem(ca.encode())
    except pins.PinError as exc:
        raise errors.UsageError(str(exc)) from exc
    if not kept:
        raise errors.CommandError(
            "the CA file does not match the pin",
            means=f"wanted {wanted}, the file has {', '.join(found)}",
            cure="get the CA file and its pin again from whoever runs the hub; do not go on with this one",
        )
    return kept, wanted
