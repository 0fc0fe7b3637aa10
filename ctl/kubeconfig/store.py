"""Merge entries into the user's kubeconfig files, under kubectl's locks."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, Final

from ctl import errors, files
from ctl.kubeconfig import entries, location, merge, yamltext

_ATTEMPTS = 3
_NOBODY: Final[Mapping[str, str]] = {}


@dataclasses.dataclass(frozen=True, slots=True)
class Merged:
    """What a merge did. `replaced_tokens` are ids of riata tokens that no file holds any more."""

    files: tuple[pathlib.Path, ...]
    current: str
    replaced_tokens: tuple[str, ...]


class UnknownToken(errors.CommandError):
    """A token of riata stands there of which `owners` says nothing: nobody knows whose, or it came there meanwhile."""


class _Moved(Exception):
    """Another writer changed where an entry lives between our look and our lock."""


def standing(names: Container[str], env: Mapping[str, str], *, hub: str) -> dict[str, str]:
    """The riata tokens in the users' entries of these names, by their ids. Empty in the place of one whose cluster's
    entry of the name does not lead to `hub`, since no other hub's token may be shown to it. CommandError for files that
    cannot be read."""
    texts = _read(location.precedence(env))
    servers: dict[str, object] = {}
    for _, name, body in _elements(texts, "clusters"):
        servers.setdefault(name, body.get("server"))  # the first of a name, as kubectl merges
    users: dict[str, str] = {}
    for _, name, body in _elements(texts, "users"):
        users.setdefault(name, str(body.get("token") or ""))
    found: dict[str, str] = {}
    for name, token in users.items():
        token_id = entries.token_id(token)
        if name in names and token_id is not None:
            found[token_id] = found.get(token_id) or (token if entries.cluster_at(hub, servers.get(name)) else "")
    return found


def merge_into_files(
    ours: Sequence[entries.Entry],
    env: Mapping[str, str],
    *,
    hub: str,
    use: str | None,
    replace: bool,
    owners: Mapping[str, str] = _NOBODY,
) -> Merged:
    """Write `ours` where kubectl would: an existing entry in the file that holds it, a new one in the default file.

    `use`: context to make current; None makes the first of ours current only when no file names one. `replace`:
    take over entries of the same name that are somebody else's. `owners`: whose the tokens are that stand there, by
    their ids; empty for one that may go: the caller's own, or one that has ended. Blocking. CommandError when it cannot
    be done (UnknownToken where `owners` lacks one); then nothing was written, unless the disk failed between two files.
    """
    paths = location.precedence(env)
    for _ in range(_ATTEMPTS):
        targets = _targets(_read(paths), paths, ours, use)
        try:
            with contextlib.ExitStack() as stack:
                for path in sorted(set(targets.values())):
                    stack.enter_context(_lock(path))
                return _merge_locked(paths, targets, ours, hub=hub, use=use, replace=replace, owners=owners)
        except _Moved:
            continue
    raise errors.CommandError("the kubeconfig files keep changing", cure="repeat the command when they are still")


@contextlib.contextmanager
def _lock(path: pathlib.Path) -> Iterator[None]:
    try:
        lock = files.locked(path)
        lock.__enter__()
    except OSError as exc:
        raise _unwritable(path, exc) from exc
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def _unwritable(path: pathlib.Path, exc: OSError) -> errors.CommandError:
    return errors.CommandError(f"cannot write {path}: {exc.strerror}", cure="check the path, or set KUBECONFIG")


def _read(paths: Sequence[pathlib.Path]) -> dict[pathlib.Path, str]:
    there = [path for path in paths if files.is_there(path, what="kubeconfig")]
    return {path: files.read_text(str(path), what="kubeconfig") for path in there}


_Slot = tuple[str, str]
_CURRENT: _Slot = ("current-context", "")


def _targets(
    texts: Mapping[pathlib.Path, str], paths: Sequence[pathlib.Path], ours: Sequence[entries.Entry], use: str | None
) -> dict[_Slot, pathlib.Path]:
    """The file of each entry, and of the current context when it is to be set."""
    default = location.destination(paths, lambda path: path in texts)
    found = {(e.section, e.name): default for e in ours}
    for path in reversed([p for p in paths if p in texts]):
        with _editing(path):
            root = yamltext.compose(texts[path])
            if root is None:
                continue
            sections = {section: merge.named(root, section) for section in entries.SECTIONS}
            for entry in ours:
                if merge.find(sections[entry.section], entry.section, entry.name) is not None:
                    found[entry.section, entry.name] = path
    if use is not None or not _current(texts, paths):
        found[_CURRENT] = default
    return found


@contextlib.contextmanager
def _editing(path: pathlib.Path) -> Iterator[None]:
    """Turns a ValueError about the text of `path` into a message about the file."""
    try:
        yield
    except ValueError as exc:
        raise errors.CommandError(
            f"cannot merge into {path}: {exc}",
            means="nothing was written",
            cure="write a file of its own (`riata kubeconfig … > FILE`) and add it: KUBECONFIG=…:FILE",
        ) from exc


def _current(texts: Mapping[pathlib.Path, str], paths: Sequence[pathlib.Path]) -> str:
    """The current context as kubectl sees it: the first file that names one."""
    for path in paths:
        with _editing(path):
            loaded = yamltext.load(texts[path]) if path in texts else None
        if isinstance(loaded, dict) and loaded.get("current-context"):
            return str(loaded["current-context"])
    return ""


def _merge_locked(
    paths: Sequence[pathlib.Path],
    targets: Mapping[_Slot, pathlib.Path],
    ours: Sequence[entries.Entry],
    *,
    hub: str,
    use: str | None,
    replace: bool,
    owners: Mapping[str, str],
) -> Merged:
    texts = _read(paths)
    if _targets(texts, paths, ours, use) != targets:
        raise _Moved
    if not replace:
        _refuse_foreign(texts, targets, ours, hub, owners)
    before = _tokens(texts)
    current = use or _current(texts, paths) or next(e.name for e in ours if e.section == "contexts")
    changed = {}
    for path in dict.fromkeys(targets.values()):
        with _editing(path):
            mine = [e for e in ours if targets[e.section, e.name] == path]
            changed[path] = merge.merge(texts.get(path, ""), mine, current if targets.get(_CURRENT) == path else None)
    for path, text in changed.items():
        with _editing(path):
            files.check_size(text)
    for path, text in changed.items():
        try:
            files.write_secret(path, text)
        except OSError as exc:
            raise _unwritable(path, exc) from exc
    gone = before - _tokens({**texts, **changed})
    return Merged(tuple(changed), current, tuple(sorted(gone)))


def _elements(texts: Mapping[pathlib.Path, str], section: str) -> Iterator[tuple[pathlib.Path, str, dict[str, Any]]]:
    """(file, name, body) of every element of `section`; malformed ones are passed over."""
    for path, text in texts.items():
        with _editing(path):
            loaded = yamltext.load(text)
        listed = loaded.get(section) if isinstance(loaded, dict) else None
        for element in listed if isinstance(listed, list) else []:
            body = element.get(entries.SECTIONS[section]) if isinstance(element, dict) else None
            if isinstance(body, dict):
                yield path, str(element.get("name")), body


def _tokens(texts: Mapping[pathlib.Path, str]) -> set[str]:
    """Ids of all riata tokens in the files."""
    found = (entries.token_id(body.get("token")) for _, _, body in _elements(texts, "users"))
    return {token for token in found if token is not None}


def _refuse_foreign(
    texts: Mapping[pathlib.Path, str],
    targets: Mapping[_Slot, pathlib.Path],
    ours: Sequence[entries.Entry],
    hub: str,
    owners: Mapping[str, str],
) -> None:
    wanted = {(e.section, e.name, targets[e.section, e.name]): e for e in ours}
    for section, kind in entries.SECTIONS.items():
        for path, name, body in _elements(texts, section):
            entry = wanted.get((section, name, path))
            why = _foreign(entry, body, hub, owners) if entry else ""
            if why:
                token_id = entries.token_id(body.get("token"))
                is_unknown = section == "users" and token_id is not None and token_id not in owners
                raise (UnknownToken if is_unknown else errors.CommandError)(
                    f"{path} has a {kind} {name!r} that {why}",
                    means=f"riata only replaces entries of its own, for the same cluster and user of {hub}",
                    cure="choose other names with --prefix, or take the entry over with --replace",
                    exit_code=errors.Exit.CONFLICT,
                )


def _foreign(entry: entries.Entry, body: Mapping[str, Any], hub: str, owners: Mapping[str, str]) -> str:
    """Whose else the entry of that name is, as the end of a sentence; empty when `entry` may replace `body`."""
    gone = entries.replaced(entry.section, body)
    lost = {key: value for key, value in body.items() if value and key in gone}
    if entry.section == "clusters":
        there = entries.cluster_at(hub, body.get("server"))
        if there == entries.cluster_at(hub, entry.body["server"]):
            return ""
        return f"is for cluster {there!r}" if there else f"belongs to {body.get('server') or 'no server'}"
    if entry.section == "users":
        return _owned(body, owners) if lost and lost != entry.body else ""
    if all(value == entry.body[key] for key, value in lost.items()):
        return ""
    return f"is for cluster {str(body.get('cluster', ''))!r} and user {str(body.get('user', ''))!r}"


def _owned(body: Mapping[str, Any], owners: Mapping[str, str]) -> str:
    token_id = entries.token_id(body.get("token"))
    if token_id is None and not body.keys() & entries.REPLACED["users"]:
        return "names whom to act as, and holds no token of riata"
    if token_id is None:
        return "holds a credential that is not of riata"
    if token_id not in owners:  # of another hub, or it came there meanwhile
        return "holds a token of riata that is not known to be yours"
    return f"holds a token of {owners[token_id]}" if owners[token_id] else ""
