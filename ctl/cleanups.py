"""Deleted clusters in which something of riata may be left."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from ctl import client, errors, options, output

_POLL_S: Final = 0.2
_WAIT_S: Final = 15.0
"""A clean-up has a limit of its own at the hub, and so has the record of one whose process is gone; this is longer."""

_NAMESPACE: Final = "riata-system"
"""Where a manifest of the hub puts everything. A chart may be elsewhere, by its user's own choice."""

KIND: Final = output.Kind(
    "id",
    {
        "DELETED-CLUSTER": lambda c: c.get("cluster"),
        "UID": lambda c: c.get("id"),
        "DELETED": lambda c: c.get("deletedAt"),
        "CLEAN-UP": lambda c: c.get("state"),
        "REASON": lambda c: c.get("reason"),
    },
)


async def named(hub: client.HubClient, name: str) -> list[dict[str, Any]]:
    """Those of a cluster's name, or the one of a uid."""
    found = await hub.items(client.target("v1", "clean-ups"))
    return [dict(each) for each in found if name in (each.get("cluster"), each.get("id"))]


async def settled(hub: client.HubClient, clean_up: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The clean-up when it no longer runs, or as it was known last; None when everything was removed. The cluster is
    deleted: what goes wrong while its clean-up is looked at is no failure of that."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _WAIT_S
    while clean_up.get("state") == "running" and loop.time() < deadline:
        await asyncio.sleep(_POLL_S)
        try:
            clean_up = await hub.get(client.target("v1", "clean-ups", str(clean_up.get("id"))))
        except errors.CommandError as exc:
            if exc.exit_code == errors.Exit.NOT_FOUND:
                return None
    return clean_up


def advice(clean_up: Mapping[str, Any], profile: str = "") -> str:
    """What a person does about it. `profile`: as it was typed."""
    return (
        f"what riata made there is left: {clean_up.get('reason') or clean_up.get('state')}\n"
        f"  to remove it, in that cluster:  {clean_up.get('command')}\n"
        f"  its namespace stays; if nothing else is in it (kubectl get all,pvc,secrets -n {_NAMESPACE}):"
        f"  kubectl delete namespace {_NAMESPACE}\n"
        f"  then, here:                     riata clusters forget {clean_up.get('id')}{options.typed(profile)}"
    )


def done(clean_up: Mapping[str, Any]) -> str:
    """What of it is certain: the hub looks for the owner label, which files of one's own need not have."""
    label = f"riata.io/cluster-uid={clean_up.get('id')}"
    return (
        f"what riata made there with the label {label} is removed, but for a namespace with other things in it\n"
        "  what was applied without the label stays: kubectl delete -f with the same files, but not with the one of the"
        " namespace, removes it"
    )
