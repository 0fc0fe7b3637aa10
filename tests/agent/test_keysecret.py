"""The key in a Secret: compare-and-swap on resourceVersion, other entries untouched, each refusal with its cure."""

import base64

import pytest

from agent import keys
from agent.keys import Kept, KeyConflict, KeyPair, KeyState, KeyUnusable
from agent.keysecret import ENTRY, KeySecret
from agent.kube import KubeError

ONE = KeyState(KeyPair(b"1" * 32, 1.0))
PATH = "/api/v1/namespaces/riata-system/secrets/riata-agent-key"


class Api:
    """The API server's Secret."""

    def __init__(self, document=None):
        self.document = document or {"kind": "Secret", "metadata": {"name": "x", "resourceVersion": "1"}}
        self.fail = 0

    def _check(self, path):
        assert path == PATH
        if self.fail:
            raise KubeError(self.fail, f"the API server answered {self.fail}")

    async def get(self, path):
        self._check(path)
        return self.document

    async def put(self, path, document):
        self._check(path)
        if document["metadata"]["resourceVersion"] != self.document["metadata"]["resourceVersion"]:
            raise KubeError(409, "conflict")
        version = str(int(document["metadata"]["resourceVersion"]) + 1)
        self.document = {**document, "metadata": {**document["metadata"], "resourceVersion": version}}
        return self.document


def store(api):
    return KeySecret(api, "riata-system/riata-agent-key")


async def test_an_empty_secret_takes_a_key_and_keeps_what_else_is_in_it():
    api = Api({"metadata": {"resourceVersion": "1", "labels": {"a": "b"}}, "data": {"other": "eA=="}})
    one = store(api)
    assert await one.load() == Kept(None, "1")
    assert await one.save(ONE, "1") == Kept(ONE, "2")
    assert api.document["data"]["other"] == "eA=="
    assert api.document["metadata"]["labels"] == {"a": "b"}
    assert await store(api).load() == Kept(ONE, "2")


async def test_the_slower_replica_loses():
    api = Api()
    one, other = store(api), store(api)
    await one.load()
    await other.load()
    await one.save(ONE, "1")
    with pytest.raises(KeyConflict):
        await other.save(KeyState(KeyPair(b"2" * 32, 1.0)), "1")
    assert (await other.load()).state == ONE
    with pytest.raises(KeyConflict):
        await other.save(ONE, "1")


@pytest.mark.parametrize(("status", "cure"), [(404, "manifest"), (403, "Role"), (500, "500"), (0, "answered 0")])
async def test_refusals_name_the_secret_and_the_cure(status, cure):
    api = Api()
    api.fail = status or 0
    if not status:
        api._check = lambda path: (_ for _ in ()).throw(KubeError(0, "the API server answered 0"))
    with pytest.raises(KeyUnusable, match=cure) as caught:
        await store(api).load()
    assert "Secret riata-system/riata-agent-key" in str(caught.value)
    assert caught.value.may_pass is (status not in {404, 403})


@pytest.mark.parametrize(
    "document",
    [
        None, [], {"metadata": {}}, {"metadata": {"resourceVersion": 1}},
        {"metadata": {"resourceVersion": "1"}, "data": {ENTRY: "%%"}},
        {"metadata": {"resourceVersion": "1"}, "data": {ENTRY: base64.b64encode(b"{}").decode()}},
        {"metadata": {"resourceVersion": "1"}, "data": {ENTRY: "A" * (3 * keys.BYTES_MAX)}},
    ],
)  # fmt: skip
async def test_what_is_no_key_is_explained(document):
    api = Api()
    api.document = document
    with pytest.raises(KeyUnusable):
        await store(api).load()
