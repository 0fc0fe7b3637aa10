"""hub/edge/origin.py: who counts as one."""

from __future__ import annotations

import pytest

from hub.edge.origin import origin_of


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("[2001:db8:1:2::9]", "2001:db8:1:2::"),
        ("[2001:db8:1:3::9]", "2001:db8:1:3::"),
        ("::1", "::"),
        ("fe80::1%eth0", "fe80::"),
        ("[::ffff:192.0.2.7]", "192.0.2.7"),
        ("::ffff:c000:207", "192.0.2.7"),
        ("", ""),
        ("[no:address]", "[no:address]"),
    ],
)
def test_ipv6_counts_by_its_64_bits_and_ipv4_by_all(host: str, origin: str) -> None:
    assert origin_of(host) == origin
