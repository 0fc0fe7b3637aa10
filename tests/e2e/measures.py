"""Figures read from outside: metrics pages, descriptors, quantiles."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

Page = dict[str, float]
"""Sample name → its values summed over all labels."""


async def scrape(url: str) -> Page:
    """Read one metrics page."""
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert answer.status == 200, f"{url}: {answer.status}"
        return summed(await answer.text())


def summed(text: str) -> Page:
    page: Page = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            page[sample.name] = page.get(sample.name, 0.0) + sample.value
    return page


def descriptors(pid: int) -> int:
    """Open descriptors of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident_mib(pid: int) -> float:
    """Resident memory of a process in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"process {pid} has no resident memory")


def quantile(samples: Sequence[float], part: float) -> float:
    """The smallest sample that at least `part` of all are not above (nearest rank)."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def shown(samples: Sequence[float]) -> str:
    """p50, p99 and maximum of seconds, in milliseconds."""
    return (
        f"p50 {quantile(samples, 0.5) * 1e3:.2f} ms, p99 {quantile(samples, 0.99) * 1e3:.2f} ms, "
        f"max {max(samples) * 1e3:.2f} ms (n={len(samples)})"
    )
