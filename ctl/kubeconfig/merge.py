"""Put entries of ours into the text of a kubeconfig, and prove that nothing else of it changed."""

from collections.abc import Sequence
from typing import Any

import yaml

from ctl.kubeconfig import entries, yamltext


def merge(text: str, ours: Sequence[entries.Entry], current: str | None = None) -> str:
    """`text` with `ours` added or brought up to date; `current`, if given, becomes the current context.

    Comments, order, style and entries of others stay byte for byte. An entry of ours that exists keeps the fields
    that we do not own. ValueError, with a sentence that goes on "the file …", when the text cannot be edited safely.
    """
    text, rest = yamltext.split(text)
    root = yamltext.compose(text)
    if root is None:
        fresh = yamltext.block(entries.document(ours, current or ""), "\n")
        result = f"{text.rstrip()}\n{fresh}" if text.strip() else fresh
    else:
        result = _edited(text, root, ours, current)
    _verify(yamltext.load(text) or {}, yamltext.load(result), ours, current)
    return result + rest


def _edited(text: str, root: yaml.MappingNode, ours: Sequence[entries.Entry], current: str | None) -> str:
    editor = yamltext.Editor(text, root)
    for section in entries.SECTIONS:
        node, elements = yamltext.value(root, section), named(root, section)
        fresh = []
        for entry in (e for e in ours if e.section == section):
            old = find(elements, section, entry.name)
            if old is None:
                fresh.append(entry.element())
            else:
                _update(editor, old, entry)
        if fresh:
            editor.append(section, node, fresh)
    if current is not None:
        _set_current(editor, yamltext.value(root, "current-context"), current)
    return editor.result()


def _set_current(editor: yamltext.Editor, node: yaml.Node | None, current: str) -> None:
    if node is None:
        editor.add_key("current-context", current)
    elif isinstance(node, yaml.ScalarNode):
        editor.set_scalar(node, current)
    else:
        raise ValueError("its current-context is not a name")


Named = dict[str, list[yaml.MappingNode]]


def named(root: yaml.MappingNode, section: str) -> Named:
    """The elements of `section` by their names. ValueError when it is no list of mappings."""
    node = yamltext.value(root, section)
    if node is None or yamltext.is_empty(node):
        return {}
    if not isinstance(node, yaml.SequenceNode):
        raise ValueError(f"its {section!r} is not a list")
    found: Named = {}
    for element in node.value:
        if not isinstance(element, yaml.MappingNode):
            raise ValueError(f"its {section!r} holds something that is not a mapping")
        label = yamltext.value(element, "name")
        if isinstance(label, yaml.ScalarNode):
            found.setdefault(label.value, []).append(element)
    return found


def find(elements: Named, section: str, name: str) -> yaml.MappingNode | None:
    """The element called `name`. ValueError when `section` holds it twice (kubectl fails too)."""
    found = elements.get(name, [])
    if len(found) > 1:
        raise ValueError(f"its {section!r} holds {name!r} twice")
    return found[0] if found else None


def body(element: yaml.MappingNode, section: str) -> dict[str, Any]:
    """The body of an element as Python values; empty when it has none."""
    node = yamltext.value(element, entries.SECTIONS[section])
    if not isinstance(node, yaml.MappingNode):
        return {}
    try:
        made: dict[str, Any] = yaml.constructor.SafeConstructor().construct_document(node)
    except yaml.YAMLError as exc:
        raise ValueError("it uses YAML tags that a kubeconfig does not have") from exc
    return made


def _combined(old: dict[str, Any], entry: entries.Entry) -> dict[str, Any]:
    return {**entry.body, **{k: v for k, v in old.items() if k not in entries.replaced(entry.section, old)}}


def _update(editor: yamltext.Editor, element: yaml.MappingNode, entry: entries.Entry) -> None:
    """Bring an entry of ours up to date: by its scalars when the same fields are there, else whole."""
    old = body(element, entry.section)
    ours_there = entries.replaced(entry.section, old) & old.keys()
    node = yamltext.value(element, entries.SECTIONS[entry.section])
    if ours_there == entry.body.keys() and isinstance(node, yaml.MappingNode):
        scalars = {key: yamltext.value(node, key) for key in entry.body}
        if all(isinstance(scalar, yaml.ScalarNode) for scalar in scalars.values()):
            for key, scalar in scalars.items():
                assert isinstance(scalar, yaml.ScalarNode)
                editor.set_scalar(scalar, entry.body[key])
            return
    editor.replace(element, entries.Entry(entry.section, entry.name, _combined(old, entry)).element())


def _verify(before: Any, after: Any, ours: Sequence[entries.Entry], current: str | None) -> None:
    """ValueError unless `after` is `before` with `ours` and nothing else changed."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        raise ValueError("it is not a mapping")
    wanted_current = before.get("current-context") if current is None else current
    if (after.get("current-context") or "") != (wanted_current or ""):
        raise ValueError(_UNSAFE)
    kept = entries.SECTIONS.keys() | {"current-context"}
    if before and {k: v for k, v in before.items() if k not in kept} != {
        k: v for k, v in after.items() if k not in kept
    }:
        raise ValueError(_UNSAFE)
    for section in entries.SECTIONS:
        mine = {e.name: e for e in ours if e.section == section}
        _verify_section(section, before.get(section) or [], after.get(section) or [], mine)


_UNSAFE = "it is written in a way that riata cannot edit without changing more than its own entries"


def _verify_section(section: str, before: Any, after: Any, mine: dict[str, entries.Entry]) -> None:
    if [e for e in before if e.get("name") not in mine] != [e for e in after if e.get("name") not in mine]:
        raise ValueError(_UNSAFE)
    key = entries.SECTIONS[section]
    old = {e["name"]: e.get(key) or {} for e in before if e.get("name") in mine}
    new = [e for e in after if e.get("name") in mine]
    if len(new) != len(mine):
        raise ValueError(_UNSAFE)
    for element in new:
        there = old.get(element["name"], {})
        stays = {k: v for k, v in there.items() if k not in entries.replaced(section, there)}
        if element.get(key) != {**stays, **mine[element["name"]].body}:
            raise ValueError(_UNSAFE)
