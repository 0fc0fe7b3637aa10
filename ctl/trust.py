"""Whom we believe to be the hub: the CAs of the login and nothing else."""

import ssl

from ctl import errors, files, logins
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


def pins_of(ca: str) -> list[str]:
    """The pin of each CA of a login or a kubeconfig: as many as its CA file may have. Raises PinError."""
    return pins.pins_of_pem(ca.encode(), bytes_max=files.MAX_BYTES)


def pinned(ca: str, pin: str) -> tuple[str, str]:
    """The certificates of the PEM text `ca` that have `pin`, and the pin in its normal form (design P8).

    Others in the file are dropped: what the pin does not vouch for is not trusted. CommandError when none is left.
    """
    try:
        wanted = pins.parse_pin(pin)
        kept = pins.keep_pinned(ca.encode(), [wanted], bytes_max=files.MAX_BYTES).decode()
        found = pins_of(ca)
    except pins.PinError as exc:
        raise errors.UsageError(str(exc)) from exc
    if not kept:
        raise errors.CommandError(
            "the CA file does not match the pin",
            means=f"wanted {wanted}, the file has {', '.join(found)}",
            cure="get the CA file and its pin again from whoever runs the hub; do not go on with this one",
        )
    return kept, wanted


def follow(ca: str, given: str) -> str:
    """The CAs to trust from now on: `ca`, followed by what the hub gives out (`given`), over a connection that `ca` has
    verified, while it replaces its own CA. Both then; the new one alone once the old one was given up.

    Of `ca` goes what has the name of the hub's CA and is given out no longer; what is another's stays, such as the CA
    of a TLS terminator. `ca` as it is when the two have nothing in common, or `given` is nonsense.
    """
    try:
        ours = pins.certificates_by_pin(ca.encode(), bytes_max=files.MAX_BYTES)
        theirs = pins.certificates_by_pin(given.encode())
        if not ours.keys() & theirs.keys():
            return ca
        names = {_subject(certificate) for certificate in theirs.values()}
        others = {pin: each for pin, each in ours.items() if pin not in theirs and _subject(each) not in names}
    except (pins.PinError, ssl.SSLError, ValueError):
        return ca
    wanted = {**theirs, **others}
    return ca if wanted.keys() == ours.keys() else pins.pem_of(wanted.values()).decode("ascii")


def _subject(certificate: bytes) -> object:
    """Raises SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=certificate)
    (found,) = context.get_ca_certs()
    return found["subject"]
