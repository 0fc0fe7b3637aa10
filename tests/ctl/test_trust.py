"""Whom we believe: a login's CAs and nothing else."""

import ssl

import pytest
import trustme

from ctl import errors, logins, trust
from proto import pins


def _pem(ca: trustme.CA) -> str:
    return ca.cert_pem.bytes().decode()


def test_a_login_with_a_ca_trusts_only_that() -> None:
    context = trust.context(logins.Login(hub="https://h", ca=_pem(trustme.CA())))
    assert len(context.get_ca_certs()) == 1
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("ca", ["nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "ü"])
def test_a_ca_that_is_none_is_a_usage_error(ca: str) -> None:
    with pytest.raises(errors.UsageError):
        trust.context(logins.Login(hub="https://h", ca=ca))


def test_only_what_the_pin_vouches_for_is_kept() -> None:
    ours, other = trustme.CA(), trustme.CA()
    pin = pins.pins_of_pem(ours.cert_pem.bytes())[0]
    kept, normal = trust.pinned(_pem(other) + _pem(ours), pin.upper())
    assert (pins.pins_of_pem(kept.encode()), normal) == ([pin], pin)
    with pytest.raises(errors.CommandError, match="does not match"):
        trust.pinned(_pem(other), pin)


@pytest.mark.parametrize(("ca", "pin"), [("nonsense", "sha256:" + "0" * 64), ("", "sha256:short"), ("", "")])
def test_malformed_pins_and_files_are_usage_errors(ca: str, pin: str) -> None:
    with pytest.raises(errors.UsageError):
        trust.pinned(ca, pin)


def named(name: str) -> trustme.CA:
    return trustme.CA(organization_name=name, organization_unit_name="x")


def test_a_login_follows_the_hub_while_it_replaces_its_ca() -> None:
    old, new, front = (named(name).cert_pem.bytes().decode() for name in ("hub", "hub", "front"))

    def found(*certificates: str) -> set[str]:
        return set(pins.pins_of_pem("".join(certificates).encode()))

    assert found(trust.follow(old, old + new)) == found(old, new)
    assert found(trust.follow(old + new, new + old)) == found(old, new)
    assert found(trust.follow(old + new, new)) == found(new)
    assert found(trust.follow(front + old, old + new)) == found(front, old, new)
    company = "".join(_pem(trustme.CA()) for _ in range(4)) * 120  # more than anybody sends
    assert found(old, new) < set(trust.pins_of(trust.follow(company + old, old + new)))
    for given in ("", "nonsense", new, front, old):
        assert trust.follow(old, given) == old
