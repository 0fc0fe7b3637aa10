"""What the hub says of its CAs over the tunnel: taken when something that is trusted stays, kept, and forgotten when
the settings change."""

import asyncio
import dataclasses
import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.hubca import CaFile, CaUnusable, HubCa
from agent.uplink.diagnose import ConnectFailed
from agent.uplink.trust import HubTrust
from proto.commands import CaLearnt, LearnCa
from proto.errors import Code, StreamReset
from proto.pins import pins_of_pem
from tests.agent.apiserver import Pki
from tests.agent.uplink.hub import settings

NAMED = "sha256:" + "e" * 64


@pytest.fixture
def old(tmp_path):
    return Pki(tmp_path)


@pytest.fixture
def new(tmp_path):
    return Pki(tmp_path, "new")


def pem(*pkis):
    return "".join(pki.ca_file.read_text() for pki in pkis)


def pins(*pkis):
    return tuple(pins_of_pem(pem(*pkis).encode()))


def lesson(*pkis, more=()):
    return LearnCa(ca=pem(*pkis), pins=(*pins(*pkis), *more))


async def trust_of(given, tmp_path):
    trust = HubTrust(given, store=CaFile(tmp_path / "agent.key"))
    await trust.context(None)
    return trust


async def test_the_second_ca_is_learnt_kept_and_outlives_the_first(old, new, tmp_path):
    given = settings(old, 1, tmp_path)
    trust = await trust_of(given, tmp_path)
    before = await trust.context(None)
    learnt = await trust.learn(lesson(old, new))
    assert (set(learnt.pins), learnt.keeps) == ({*pins(old), *pins(new)}, True)
    assert len((await trust.context(None)).get_ca_certs()) == 2
    assert await trust.context(None) is not before

    again = await trust_of(given, tmp_path)  # the agent restarts in the middle
    assert set(again.pins) == {*pins(old), *pins(new)}
    learnt = await again.learn(lesson(new))
    assert (learnt.pins, learnt.keeps) == (pins(new), True)
    given.ca_file.unlink()  # what the settings lead to matters no longer
    assert (await trust_of(given, tmp_path)).pins == pins(new)
    again.doubt()
    assert len((await again.context(None)).get_ca_certs()) == 1


async def test_other_pins_in_the_settings_have_the_last_word(old, new, tmp_path):
    trust = await trust_of(settings(old, 1, tmp_path), tmp_path)
    await trust.learn(lesson(old, new))
    await trust.learn(lesson(new))
    other = Pki(tmp_path, "other")
    assert (await trust_of(settings(other, 1, tmp_path), tmp_path)).pins == pins(other)


async def test_nothing_is_taken_that_would_replace_all_that_is_trusted(old, new, tmp_path):
    trust = await trust_of(settings(old, 1, tmp_path), tmp_path)
    with pytest.raises(StreamReset, match="agent_pins") as refused:
        await trust.learn(lesson(new))
    assert refused.value.code is Code.REFUSED
    assert trust.pins == pins(old)
    assert not (tmp_path / "agent.key.hub-ca").exists()


async def test_behind_a_terminator_the_hubs_own_ca_is_not_met_and_not_learnt(old, new, tmp_path):
    terminator = Pki(tmp_path, "terminator")
    trust = await trust_of(settings(terminator, 1, tmp_path), tmp_path)
    learnt = await trust.learn(lesson(old, new, more=pins(terminator)))
    assert (learnt.pins, learnt.keeps) == (pins(terminator), True)
    assert trust.pins == pins(terminator)


async def test_what_has_no_pin_of_the_hub_any_more_is_dropped(old, new, tmp_path):
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(pem(old, new))
    trust = await trust_of(settings(old, 1, tmp_path, ca_file=bundle, ca_pins=pins(old, new)), tmp_path)
    assert (await trust.learn(lesson(new, more=(NAMED,)))).pins == pins(new)


async def test_a_foreign_ca_that_a_hub_once_taught_is_dropped_with_the_first_step_of_a_rotation(old, new, tmp_path):
    """The hub was somebody else's for a while; its own CA stayed (docs/threat-model.md)."""
    given = settings(old, 1, tmp_path)
    trust = await trust_of(given, tmp_path)
    await trust.learn(lesson(old, Pki(tmp_path, "foreign")))
    assert set((await trust.learn(lesson(old, new))).pins) == {*pins(old), *pins(new)}
    await trust.learn(lesson(old))  # taken back
    assert (await trust_of(given, tmp_path)).pins == pins(old)


@pytest.mark.parametrize("ca", ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "\u00e9"])
async def test_nonsense_changes_nothing(old, tmp_path, ca):
    trust = await trust_of(settings(old, 1, tmp_path), tmp_path)
    with pytest.raises(StreamReset) as refused:
        await trust.learn(LearnCa(ca=ca, pins=pins(old)))
    assert refused.value.code is Code.PROTOCOL
    assert trust.pins == pins(old)


async def test_without_a_place_it_says_so_unless_the_settings_name_it(old, new, tmp_path):
    trust = HubTrust(settings(old, 1, tmp_path))
    await trust.context(None)
    assert not (await trust.learn(lesson(old, new))).keeps

    async def fetch(*_):
        return pem(old).encode()

    named = settings(old, 1, tmp_path, ca_file=None, ca_pins=pins(old, new))
    trust = HubTrust(named, fetch_ca=fetch)
    await trust.context(None)
    assert (await trust.learn(lesson(old, new))).keeps


async def test_what_is_kept_and_damaged_is_named(old, tmp_path):
    (tmp_path / "agent.key.hub-ca").write_text("{")
    with pytest.raises(ConnectFailed, match="remove it"):
        await trust_of(settings(old, 1, tmp_path), tmp_path)


async def test_a_place_that_fails_for_a_moment_is_asked_again(old, new, tmp_path):
    class Flaky:
        fails = True

        async def load(self):
            if self.fails:
                raise CaUnusable("the API server cannot be asked")
            return HubCa(given.ca_pins, pem(old, new))

        async def save(self, known):
            raise CaUnusable("no")

    given = settings(old, 1, tmp_path)
    store = Flaky()
    trust = HubTrust(given, store=store)
    with pytest.raises(ConnectFailed, match="cannot be asked"):
        await trust.context(None)
    store.fails = False
    await trust.context(None)
    assert len(trust.pins) == 2


@pytest.mark.parametrize(("may_pass", "cause"), [(True, "credential-unread"), (False, "pin-no-ca")])
async def test_an_api_server_that_cannot_be_asked_is_no_wrong_pin(old, tmp_path, may_pass, cause):
    """A wrong pin is waited out for half a minute and more, a blip is over by then."""
    store = Shared()
    store.failure = CaUnusable("Secret a/b: the API server answered", may_pass=may_pass)
    with pytest.raises(ConnectFailed, match="the API server answered") as caught:
        await HubTrust(settings(old, 1, tmp_path), store=store).context(None)
    assert (caught.value.diagnosis.cause, caught.value.diagnosis.is_slow) == (cause, not may_pass)


class Shared:
    """The Secret of two replicas."""

    def __init__(self):
        self.known, self.failure, self.looks = None, None, 0

    async def load(self):
        self.looks += 1
        if self.failure:
            raise self.failure
        return self.known

    async def save(self, known):
        if self.failure:
            raise self.failure
        self.known = known


async def replicas(given, count=2):
    store = Shared()
    found = [HubTrust(given, store=store) for _ in range(count)]
    for each in found:
        await each.context(None)
    return store, *found


async def test_a_replica_that_was_away_during_a_rotation_learns_from_the_one_that_was_not(old, new, tmp_path):
    """Its pod had to be restarted: what it trusted had been replaced."""
    store, there, away = await replicas(settings(old, 1, tmp_path))
    await there.learn(lesson(old, new))
    await there.learn(lesson(new))
    assert (await away.context(None), away.pins, store.looks) == (await away.context(None), pins(old), 2)
    away.doubt()
    store.failure = CaUnusable("the API server cannot be asked")
    await away.context(None)
    assert away.pins == pins(old)  # nothing is lost meanwhile
    store.failure = None
    assert len((await away.context(None)).get_ca_certs()) == 1
    assert away.pins == pins(new)
    looks = store.looks
    await away.context(None)
    assert store.looks == looks


async def test_what_could_not_be_kept_is_not_undone_by_what_was(old, new, tmp_path):
    store, trust, other = await replicas(settings(old, 1, tmp_path))
    await trust.learn(lesson(old, new))
    store.failure = CaUnusable("the API server cannot be asked")
    await trust.learn(lesson(new))
    store.failure = None
    trust.doubt()
    await trust.context(None)
    assert trust.pins == pins(new)
    await other.learn(lesson(old, new))  # the hub went back, and only the other one heard of it
    await other.learn(lesson(old))
    trust.doubt()
    await trust.context(None)
    assert trust.pins == pins(old)


async def test_a_store_that_does_not_answer_is_not_waited_for_once_something_is_known(old, tmp_path, monkeypatch):
    store, trust = await replicas(settings(old, 1, tmp_path), count=1)
    store.load = asyncio.Event().wait
    monkeypatch.setattr("agent.uplink.trust.LOOK_S", 0.0)
    trust.doubt()
    await trust.context(None)
    assert trust.pins == pins(old)


async def test_what_was_kept_for_other_pins_is_not_taken_over(old, new, tmp_path):
    """A rollout gives the other replica other pins first."""
    store, trust = await replicas(settings(old, 1, tmp_path), count=1)
    store.known = HubCa(pins(new), pem(new))
    trust.doubt()
    await trust.context(None)
    assert trust.pins == pins(old)


MALFORMED = ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]


@pytest.mark.parametrize("ca", MALFORMED)
async def test_malformed_cas_in_the_store_do_not_take_the_place_of_what_is_known(old, new, tmp_path, ca):
    """The agent trusted nothing until its pod was restarted."""
    store, trust, other = await replicas(settings(old, 1, tmp_path))
    store.known = HubCa(pins(old), ca)
    trust.doubt()
    await trust.context(None)
    assert trust.pins == pins(old)
    await other.learn(lesson(old, new))
    await other.learn(lesson(new))
    await trust.context(None)
    assert trust.pins == pins(new)


@pytest.mark.parametrize("ca", [*MALFORMED, "\u00e9"])
async def test_malformed_cas_in_the_store_are_named_and_read_again(old, tmp_path, ca):
    store = Shared()
    store.known = HubCa(pins(old), ca)
    trust = HubTrust(settings(old, 1, tmp_path), store=store)
    with pytest.raises(ConnectFailed, match=r"hub-ca\.json of its Secret.* remove it"):
        await trust.context(None)
    store.known = None
    await trust.context(None)
    assert trust.pins == pins(old)


async def test_words_beside_the_cas_in_the_store_do_not_stop_the_agent(old, tmp_path):
    store = Shared()
    store.known = HubCa(pins(old), f"{pem(old)}\u00e9")
    with pytest.raises(ConnectFailed, match="remove it"):
        await HubTrust(settings(old, 1, tmp_path), store=store).context(None)


async def test_a_lesson_while_the_store_is_read_is_the_newer_one(old, new, tmp_path):
    store, trust, other = await replicas(settings(old, 1, tmp_path))
    await other.learn(lesson(old, new))
    read = store.load

    async def load():
        known = await read()
        await trust.learn(lesson(old, new))
        await trust.learn(lesson(new))
        return known

    store.load = load
    trust.doubt()
    await trust.context(None)
    assert trust.pins == pins(new)


def certificate(key, days):
    """Of a CA with this key, valid for so long."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "renewed")])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(True, None), critical=True)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


async def test_a_learnt_ca_that_is_renewed_with_its_key_is_learnt_again(old, tmp_path):
    """Its pin is the same; the agent would be locked out when the certificate that it keeps ends."""
    given = settings(old, 1, tmp_path)
    trust = await trust_of(given, tmp_path)
    key = ec.generate_private_key(ec.SECP256R1())
    first, renewed = certificate(key, 10), certificate(key, 4000)
    (pin,) = pins_of_pem(first.encode())
    await trust.learn(LearnCa(ca=pem(old) + first, pins=(*pins(old), pin)))
    await trust.learn(LearnCa(ca=first, pins=(pin,)))
    assert (await trust.learn(LearnCa(ca=renewed, pins=(pin,)))) == CaLearnt(pins=(pin,), keeps=True)
    for holder in (trust, await trust_of(given, tmp_path)):
        (found,) = (await holder.context(None)).get_ca_certs(binary_form=True)
        assert found == x509.load_pem_x509_certificate(renewed.encode()).public_bytes(serialization.Encoding.DER)


async def test_where_the_settings_hold_another_certificate_of_the_key_changes_nothing(old, tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    first = certificate(key, 10)
    given = settings(old, 1, tmp_path)
    (pin,) = pins_of_pem(first.encode())
    given.ca_file.write_text(first)
    given = dataclasses.replace(given, ca_pins=(pin,))
    trust = await trust_of(given, tmp_path)
    before = await trust.context(None)
    assert (await trust.learn(LearnCa(ca=certificate(key, 4000), pins=(pin,)))).pins == (pin,)
    assert await trust.context(None) is before
