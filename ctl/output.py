"""Results as table, JSON, YAML or names. Tables are plain aligned columns, so that awk and a person can read them."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import yaml

from ctl import terminal
from ctl.kubeconfig import yamltext

Format = Literal["table", "json", "yaml", "name"]
Item = Mapping[str, Any]


class Kind:
    """How objects of one kind are shown: the columns of the table, and the key that names one."""

    def __init__(self, key: str, columns: Mapping[str, Callable[[Item], object]]) -> None:
        self.key = key
        self.columns = columns

    def show_one(self, item: Item, form: Format) -> None:
        if form in {"table", "name"}:
            self._lines([item], form)
        else:
            document(item, form)

    def show_all(self, items: Sequence[Item], form: Format) -> None:
        if form in {"table", "name"}:
            self._lines(items, form)
        else:
            document({"items": list(items)}, form)

    def _lines(self, items: Sequence[Item], form: Format) -> None:
        if form == "name":
            for item in items:
                terminal.data(terminal.clean(str(item.get(self.key, ""))))
        else:
            terminal.data(self.table(items))

    def table(self, items: Sequence[Item]) -> str:
        """The aligned table with a line of headings; an empty or absent value is a dash, so that columns can be cut."""
        rows = [list(self.columns), *([_cell(show(item)) for show in self.columns.values()] for item in items)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(self.columns))]
        return "\n".join("   ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows)


def document(value: object, form: str) -> None:
    """`value` whole, as JSON (for json) or YAML, in ASCII: what an agent says of itself must not drive a terminal."""
    if form == "json":
        terminal.data(json.dumps(value, indent=2))
    else:
        terminal.data(yaml.dump(value, Dumper=yamltext.Dumper, sort_keys=False, width=1_000_000))


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return _cell(",".join(str(v) for v in value))
    return terminal.clean(str(value)).replace("\n", " ")


def labels(item: Item) -> str:
    """The labels of `item` as k=v,k=v in a stable order."""
    found = item.get("labels") or {}
    return ",".join(f"{k}={v}" for k, v in sorted(found.items()))
