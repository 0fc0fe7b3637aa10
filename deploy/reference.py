"""docs/reference/charts.md, made from the charts' schemas and default values."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import yaml

from deploy.helm import CHARTS, ROOT

_HEAD: Final = """# Values of the Helm charts

Made from `deploy/charts/*/values.schema.json` and `values.yaml` by `make manifests`; a test fails when they differ.

A value that is not listed here, or has another form, is refused by Helm before anything is installed. "As in
Kubernetes" means that the value goes into the object as it is. `global` is Helm's own.
"""


def page() -> str:
    """The whole page."""
    return _HEAD + "".join(_chart(name) for name in CHARTS)


def values_of(name: str) -> list[tuple[str, dict[str, Any], Any]]:
    """(dotted name, schema, default) of every value of a chart."""
    directory = ROOT / "charts" / name
    schema = json.loads((directory / "values.schema.json").read_text())
    defaults = yaml.safe_load((directory / "values.yaml").read_text())
    return list(_walk(schema, defaults, ""))


def _walk(schema: Mapping[str, Any], defaults: Any, prefix: str) -> Iterator[tuple[str, dict[str, Any], Any]]:
    for name, inner in schema["properties"].items():
        if not prefix and name == "global":
            continue
        default = defaults[name]
        if "properties" in inner:
            yield from _walk(inner, default, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", inner, default


def _chart(name: str) -> str:
    lines = [f"\n## `{name}`\n", "| value | default | meaning |", "|---|---|---|"]
    for path, schema, default in values_of(name):
        meaning = schema["description"].replace("|", "\\|")
        if "enum" in schema:
            meaning = f"{' or '.join(f'`{each}`' for each in schema['enum'])}. {meaning}"
        lines.append(f"| `{path}` | {_shown(default)} | {meaning} |")
    return "\n".join(lines) + "\n"


def _shown(default: Any) -> str:
    if default in ("", [], {}):
        return "none"
    return f"`{json.dumps(default)}`" if not isinstance(default, str) else f"`{default}`"
