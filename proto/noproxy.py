"""NO_PROXY as Go programs understand it, kubectl and Rancher's agents among them.

Python's libraries know host suffixes only; deployments put networks there (`10.0.0.0/8`), and then calls that must stay
inside go to the proxy (facts/dependencies.md §2). Rules of golang.org/x/net/http/httpproxy, in its order:

| entry | matches |
|---|---|
| `*` | everything |
| `10.0.0.0/8`, `fd00::/8` | addresses inside; never names |
| `192.0.2.1`, `192.0.2.1:443`, `[2001:db8::1]:443` | that address, and only that port when one is given |
| `example.org`, `example.org:443` | that name and every name below it |
| `.example.org`, `*.example.org` | every name below it, not the name itself |

`localhost` and loopback addresses never use a proxy. Entries are separated by commas; one that is none of these matches
nothing. Pure.
"""

import ipaddress

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def bypasses(no_proxy: str, host: str, port: int) -> bool:
    """Whether a connection to `host` (name or address, brackets or not) and `port` must not use a proxy."""
    name = host.strip("[]").rstrip(".").lower()
    address = _address(name)
    if name == "localhost" or (address is not None and address.is_loopback):
        return True
    return any(_matches(entry.strip().lower(), name, address, port) for entry in no_proxy.split(","))


def _matches(entry: str, name: str, address: _Address | None, port: int) -> bool:
    if not entry:
        return False
    if entry == "*":
        return True
    if "/" in entry:
        return address is not None and _in_network(address, entry)
    wanted, wanted_port = _split_port(entry)
    if wanted_port is not None and wanted_port != port:
        return False
    wanted_address = _address(wanted)
    if wanted_address is not None:
        return wanted_address == address
    if address is not None:
        return False
    wanted = wanted.removeprefix("*").rstrip(".")
    if wanted.startswith("."):
        return len(wanted) > 1 and name.endswith(wanted)
    return bool(wanted) and (name == wanted or name.endswith(f".{wanted}"))


def _split_port(entry: str) -> tuple[str, int | None]:
    """`host:port` in its parts; an IPv6 address without brackets has no port."""
    host, colon, port = entry.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or (":" in host and not host.endswith("]")):
        return entry.strip("[]"), None
    return host.strip("[]"), int(port)


def _address(text: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _in_network(address: _Address, entry: str) -> bool:
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
    return address.version == network.version and address in network
