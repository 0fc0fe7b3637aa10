"""Fifty megabytes of ConfigMaps: a LIST that takes long enough to be in flight, stalled, or cut."""

import asyncio
import secrets

from tests.e2e.entry import Entry

NAMESPACE = "bulk"
COUNT = 50
BYTES = COUNT * 1_000_000
LIST = f"/api/v1/namespaces/{NAMESPACE}/configmaps"


async def ensure_bulk(entry: Entry) -> None:
    """Make the ConfigMaps if they are not there: random text, so that nothing on the way compresses it."""
    await entry.kubectl("create", "namespace", NAMESPACE, rc=None)
    async with entry.session() as session:
        async with session.get(entry.at(f"{LIST}?limit=1&labelSelector=bulk")) as answer:
            if (await answer.json())["items"]:
                return
        gate = asyncio.Semaphore(4)

        async def create(number: int) -> None:
            document = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": f"bulk-{number:02d}", "labels": {"bulk": "yes"}},
                "data": {"text": secrets.token_hex(500_000)},
            }
            async with gate, session.post(entry.at(LIST), json=document) as answer:
                assert answer.status == 201, await answer.text()

        async with asyncio.TaskGroup() as group:
            for number in range(COUNT):
                group.create_task(create(number))
