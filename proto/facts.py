"""What an agent says of its node in the `ext` of AUTH: for display, believed by nobody.

It says what it sees without a right in its cluster; what only the API server knows is for the cluster agent to tell.
"""

from typing import Annotated, Final

import msgspec

from proto.messages import Ext

FACTS: Final = "node_facts"
"""Key in the `ext` of AUTH; its value is a map of texts, absent where nothing is known."""
CONTROL_PLANE_ROLE: Final = "control-plane"


class NodeFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Texts, empty where unknown."""

    boot_id: Annotated[str, msgspec.Meta(max_length=64)] = ""
    """Random for each boot of the kernel."""
    kernel: Annotated[str, msgspec.Meta(max_length=128)] = ""
    """The kernel's release."""
    architecture: Annotated[str, msgspec.Meta(max_length=32)] = ""
    """As the kernel calls it: x86_64, aarch64."""
    addresses: Annotated[str, msgspec.Meta(max_length=512)] = ""
    """The node's addresses, separated by spaces."""
    roles: Annotated[str, msgspec.Meta(max_length=256)] = ""
    """`control-plane`, where an API server has one of these addresses."""


NO_FACTS: Final = NodeFacts()


def to_ext(facts: NodeFacts) -> Ext:
    """What goes into `ext`: nothing when nothing is known."""
    known: dict[str, bool | int | str | None] = msgspec.to_builtins(facts)
    return {FACTS: known} if known else {}


def from_ext(ext: Ext) -> NodeFacts:
    """What the peer said; nothing where it said what does not fit: facts are no reason to refuse anybody."""
    try:
        facts = msgspec.convert(ext.get(FACTS, {}), NodeFacts, strict=True)
    except msgspec.ValidationError:
        return NO_FACTS
    texts = (facts.boot_id, facts.kernel, facts.architecture, facts.addresses, facts.roles)
    return facts if all(not text or text.isprintable() for text in texts) else NO_FACTS
