"""What a killed demo left behind: its directories are removed by the next one, the rest is named with its cure.

Clusters that the demo made are the harness's to clean up (tests/harness/janitor.py).
"""

import pathlib
import shlex
import shutil

from ctl import terminal
from ctl.demo import handover, records


def sweep(root: pathlib.Path) -> None:
    """Remove the directories below `root` of this user's demos whose process is gone, but those to be kept."""
    for directory in sorted(root.glob(f"{records.PREFIX}*")):
        record = records.read(directory)
        if record is None or record.keep or not record.is_dead():
            continue
        if record.handed:
            handover.take_back(pathlib.Path(record.handed), record.handed_uid)
        shutil.rmtree(directory, ignore_errors=True)
        terminal.say(f"removed what a killed demo left: {directory}")
        for binding in record.bindings:
            tell(binding)


def tell(binding: records.Binding) -> None:
    terminal.say(
        f"the demo may have left ClusterRoleBinding {binding.name} in your cluster; to remove it:\n  {removal(binding)}"
    )


def removal(binding: records.Binding) -> str:
    """The command that removes `binding`, for a shell."""
    access = ["--kubeconfig", binding.kubeconfig, "--context", binding.context]
    return shlex.join(["kubectl", *access, "delete", "clusterrolebinding", binding.name, "--ignore-not-found"])
