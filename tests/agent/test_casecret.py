"""What the hub says of its CAs, in the Secret of the agent's key: never instead of the key, by compare-and-swap."""

import pytest

from agent.casecret import CaSecret
from agent.hubca import BYTES_MAX, ENTRY, CaUnusable, HubCa
from agent.kube import KubeError
from tests.agent.test_keysecret import Api

KNOWN = HubCa(("sha256:" + "a" * 64,), "-----BEGIN")


def secret(api):
    return CaSecret(api, "riata-system/riata-agent-key")


async def test_the_secret_keeps_the_key_beside_it():
    api = Api({"metadata": {"resourceVersion": "1"}, "data": {"agent.json": "eA=="}})
    store = secret(api)
    assert await store.load() is None
    await store.save(KNOWN)
    assert api.document["data"]["agent.json"] == "eA=="
    assert await secret(api).load() == KNOWN
    version = api.document["metadata"]["resourceVersion"]
    await store.save(KNOWN)
    assert api.document["metadata"]["resourceVersion"] == version  # nothing was written


async def test_a_faster_replica_is_no_error():
    api = Api()
    put, lost = api.put, []

    async def slow(path, document):
        if not lost:
            lost.append(1)
            raise KubeError(409, "conflict")
        return await put(path, document)

    api.put = slow
    await secret(api).save(KNOWN)
    assert await secret(api).load() == KNOWN

    async def never(path, document):
        raise KubeError(409, "conflict")

    api.put = never
    with pytest.raises(CaUnusable, match="changed by others"):
        await secret(api).save(HubCa((), ""))


@pytest.mark.parametrize("status", [403, 404, 401, 429, 500, 503])
async def test_refusals_of_the_api_server_are_named(status):
    api = Api()
    api.fail = status
    for call in (secret(api).load, lambda: secret(api).save(KNOWN)):
        with pytest.raises(CaUnusable, match=f"Secret riata-system/riata-agent-key: .*{status}") as caught:
            await call()
        assert caught.value.may_pass is (status not in {403, 404})
    api.fail = 0

    async def refuse(path, document):
        raise KubeError(status, f"answered {status}")

    api.put = refuse
    with pytest.raises(CaUnusable, match=str(status)):
        await secret(api).save(KNOWN)


@pytest.mark.parametrize("data", [{ENTRY: 1}, {ENTRY: "%"}, {ENTRY: "A" * (2 * BYTES_MAX + 4)}, [], {ENTRY: "eA=="}])
async def test_a_secret_with_something_else_is_named(data):
    api = Api({"metadata": {"resourceVersion": "1"}, "data": data} if data else ["no", "Secret"])
    with pytest.raises(CaUnusable, match="Secret riata-system"):
        await secret(api).load()
