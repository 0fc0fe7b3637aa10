"""`riata kubeconfig`: what is printed, what is merged, and which tokens live on."""

import base64
import json
import pathlib
import re
import stat

import pytest
import trustme
import yaml
from aiohttp.test_utils import TestServer

from ctl import client, logins
from proto import pins
from tests.ctl.conftest import Riata
from tests.ctl.fakehub import ADMIN, EXPIRES, FakeHub
from tests.ctl.test_terminal import Full


@pytest.fixture
def hub(tls_hub: str) -> str:
    return tls_hub


@pytest.fixture(autouse=True)
def _clusters(fake: FakeHub) -> None:
    for name in ("b", "a"):
        fake.clusters[name] = {"name": name}


async def test_it_is_printed_with_one_context_a_cluster_and_a_token_for_them(
    riata: Riata, hub: str, fake: FakeHub
) -> None:
    result = await riata("kubeconfig", "b", "a", "b", "--token-expiry", "12h", "--token-name", "laptop")
    assert fake.calls[-1] == (
        *("POST", "/v1/tokens"),
        {"name": "laptop", "expiresInSeconds": 43200, "clusters": ["b", "a"]},
    )
    made = yaml.safe_load(result.out)
    assert [c["name"] for c in made["contexts"]] == ["riata-b", "riata-a"]
    assert made["current-context"] == "riata-b"
    assert made["clusters"][0]["cluster"]["server"] == f"{hub}/k8s/clusters/b"
    assert made["users"][0]["user"]["token"] not in result.err
    assert json.loads((await riata("kubeconfig", "--all", "-o", "json")).out)["current-context"] == "riata-a"


async def test_its_contexts_as_names_and_as_a_table_need_no_token(riata: Riata, hub: str, fake: FakeHub) -> None:
    assert (await riata("kubeconfig", "b", "a", "-o", "name", "--prefix", "x")).out == "x-b\nx-a\n"
    table = [line.split() for line in (await riata("kubeconfig", "--all", "-o", "table")).out.splitlines()]
    assert table[0] == ["CONTEXT", "CLUSTER", "SERVER"]
    assert table[1] == ["riata-a", "a", f"{hub}/k8s/clusters/a"]
    assert fake.tokens == {}
    assert (await riata("kubeconfig", "nope", "-o", "name")).code == 4


async def test_a_merge_shows_its_contexts_as_a_table_too(riata: Riata, hub: str, fake: FakeHub) -> None:
    merged = await riata("kubeconfig", "a", "--merge", "-o", "table")
    assert [line.split()[0] for line in merged.out.splitlines()] == ["CONTEXT", "riata-a"]
    assert list(fake.tokens) == ["t000000001"]


async def test_merging_again_revokes_the_token_it_replaces(
    riata: Riata, hub: str, fake: FakeHub, home: pathlib.Path
) -> None:
    first = await riata("kubeconfig", "--all", "--merge")
    assert (first.code, first.out) == (0, "riata-a\nriata-b\n")
    path = home / ".kube" / "config"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = await riata("kubeconfig", "--all", "--merge", "-o", "json")
    assert json.loads(again.out) == {
        **{"files": [str(path)], "contexts": ["riata-a", "riata-b"]},
        "token": "t000000002",
    }
    assert "revoked the replaced token t000000001" in again.err
    assert list(fake.tokens) == ["t000000002"]


async def test_a_token_that_does_not_reach_the_file_is_taken_back(
    riata: Riata, hub: str, fake: FakeHub, home: pathlib.Path
) -> None:
    (home / ".kube").mkdir()
    (home / ".kube" / "config").write_text("clusters: broken\n")
    result = await riata("kubeconfig", "a", "--merge")
    assert (result.code, fake.tokens) == (1, {})
    assert "next: write a file of its own" in result.err


async def test_a_token_that_standard_output_does_not_take_is_taken_back(
    riata: Riata, hub: str, fake: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", Full())
    result = await riata("kubeconfig", "a")
    assert (result.code, fake.tokens) == (1, {})
    assert "No space left on device" in result.err


async def test_a_replaced_token_is_revoked_whatever_becomes_of_the_output(
    riata: Riata, hub: str, fake: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    await riata("kubeconfig", "a", "--merge")
    monkeypatch.setattr("sys.stdout", Full())
    assert (await riata("kubeconfig", "a", "--merge")).code == 1
    assert list(fake.tokens) == ["t000000002"]


async def test_the_logins_own_token_is_not_revoked_when_it_is_replaced(
    riata: Riata, hub: str, fake: FakeHub, home: pathlib.Path
) -> None:
    """Somebody put the token that they were given into both places."""
    await riata("kubeconfig", "a", "--merge")
    path = home / ".kube" / "config"
    written = path.read_text()
    path.write_text(re.sub("riata_t000000001_[0-9a-f]+", ADMIN, written))
    assert ADMIN in path.read_text()
    fake.tokens[ADMIN.split("_")[1]] = {}
    again = await riata("kubeconfig", "a", "--merge")
    assert again.code == 0
    assert ADMIN.split("_")[1] in fake.tokens
    assert "is this login's own, and stays valid" in again.err


async def test_a_replaced_token_that_is_gone_is_not_called_somebody_elses(
    riata: Riata, hub: str, fake: FakeHub, home: pathlib.Path
) -> None:
    """The hub removes expired tokens after a week, and of what is not there it tells a user 403."""
    await riata("kubeconfig", "a", "--merge")
    fake.tokens.clear()
    fake.is_admins = False
    again = await riata("kubeconfig", "a", "--merge")
    assert again.code == 0
    assert "t000000001 was not revoked: it is gone already, or may do more than this login" in again.err


async def test_another_users_context_is_not_taken_over_and_their_token_stays(
    riata: Riata, hub: str, fake: FakeHub, home: pathlib.Path
) -> None:
    """An administrator may revoke anybody's, and would have, to have a context for one look."""
    await riata("kubeconfig", "a", "--merge")
    fake.tokens["t000000001"]["user"] = "ann"
    written = (home / ".kube" / "config").read_text()
    refused = await riata("kubeconfig", "a", "--merge")
    assert (refused.code, list(fake.tokens)) == (7, ["t000000001"])
    assert "has a user 'riata-a' that holds a token of ann" in refused.err
    assert "--prefix" in refused.err
    assert (home / ".kube" / "config").read_text() == written
    assert (await riata("kubeconfig", "a", "--merge", "--prefix", "me")).code == 0
    taken = await riata("kubeconfig", "a", "--merge", "--replace")
    assert taken.code == 0
    assert "the replaced token t000000001 is not known to be yours, and stays valid" in taken.err
    assert "t000000001" in fake.tokens


@pytest.mark.parametrize(("user", "code"), [("admin", 0), ("ann", 7)])
async def test_an_entry_that_was_left_without_its_cluster_is_known_by_the_tokens_id(
    riata: Riata, hub: str, fake: FakeHub, home: pathlib.Path, user: str, code: int
) -> None:
    """After `kubectl config delete-cluster`. Nothing says of which hub the token is, so it is shown to none."""
    await riata("kubeconfig", "a", "--merge")
    fake.tokens["t000000001"]["user"] = user
    path = home / ".kube" / "config"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "clusters": []}))
    fake.calls.clear()
    merged = await riata("kubeconfig", "a", "--merge")
    assert (merged.code, "t000000001" in fake.tokens) == (code, code != 0), merged.err
    assert [path for _, path, _ in fake.calls].count("/v1/whoami") == 2 - (code == 0), "of the login alone"


async def test_a_list_of_tokens_that_fails_leaves_them_unknown(
    riata: Riata, hub: str, fake: FakeHub, home: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An administrator's may be too long to be read. It is a help: what is not known is refused, or taken over."""
    await riata("kubeconfig", "a", "--merge")
    path = home / ".kube" / "config"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "clusters": []}))
    fake.tokens |= {f"t1{number:08}": {"user": "ci", "id": f"t1{number:08}"} for number in range(500)}
    monkeypatch.setattr(client, "MAX_ANSWER_BYTES", 10_000)
    refused = await riata("kubeconfig", "a", "--merge")
    assert (refused.code, "--replace" in refused.err) == (7, True), refused.err
    taken = await riata("kubeconfig", "a", "--merge", "--replace")
    assert (taken.code, "t000000001" in fake.tokens) == (0, True), taken.err


async def test_a_token_that_another_run_puts_there_meanwhile_is_asked_about(
    riata: Riata, hub: str, fake: FakeHub, home: pathlib.Path
) -> None:
    """Two at once: the second was refused as if the first were somebody else's."""

    async def other() -> None:
        if fake.calls[-1][:2] == ("POST", "/v1/tokens"):  # behind the question whose what stands there is
            assert (await riata("kubeconfig", "a", "--merge")).code == 0
        else:
            fake.meanwhile = other

    fake.meanwhile = other
    merged = await riata("kubeconfig", "a", "--merge")
    assert merged.code == 0, merged.err
    assert len(fake.tokens) == 1, "the one that is in the file"
    assert next(iter(fake.tokens)) in (home / ".kube" / "config").read_text()


async def test_where_the_hub_does_not_say_whose_a_context_is_nothing_is_done(
    riata: Riata, hub: str, fake: FakeHub, home: pathlib.Path
) -> None:
    await riata("kubeconfig", "a", "--merge")
    fake.busy.append("/v1/whoami")
    assert (await riata("kubeconfig", "a", "--merge")).code == 1
    assert list(fake.tokens) == ["t000000001"]


async def test_a_life_that_the_hub_shortened_is_told(riata: Riata, hub: str, fake: FakeHub) -> None:
    fake.is_admins, fake.ends = False, EXPIRES
    for arguments in (("a",), ("a", "--merge")):
        made = await riata("kubeconfig", *arguments, "--token-expiry", "30d")
        assert "ends sooner than you asked for: none that you make outlives the one" in made.err
        assert "sooner" not in (await riata("kubeconfig", *arguments)).err


async def test_a_kubeconfig_that_cannot_be_looked_for_is_said_so(
    riata: Riata, hub: str, fake: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "x" * 300)  # to root no directory is closed; no name is so long
    result = await riata("kubeconfig", "a", "--merge")
    assert (result.code, fake.tokens) == (2, {})
    assert result.err.startswith("riata: cannot read the kubeconfig xxx")
    assert "kubeconfig-unreadable" in (await riata("doctor")).out


async def test_no_token_is_made_for_a_cluster_that_is_missing(riata: Riata, hub: str, fake: FakeHub) -> None:
    assert (await riata("kubeconfig", "a", "nope")).code == 4
    assert fake.tokens == {}


@pytest.mark.parametrize(
    "arguments", [(), ("a", "--all"), ("a", "-o", "xml"), ("a", "--prefix", "0"), ("a", "--token-expiry", "x")]
)
async def test_usage_errors_come_before_anything_is_asked(
    riata: Riata, hub: str, fake: FakeHub, arguments: tuple[str, ...]
) -> None:
    assert (await riata("kubeconfig", *arguments)).code == 2
    assert fake.calls == []


async def test_without_tls_kubectl_would_send_no_token_and_none_is_made(
    riata: Riata, server: TestServer, fake: FakeHub, hub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RIATA_HUB", str(server.make_url("/")))
    result = await riata("kubeconfig", "a", "--merge")
    assert (result.code, fake.calls) == (2, [])
    assert "kubectl sends no token without TLS" in result.err
    assert "next: log in at the hub's https address" in result.err


@pytest.fixture
def rotating(
    fake: FakeHub, hub: str, ca: trustme.CA, home: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> logins.Login:
    """A stored login with the old CA of a hub that gives out both."""
    old, new = (each.cert_pem.bytes().decode() for each in (ca, trustme.CA()))
    fake.ca = old + new
    login = logins.Login(hub=hub, ca=old, token=ADMIN)
    logins.save(home / "login.yaml", logins.LoginFile(current="default", hubs={"default": login}))
    monkeypatch.setenv("RIATA_CONFIG", str(home / "login.yaml"))
    monkeypatch.delenv("RIATA_CA_FILE")
    return login


def _cas(text: str) -> int:
    (cluster,) = yaml.safe_load(text)["clusters"]
    return len(pins.pins_of_pem(base64.b64decode(cluster["cluster"]["certificate-authority-data"])))


async def test_the_login_follows_a_hub_that_replaces_its_ca(
    riata: Riata, home: pathlib.Path, rotating: logins.Login
) -> None:
    made = await riata("kubeconfig", "a")
    assert (made.code, _cas(made.out)) == (0, 2)
    assert "this kubeconfig follows, the login too" in made.err
    assert logins.load(home / "login.yaml").hubs["default"].ca != rotating.ca


async def test_a_login_that_cannot_be_written_costs_no_kubeconfig_while_the_hub_replaces_its_ca(
    riata: Riata, home: pathlib.Path, rotating: logins.Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a Secret is mounted for a job. Beside an open file of /dev/fd nobody makes another, root neither."""
    with (home / "login.yaml").open() as mounted:
        monkeypatch.setenv("RIATA_CONFIG", f"/dev/fd/{mounted.fileno()}")
        made = await riata("kubeconfig", "a")
    assert (made.code, _cas(made.out)) == (0, 2), made.err
    assert "the login does not: cannot write /dev/fd/" in made.err


@pytest.mark.parametrize("note", ["", "# so that it is not the stored one\n"])
async def test_a_ca_file_of_the_environment_is_not_said_to_follow(
    riata: Riata, home: pathlib.Path, rotating: logins.Login, monkeypatch: pytest.MonkeyPatch, note: str
) -> None:
    (home / "ca.crt").write_text(rotating.ca + note)
    monkeypatch.setenv("RIATA_CA_FILE", str(home / "ca.crt"))
    made = await riata("kubeconfig", "a")
    assert (made.code, _cas(made.out)) == (0, 2)
    assert "the CA file of the login does not" in made.err
