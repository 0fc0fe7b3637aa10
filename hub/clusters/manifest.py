"""The agent's manifest as the hub gives it out: values in, Kubernetes documents out.

No Helm and no text templates here. `manifest.json` holds the documents that the chart riata-agent makes for placeholder
values (`make manifests` writes it, a test compares); this module puts the real values where the placeholders are, in
the parsed documents, and dumps those. A value can therefore never become structure, whatever it holds.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any, Final, Literal, get_args

import yaml

from proto.pins import PinError, keep_pinned, parse_pin

FILE_NAME: Final = "manifest.json"
NAMESPACE: Final = "riata-system"
Profile = Literal["impersonate", "constrained", "read-only"]
PROFILES: Final[tuple[Profile, ...]] = get_args(Profile)
CLUSTER_ADMINS: Final = "riata-agent-cluster-admins"
OWNER_LABEL: Final = "riata.io/cluster-uid"
"""On every object, with the cluster's uid: what has it is removed when the cluster is deleted."""

Document = dict[str, Any]

_URL: Final = re.compile(
    r"https://([A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
    r"(/[A-Za-z0-9._~!&'()*+,;=:@%/-]*)?"
)
_IMAGE: Final = re.compile(
    r"([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]{1,5})?/)?[a-z0-9]+([._/-]+[a-z0-9]+)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?"
)
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~-]{1,1024}")
_AUDIENCE: Final = re.compile(r"riata:[A-Za-z0-9._-]+:[A-Za-z0-9._-]+")
_UID: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\r\n -]+-----END CERTIFICATE-----\s*")
_NUMBER: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|0o[0-7]+")
"""sigs.k8s.io/yaml goyaml.v2 resolve.go, yamlStyleFloat; the octal numbers of YAML 1.2."""


class ManifestError(ValueError):
    """A value cannot be part of a manifest. The text names it."""


class Placeholder:
    """What stands in `manifest.json` where a value belongs. Well-formed, so that the chart takes them."""

    HUB_URL: Final = "https://hub.invalid/placeholder"
    CA_PINS: Final = "sha256:" + "5" * 64
    CA: Final = "-----BEGIN CERTIFICATE-----\nplaceholder\n-----END CERTIFICATE-----\n"
    AUDIENCE: Final = "riata:placeholder:placeholder"
    CLUSTER_UID: Final = "placeholder-uid"
    TOKEN: Final = "placeholder-token"  # noqa: S105 - no secret
    IMAGE: Final = "registry.invalid/riata-agent:placeholder"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ManifestValues:
    """What differs from one cluster to the next. Raises ManifestError when made of something malformed."""

    hub_url: str
    """`https://HOST[:PORT][/prefix]`."""
    ca_pins: tuple[str, ...]
    """One `sha256:…`, two while the CA is replaced."""
    token: str = dataclasses.field(repr=False)
    """A join token: what the cluster agent enrols its key with."""
    image: str
    """Reference of the agent's image."""
    cluster_uid: str
    """The owner label of every object."""
    ca_pem: str = ""
    """The hub's CA; empty: the agents fetch it and compare it with the pin."""
    audience: str = ""
    """`riata:<hub id>:<cluster uid>`, for node agents."""
    node_agents: bool = False
    profile: Profile = "impersonate"
    cluster_admins: bool = True
    """Bind the hub's grant `admin` to cluster-admin."""

    def __post_init__(self) -> None:
        _match("hub_url", _URL, self.hub_url)
        _match("token", _TOKEN, self.token, show=False)
        _match("image", _IMAGE, self.image)
        _match("cluster_uid", _UID, self.cluster_uid)
        if self.ca_pem:
            _match("ca_pem", _PEM, self.ca_pem, show=False)
        if self.audience or self.node_agents:
            _match("audience", _AUDIENCE, self.audience)
        if self.profile not in PROFILES:
            raise ManifestError(f"profile {self.profile!r}: give one of {', '.join(PROFILES)}")
        if not 1 <= len(self.ca_pins) <= 2:
            raise ManifestError("ca_pins: give one pin, or two while the CA is replaced")
        try:
            pins = [parse_pin(pin) for pin in self.ca_pins]
        except PinError as exc:
            raise ManifestError(f"ca_pins: {exc}") from exc
        if self.ca_pem:
            _need_pinned(self.ca_pem, pins)


def check_image(text: str) -> str:
    """The reference of an image, unchanged. Raises ManifestError."""
    _match("image", _IMAGE, text)
    return text


def _need_pinned(pem: str, pins: Iterable[str]) -> None:
    try:
        is_pinned = keep_pinned(pem.encode(), pins)
    except PinError as exc:
        raise ManifestError(f"ca_pem: {exc}") from exc
    if not is_pinned:
        raise ManifestError("ca_pem: none of its certificates matches a pin, so no agent would trust it")


def _match(name: str, pattern: re.Pattern[str], value: str, *, show: bool = True) -> None:
    if not pattern.fullmatch(value):
        raise ManifestError(f"{name}{f' {value!r}' if show else ''} is malformed")


def variant(profile: str, *, node_agents: bool, has_ca: bool) -> str:
    """Name of one form of the manifest in `manifest.json`."""
    return "+".join([profile, *(["nodes"] if node_agents else []), *(["ca"] if has_ca else [])])


def documents(values: ManifestValues) -> list[Document]:
    """The documents, in the order in which they are to be applied."""
    known = _load()
    name = variant(values.profile, node_agents=values.node_agents, has_ca=bool(values.ca_pem))
    filled = {
        Placeholder.HUB_URL: values.hub_url,
        Placeholder.CA_PINS: ",".join(map(parse_pin, values.ca_pins)),
        Placeholder.CA: values.ca_pem,
        Placeholder.AUDIENCE: values.audience,
        Placeholder.CLUSTER_UID: values.cluster_uid,
        Placeholder.TOKEN: values.token,
        Placeholder.IMAGE: values.image,
    }
    chosen = (known["documents"][index] for index in known["variants"][name])
    return [
        _filled(document, filled)
        for document in chosen
        if values.cluster_admins or document["metadata"]["name"] != CLUSTER_ADMINS
    ]


def made() -> list[tuple[str, str, str, str]]:
    """API version, kind, namespace and name of everything that any manifest holds."""
    return [
        (each["apiVersion"], each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"])
        for each in _load()["documents"]
    ]


def dump(documents: Iterable[Mapping[str, Any]]) -> str:
    """YAML that `kubectl apply -f -` takes."""
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=False)


@functools.cache
def _load() -> dict[str, Any]:
    text = resources.files("hub.clusters").joinpath(FILE_NAME).read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def _filled(node: Any, values: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: _filled(inner, values) for key, inner in node.items()}
    if isinstance(node, list):
        return [_filled(inner, values) for inner in node]
    return values.get(node, node) if isinstance(node, str) else node


class _Dumper(yaml.SafeDumper):
    """No anchors; text of several lines as a block; in quotes what Go's YAML takes for a number and PyYAML does not, as
    the commit 1234e12 for the tag of an image."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else "'" if _NUMBER.fullmatch(text.replace("_", "")) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
