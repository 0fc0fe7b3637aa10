"""The API servers' addresses, from their EndpointSlice into the ConfigMap that node agents mount."""

import pytest

from agent.fallback.endpoints import ENTRY, SLICE, ControlPlaneEndpoints, read
from agent.kube import KubeError
from tests.agent.fallback.kubeapi import Api

CONFIG_MAP = "/api/v1/namespaces/riata-system/configmaps/riata-agent-endpoints"


def slice_of(*addresses, port=6443):
    return {"ports": [{"name": "https", "port": port}], "endpoints": [{"addresses": [each]} for each in addresses]}


class World:
    def __init__(self, *addresses):
        self.api = Api()
        self.api.objects = {SLICE: slice_of(*addresses), CONFIG_MAP: {"metadata": {"resourceVersion": "1"}}}
        self.endpoints = ControlPlaneEndpoints(self.api, "riata-system/riata-agent-endpoints")

    @property
    def written(self):
        return self.api.objects[CONFIG_MAP].get("data", {}).get(ENTRY)


async def test_written_once_and_again_when_they_change():
    world = World("10.0.0.5")
    await world.endpoints.publish()
    assert world.written == "10.0.0.5:6443\n"
    await world.endpoints.publish()
    assert world.api.objects[CONFIG_MAP]["metadata"]["resourceVersion"] == "2"
    world.api.objects[SLICE] = slice_of("10.0.0.6", "fd00::1", "10.0.0.5")
    await world.endpoints.publish()
    assert world.written == "10.0.0.5:6443\n10.0.0.6:6443\n[fd00::1]:6443\n"


async def test_no_endpoint_at_all_leaves_what_was_known():
    world = World("10.0.0.5")
    await world.endpoints.publish()
    world.api.objects[SLICE] = {**slice_of(), "endpoints": None}
    await world.endpoints.publish()
    assert world.written == "10.0.0.5:6443\n"


async def test_what_else_is_in_the_map_stays_and_a_faster_replica_is_fine():
    world = World("10.0.0.5")
    world.api.objects[CONFIG_MAP]["data"] = {"other": "x"}

    async def put(path, document):
        raise KubeError(409, "conflict")

    faster, world.api.put = world.api.put, put
    await world.endpoints.publish()
    world.api.put = faster
    await world.endpoints.publish()
    assert world.api.objects[CONFIG_MAP]["data"] == {"other": "x", ENTRY: "10.0.0.5:6443\n"}


@pytest.mark.parametrize(
    "document", [None, [], {}, {"ports": [{}], "endpoints": []}, slice_of("name.test"), {"ports": None}]
)
def test_a_slice_that_is_none(document):
    with pytest.raises(ValueError, match="EndpointSlice"):
        read(document)


def test_endpoints_that_are_not_ready_do_not_count():
    document = slice_of("10.0.0.5", "10.0.0.6")
    document["endpoints"][0]["conditions"] = {"ready": False}
    assert read(document) == ["10.0.0.6:6443"]


def test_a_bounded_number():
    assert len(read(slice_of(*(f"10.0.0.{number}" for number in range(1, 100))))) == 16
