"""Writes the findings into docs/operate/troubleshoot.md from the tables of causes: the doctors cannot find what is not
there."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from agent.doctor import causes as cluster_side
from ctl.doctor import causes as operator_side
from proto import causes
from proto.causes import AGENT, OPERATOR, Cause, Level

PAGE: Final = Path(__file__).parents[2] / "docs" / "operate" / "troubleshoot.md"
TABLES: Final = {
    "On the way to the hub (both doctors; the agent's log and `/readyz` too)": causes,
    "In the cluster (`riata-agent doctor`)": cluster_side,
    "From the operator's side (`riata doctor`)": operator_side,
}


class _Facts(dict[str, str]):
    """Stands for whatever is met."""

    def __missing__(self, key: str) -> str:
        return "…"


def _filled(text: str, names: Mapping[str, str]) -> str:
    shown = re.sub(r"\{(\w+)![rs]\}", r"{\1}", text).format_map(_Facts(names))
    return shown.replace("|", "\\|").replace("<", "&lt;")


def row(cause: Cause, names: Mapping[str, str]) -> str:
    level = " (warning)" if cause.level is Level.WARN else ""
    return f"| `{cause.id}`{level} | `{cause.check}` | {_filled(cause.what, names)} | {_filled(cause.cure, names)} |"


def findings() -> str:
    parts = []
    for heading, module in TABLES.items():
        names = OPERATOR if module is operator_side else AGENT
        rows = "\n".join(row(cause, names) for cause in causes.rows(vars(module)))
        parts.append(f"### {heading}\n\n| id | check | it says | cure |\n|---|---|---|---|\n{rows}\n")
    return "\n".join(parts)


def render(page: str) -> str:
    """The page with the findings as the code has them."""
    return re.sub(
        r"(<!-- begin findings -->\n).*(<!-- end findings -->)",
        lambda match: f"{match[1]}\n{findings()}\n{match[2]}",
        page,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text()))
