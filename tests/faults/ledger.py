"""Who writes to a hub that is about to die, and the book of what it acknowledged: what was answered with success is
there after its death or, if it was deleted, is not; what got no answer is there whole or not at all."""

import dataclasses
import random
from collections.abc import Callable
from typing import Any, Final

import aiohttp

Document = dict[str, Any]
Identity = tuple[str, str]
"""Kind, and what no other of its kind ever has: uid, id, a name that is used once."""

CLUSTERS: Final = 3
"""Names that a writer uses again and again; each time it is another cluster, with other labels."""
FADING: Final = {"state", "since", "reason", "command", "token", "manifest", "obstacle", "tunnels", "route"}
"""What is told once, or says how it is and not what was written."""


class Broken(Exception):
    """No whole answer: the outcome is unknown."""


@dataclasses.dataclass(frozen=True)
class Thing:
    """One object. `path`: where it is deleted. `cluster_uid`: it goes with that cluster."""

    kind: str
    key: str
    path: str
    cluster_uid: str
    shown: Document
    secret: str = ""

    @property
    def identity(self) -> Identity:
        return self.kind, self.key

    @property
    def owner(self) -> str:
        """The writer that made it, by the name that it gave it, or the name of its cluster."""
        return str(self.shown.get("cluster") or self.shown["name"]).partition("-")[0]


@dataclasses.dataclass(frozen=True)
class Wish:
    """A creation without an answer. `shown`: what the hub would show of it, as far as the writer knows."""

    kind: str
    shown: Document

    def is_for(self, thing: Thing) -> bool:
        return thing.kind == self.kind and self.shown.items() <= thing.shown.items()


@dataclasses.dataclass
class Api:
    """A hub's management API, one attempt a call."""

    session: aiohttp.ClientSession
    base: str

    async def ask(self, method: str, path: str, body: Document | None = None, secret: str = "") -> tuple[int, Document]:
        """Status and document. Raises Broken."""
        headers = {"Authorization": f"Bearer {secret}"} if secret else None
        try:
            async with self.session.request(method, self.base + path, json=body, headers=headers) as answer:
                return answer.status, await answer.json() if answer.content_type == "application/json" else {}
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            raise Broken(f"{method} {path}: {exc!r}") from exc

    async def items(self, path: str) -> list[Document]:
        status, document = await self.ask("GET", path)
        assert status == 200, f"GET {path}: {status} {document}"
        items: list[Document] = document["items"]
        return items


def thing(kind: str, document: Document, cluster_uid: str = "") -> Thing:
    """As the hub shows it, in an answer or in a list."""
    name, shown = str(document.get("name", "")), {n: v for n, v in document.items() if n not in FADING}
    match kind:
        case "cluster":
            key, path = document["uid"], f"/v1/clusters/{name}"
            shown = {field: shown[field] for field in ("name", "uid", "labels", "createdAt")}
        case "grant":
            key, path = name, f"/v1/grants/{name}"
        case "agent-token" | "join-token":
            key = document["id"]
            path = f"/v1/clusters/{document['cluster']}/{kind}s/{key}"
        case _:
            key = document["id"]
            path = f"/v1/{kind}s/{key}"
    return Thing(kind, key, path, cluster_uid, shown, str(document.get("token", "")))


async def look(api: Api) -> dict[Identity, Thing]:
    """Everything that writers make, as the hub has it."""
    clusters = [each for each in await api.items("/v1/clusters") if is_written(each["name"])]
    uids = {each["name"]: each["uid"] for each in clusters}
    found = [thing("cluster", each) for each in clusters]
    found += [thing("token", each) for each in await api.items("/v1/tokens") if is_written(each["name"])]
    found += [thing("clean-up", each) for each in await api.items("/v1/clean-ups")]
    # One whose cluster is no more shows no name of it, which no writer ever asked for.
    grants = [each for each in await api.items("/v1/grants") if is_written(each["name"])]
    found += [thing("grant", each, uids.get(each["cluster"], "")) for each in grants]
    for name, uid in uids.items():
        for kind in ("agent-token", "join-token"):
            found += [thing(kind, each, uid) for each in await api.items(f"/v1/clusters/{name}/{kind}s")]
    return {each.identity: each for each in found}


def is_written(name: str) -> bool:
    """Whether a writer gave this name; the hub has others, of its administrator and of whoever is registered."""
    return name.startswith("w")


@dataclasses.dataclass
class Ledger:
    """Everything acknowledged so far. `on_success` is called at each answer that says so."""

    there: dict[Identity, Thing] = dataclasses.field(default_factory=dict)
    gone: dict[Identity, Thing] = dataclasses.field(default_factory=dict)
    wishes: list[Wish] = dataclasses.field(default_factory=list)
    doomed: list[Thing] = dataclasses.field(default_factory=list)
    """Deletions without an answer."""
    on_success: Callable[[], None] = lambda: None
    acknowledged: int = 0
    cut: int = 0
    problems: list[str] = dataclasses.field(default_factory=list)
    """What was answered wrongly, and what was not there as it had to be."""

    def made(self, new: Thing) -> None:
        self.there[new.identity] = new

    def deleted(self, old: Thing) -> None:
        """A cluster takes along what is bound to it."""
        for each in [old, *(each for each in self.there.values() if is_bound(each, old))]:
            self.gone[each.identity] = self.there.pop(each.identity, each)

    def compare(self, found: dict[Identity, Thing]) -> None:
        """With what the hub has after its death. Outcomes that were unknown are known then."""
        for each in self.doomed:
            if each.identity not in found:
                self._was_deleted(each, found)
        for identity, each in found.items():
            if identity in self.gone:
                self.problems.append(f"deleted, and there again: {each}")
            elif identity in self.there:
                if each.shown != self.there[identity].shown:
                    self.problems.append(f"changed: {self.there[identity]} into {each}")
            else:
                self._adopt(each)
        self.problems += [f"lost: {self.there[identity]}" for identity in self.there.keys() - found.keys()]
        self.wishes.clear()
        self.doomed.clear()

    def _adopt(self, found: Thing) -> None:
        wish = next((wish for wish in self.wishes if wish.is_for(found)), None)
        if wish is None:
            self.problems.append(f"nobody asked for: {found}")
        else:
            self.wishes.remove(wish)
            self.made(found)

    def _was_deleted(self, old: Thing, found: dict[Identity, Thing]) -> None:
        """What riata left in a cluster is written down before the cluster goes."""
        needs = any(is_bound(each, old) and each.kind != "grant" for each in self.there.values())
        self.deleted(old)
        note = found.get(("clean-up", old.key))
        if note is not None:
            self.made(note)
        elif needs:
            self.problems.append(f"deleted, and nothing says what is left in it: {old}")


def is_bound(each: Thing, cluster: Thing) -> bool:
    return each.cluster_uid == cluster.key


class Writer:
    """Makes and deletes objects of its own, one after the other."""

    def __init__(self, number: int, ledger: Ledger, seed: int) -> None:
        self._name = f"w{number}"
        self._ledger = ledger
        self._dice = random.Random(f"{seed}-{number}")
        self._serial = 0

    async def run(self, api: Api) -> None:
        """Until the hub breaks off."""
        try:
            while True:
                await self._step(api)
        except Broken:
            self._ledger.cut += 1

    async def _step(self, api: Api) -> None:
        mine = [each for each in self._ledger.there.values() if each.owner == self._name]
        clusters = [each for each in mine if each.kind == "cluster"]
        free = {f"{self._name}-{number}" for number in range(CLUSTERS)} - {each.shown["name"] for each in clusters}
        if mine and self._dice.random() < min(0.45, len(mine) / 20):
            await self._delete(api, self._dice.choice(mine))
        elif free and (not clusters or self._dice.random() < 0.3):
            wish = {"name": self._dice.choice(sorted(free)), "labels": {"serial": self._fresh()}}
            await self._make(api, "cluster", "/v1/clusters", wish, wish)
        else:
            await self._make_in(api, self._dice.choice(clusters))

    async def _make_in(self, api: Api, cluster: Thing) -> None:
        name, uid = cluster.shown["name"], cluster.key
        kind = self._dice.choice(("agent-token", "join-token", "token", "grant"))
        if kind == "token":
            wish = {"name": self._fresh(), "user": f"{self._name}-user"}
            await self._make(api, kind, "/v1/tokens", {**wish, "expiresInSeconds": 3600}, wish)
        elif kind == "grant":
            wish = {"name": self._fresh(), "user": f"{self._name}-user", "cluster": name, "role": "use"}
            await self._make(api, kind, "/v1/grants", wish, wish, uid)
        else:
            body = {"name": self._fresh()} if kind == "agent-token" else {}
            await self._make(api, kind, f"{cluster.path}/{kind}s", body, {**body, "cluster": name}, uid)

    def _fresh(self) -> str:
        self._serial += 1
        return f"{self._name}-{self._serial}"

    async def _make(self, api: Api, kind: str, path: str, body: Document, wish: Document, uid: str = "") -> None:
        try:
            status, document = await api.ask("POST", path, body)
        except Broken:
            self._ledger.wishes.append(Wish(kind, wish))
            raise
        if self._is_success(status, 201, f"POST {path}: {document}"):
            self._ledger.made(thing(kind, document, uid))

    async def _delete(self, api: Api, old: Thing) -> None:
        try:
            status, document = await api.ask("DELETE", old.path)
        except Broken:
            self._ledger.doomed.append(old)
            raise
        is_noted = old.kind == "cluster" and status == 200
        if self._is_success(status, 200 if is_noted else 204, f"DELETE {old.path}: {document}"):
            self._ledger.deleted(old)
            if is_noted:
                self._ledger.made(thing("clean-up", document))

    def _is_success(self, status: int, wanted: int, said: str) -> bool:
        if status != wanted:
            self._ledger.problems.append(f"{status} instead of {wanted}: {said}")
            return False
        self._ledger.acknowledged += 1
        self._ledger.on_success()
        return True
