"""agent/paging.py: a long list, a page at a time."""

import json

import msgspec

from agent.paging import PAUSE_S, Page, pages


class Named(msgspec.Struct):
    name: str


class Listing:
    """An API server's list, in two pages."""

    def __init__(self):
        self.asked = []

    async def get(self, path, decode):
        self.asked.append(path)
        if "continue" in path:
            return decode(json.dumps({"metadata": {}, "items": None}).encode())
        items = [{"name": "a", "spec": {"much": ["more"]}}, {"name": "b"}]
        return decode(json.dumps({"metadata": {"continue": "next"}, "items": items}).encode())


async def test_pages_follow_each_other_with_a_pause_between_them():
    api, slept = Listing(), []

    async def sleep(seconds):
        slept.append(seconds)

    decoder = msgspec.json.Decoder(Page[Named])
    found = [[item.name for item in page] async for page in pages(api, "/things", decoder, limit=2, sleep=sleep)]
    assert found == [["a", "b"], []]
    assert api.asked == ["/things?limit=2", "/things?limit=2&continue=next"]
    assert slept == [PAUSE_S]
