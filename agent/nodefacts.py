"""What a node agent sees of its node without any right: the kernel is the node's, the address comes with the pod."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from proto.facts import CONTROL_PLANE_ROLE, NodeFacts

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class NodeView:
    """Looked at for each session."""

    def __init__(self, address: str, is_control_plane: Callable[[], bool], boot_id: Path = BOOT_ID) -> None:
        """`address`: the node's, empty when unknown. `is_control_plane`: whether an API server has it."""
        self._address = address
        self._is_control_plane = is_control_plane
        self._boot_id = boot_id

    def facts(self) -> NodeFacts:
        """Cheap, and never raises."""
        kernel = os.uname()
        return NodeFacts(
            boot_id=self._read_boot_id(),
            kernel=kernel.release[:128],
            architecture=kernel.machine[:32],
            addresses=self._address,
            roles=CONTROL_PLANE_ROLE if self._is_control_plane() else "",
        )

    def _read_boot_id(self) -> str:
        try:
            return self._boot_id.read_text("ascii").strip()[:64]
        except (OSError, ValueError):
            return ""
