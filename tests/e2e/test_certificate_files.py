"""Certificate files of one's own, replaced while requests, a watch and an agent's session go over the old ones."""

import asyncio
import datetime
import ssl
from pathlib import Path

import aiohttp
import pytest

from hub import tls
from proto.pins import pins_of_pem
from tests.e2e.test_ca_rotation import load, rig
from tests.hub.workers.world import until

pytestmark = [pytest.mark.timeout(180)]

NOW = datetime.datetime.now(datetime.UTC)


def issue(directory: Path, to: Path, *hosts: str, now: datetime.datetime = NOW) -> None:
    """A new certificate of the CA in `directory`, its two files written to `to` one after the other."""
    tls.ensure_leaf(directory, hosts, now)
    for name in (tls.LEAF_CERT, tls.LEAF_KEY):
        (to / name).write_bytes((directory / name).read_bytes())
        (directory / name).unlink()


async def metric(url: str, name: str) -> float:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        for line in (await answer.text()).splitlines():
            if line.startswith(name):
                return float(line.rpartition(" ")[2])
    return 0.0


async def served(url: str, ca: Path) -> bytes:
    """The certificate that a new connection meets."""
    host, port = url.split("//")[1].split(":")
    context = ssl.create_default_context(cafile=str(ca))
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    assert isinstance(found, bytes)
    return found


@pytest.mark.parametrize("workers", [1, 2])
async def test_files_are_replaced_under_load_and_bad_ones_are_not_taken(tmp_path: Path, workers: int) -> None:
    own, files = tmp_path / "own", tmp_path / "files"
    files.mkdir()
    tls.make_ca(own, "own", NOW)
    issue(own, files, "127.0.0.1", "localhost")
    ca = own / tls.CA_CERT
    flags = ["--tls-cert", files / tls.LEAF_CERT, "--tls-key", files / tls.LEAF_KEY, "--tls-ca", ca]
    async with rig(tmp_path, workers, *flags, ca=ca) as a_rig:
        _, made = await a_rig.manage("POST", "/v1/clusters/alpha/join-tokens", {})
        (tmp_path / "join.token").write_text(made["token"])
        agent = ["--hub-ca-pin", pins_of_pem(ca.read_bytes())[0], "--key-file", tmp_path / "agent.key"]
        await a_rig.start_agent("agent", *agent, "--join-token-file", tmp_path / "join.token")
        await until(lambda: a_rig.count("session opened") == 1, "agent not connected")
        url, page = a_rig.ready["url"], a_rig.ready["metrics_url"]
        async with load(a_rig) as seen, a_rig.watch() as line:
            a_rig.api.event(1)
            assert '"n":1' in await line()
            first = await served(url, ca)
            issue(own, files, "127.0.0.1", "localhost")
            await until(lambda: a_rig.count("hub certificate reloaded") == workers, "not reloaded")
            second = await served(url, ca)
            assert second != first

            (files / tls.LEAF_KEY).write_bytes((own / tls.CA_KEY).read_bytes())  # does not belong to it
            await until(lambda: a_rig.count("new certificate refused, the old one stays") == workers, "not refused")
            issue(own, files, "127.0.0.1", now=NOW - tls.LEAF_LIFETIME - datetime.timedelta(days=1))
            await until(lambda: "ended at" in (tmp_path / "hub.log").read_text(), "an old one was taken")
            assert await served(url, ca) == second
            assert await metric(page, 'riata_hub_certificate_reloads_total{result="refused"}') >= 1

            issue(own, files, "127.0.0.1", "localhost")
            await until(lambda: a_rig.count("hub certificate reloaded") == 2 * workers, "not reloaded again")
            assert await metric(page, 'riata_hub_certificate_reloads_total{result="taken"}') == 2  # not of each
            assert await served(url, ca) not in {first, second}
            a_rig.api.event(2)
            assert '"n":2' in await line()  # the watch of before
        assert set(seen) == {200}
        assert a_rig.count("session ended") == 0


async def test_without_its_ca_named_an_agent_with_a_key_is_refused_with_the_settings_name(tmp_path: Path) -> None:
    own, files = tmp_path / "own", tmp_path / "files"
    files.mkdir()
    tls.make_ca(own, "own", NOW)
    issue(own, files, "127.0.0.1", "localhost")
    ca = own / tls.CA_CERT
    flags = ["--tls-cert", files / tls.LEAF_CERT, "--tls-key", files / tls.LEAF_KEY]
    async with rig(tmp_path, 1, *flags, ca=ca) as a_rig:
        _, made = await a_rig.manage("POST", "/v1/clusters/alpha/join-tokens", {})
        (tmp_path / "join.token").write_text(made["token"])
        agent = ["--hub-ca-pin", pins_of_pem(ca.read_bytes())[0], "--hub-ca-file", ca]
        agent += ["--key-file", tmp_path / "agent.key", "--join-token-file", tmp_path / "join.token"]
        await a_rig.start_agent("agent", *agent)
        log = tmp_path / "agent.log"
        await until(lambda: "tls_ca" in log.read_text() and "agent_pins" in log.read_text(), "it does not say why")
        assert a_rig.count("session opened") == 0
