"""What lies behind the hub: is each cluster connected, does it answer, and does kubectl's own file lead there?"""

import asyncio
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ctl import client, errors, files, logins, trust
from ctl.connected import node_agents
from ctl.doctor import causes
from ctl.kubeconfig import entries, location, yamltext
from proto import findings, kubeconfig, pins
from proto.causes import Cause
from proto.findings import Finding, good

AT_ONCE: Final = 8
"""Clusters asked at a time."""
ANSWER_S: Final = 10
"""What an API server gets for its answer: the hub says that none came before this client has waited long enough."""
LISTED: Final = 20
"""So many that are well have a line each."""
_NAMES: Final[dict[str, str]] = {}


async def behind(hub: client.HubClient, wanted: Sequence[str], env: Mapping[str, str]) -> list[Finding]:
    """Findings for the clusters, and for kubectl's contexts of them. `wanted`: names, all when empty; those need no
    list of all.

    Raises CommandError for a wanted cluster that the hub does not show, or that no name can be.
    """
    found: list[Finding] = []
    try:
        if wanted:
            named = [await hub.get(client.target("v1", "clusters", name)) for name in wanted]
            found = await connected(hub, named, is_wanted=True)
        listed = await hub.items(client.target("v1", "clusters"))
    except errors.UsageError:  # a whole token for a name
        raise
    except errors.CommandError as exc:
        if wanted and exc.exit_code in {errors.Exit.NOT_FOUND, errors.Exit.FORBIDDEN}:
            raise
        said = f"{exc.what}; {exc.cure}" if exc.cure else exc.what
        bad = findings.bad(causes.CLUSTERS_UNLISTED if wanted else causes.CLUSTERS_UNKNOWN, _NAMES, said=said)
        return [*found, bad, findings.not_run(causes.KUBECONFIG, causes.CLUSTERS)]
    if not wanted:
        found = await connected(hub, sorted(listed, key=lambda each: str(each.get("name"))))
    return found + await kubeconfigs(hub.login, [str(each.get("name")) for each in listed], env)


async def connected(
    hub: client.HubClient, chosen: Sequence[Mapping[str, Any]], *, is_wanted: bool = False
) -> list[Finding]:
    """A finding for each of these clusters that is ill; for those that are well one each, or one for all where they are
    many."""
    at_once = asyncio.Semaphore(AT_ONCE)

    async def one(cluster: Mapping[str, Any]) -> Finding | None:
        async with at_once:
            return await _ill(hub, cluster, is_wanted=is_wanted)

    found = await asyncio.gather(*map(one, chosen))
    if not chosen:
        return [good(causes.CLUSTERS, "the hub shows you none")]
    well = [cluster for cluster, finding in zip(chosen, found, strict=True) if finding is None]
    if len(well) <= LISTED:
        shown = [good(causes.CLUSTERS, _way(cluster)) for cluster in well]
    else:
        shown = [good(causes.CLUSTERS, f"{len(well)} of {len(chosen)} connected, and they answer")]
    return shown + [finding for finding in found if finding is not None]


def _way(cluster: Mapping[str, Any]) -> str:
    """Since when, and through which agent."""
    tunnels = [tunnel for tunnel in cluster.get("tunnels") or [] if tunnel.get("serves", True)]
    instance = (cluster.get("route") or {}).get("instance")
    asked = next((tunnel for tunnel in tunnels if tunnel.get("instance") == instance), tunnels[0] if tunnels else {})
    since = min((str(tunnel.get("connectedSince")) for tunnel in tunnels), default="")
    return (
        f"{cluster.get('name')} answers, connected since {since}, through the agent at {asked.get('address')}"
        f" (agents that serve: {len(tunnels)}; Kubernetes {asked.get('kubernetes') or 'unknown'})"
    )


async def _ill(hub: client.HubClient, cluster: Mapping[str, Any], *, is_wanted: bool) -> Finding | None:
    name, lost = str(cluster.get("name")), cluster.get("lastLostAt")
    if not cluster.get("connected"):
        nodes = node_agents(cluster)
        since = f" since {lost}" if lost else ""
        since += f" (node agents: {nodes})" if nodes else ""
        is_new = not (cluster.get("joined") or lost or nodes or is_wanted)
        return findings.bad(causes.CLUSTER_NEW if is_new else causes.CLUSTER_AWAY, _NAMES, name=name, since=since)
    try:
        await hub.get(f"{client.target('k8s', 'clusters', name, 'version')}?timeout={ANSWER_S}s")
    except errors.LimitError as exc:  # the hub's own or the agent's: nobody was asked
        return findings.bad(causes.CLUSTER_UNASKED, _NAMES, name=name, said=exc.what)
    except errors.CommandError as exc:
        if exc.exit_code is errors.Exit.FORBIDDEN:  # said by the API server: it answers
            return _fallback(name, cluster)
        return findings.bad(causes.CLUSTER_SILENT, _NAMES, name=name, said=exc.what)
    return _fallback(name, cluster)


def _fallback(name: str, cluster: Mapping[str, Any]) -> Finding | None:
    route = cluster.get("route") or {}
    if route.get("role") != "node":
        return None
    return findings.bad(
        causes.CLUSTER_FALLBACK, _NAMES, name=name, node=route.get("node"), since=route.get("since") or "some time"
    )


@dataclass(frozen=True, slots=True)
class Context:
    """One context of kubectl's that leads to a cluster of the hub."""

    name: str
    cluster: str
    """Its name at the hub."""
    entry: str
    """Name of the cluster's entry in the file."""
    token: str
    """Empty: none is in the file, as with a credential plugin or a client certificate."""
    ca: str
    """PEM; empty: the system's store."""

    def __repr__(self) -> str:
        return f"Context({self.name!r})"

    def arguments(self) -> str:
        """With which `riata kubeconfig` makes this context anew, and no other beside it."""
        prefix = entries.prefix_of(self.entry, self.cluster)
        return self.cluster if prefix in {"", entries.DEFAULT_PREFIX} else f"{self.cluster} --prefix {prefix}"


@dataclass(frozen=True, slots=True)
class Scope:
    """What the hub says of a token."""

    is_accepted: bool = True
    clusters: frozenset[str] | None = None
    """Names of the clusters that it is limited to; None: no limit is known."""
    shown: frozenset[str] | None = None
    """Names of the clusters that it is shown; None: it was not asked for, or the hub does not say."""


async def kubeconfigs(login: logins.Login, known: Iterable[str], env: Mapping[str, str]) -> list[Finding]:
    """Findings for the contexts of this hub in the files that kubectl reads. `known`: clusters that the hub shows."""
    try:
        contexts = read(login.hub, env)
    except (errors.CommandError, ValueError) as exc:
        return [findings.bad(causes.KUBECONFIG_UNREADABLE, _NAMES, said=str(exc))]
    if not contexts:
        return [findings.bad(causes.KUBECONFIG_NONE, _NAMES)]
    shown = frozenset(known)
    scopes = await _scopes(login, contexts, shown, env)
    ill = []
    for context in contexts:
        row = _wrong(context, login, shown, scopes[context.token])
        if row is not None:
            facts = {"context": context.name, "name": context.cluster, "arguments": context.arguments()}
            ill.append(findings.bad(row, _NAMES, **facts))
    well = len(contexts) - len(ill)
    return (
        [good(causes.KUBECONFIG, f"{well} of {len(contexts)} contexts of this hub are in order")] if well else []
    ) + ill


async def _scopes(
    login: logins.Login, contexts: Sequence[Context], shown: frozenset[str], env: Mapping[str, str]
) -> dict[str, Scope]:
    """What the hub says of each token, asked once for all contexts that have it. `shown`: to the login, which may be
    somebody else's than a context's, or be limited."""
    elsewhere = {context.token for context in contexts if context.cluster not in shown}
    tokens = list(dict.fromkeys(context.token for context in contexts))
    at_once = asyncio.Semaphore(AT_ONCE)

    async def one(token: str) -> Scope:
        async with at_once:
            return await _scope(login, token, env, is_elsewhere=token in elsewhere)

    return dict(zip(tokens, await asyncio.gather(*map(one, tokens)), strict=True))


def _wrong(context: Context, login: logins.Login, shown: frozenset[str], scope: Scope) -> Cause | None:
    """A hub that does not say which clusters it shows has not said that one is gone."""
    if context.cluster not in shown:
        if not context.token:
            return causes.KUBECONFIG_UNASKED
        if not scope.is_accepted:
            return causes.KUBECONFIG_UNSHOWN
        if scope.shown is not None and context.cluster not in scope.shown:
            return causes.KUBECONFIG_GONE
    if not scope.is_accepted:
        return causes.KUBECONFIG_TOKEN
    if _pins(context.ca) != _pins(login.ca):
        return causes.KUBECONFIG_CA
    if scope.clusters is not None and context.cluster not in scope.clusters:
        return causes.KUBECONFIG_SCOPE
    return None


async def _scope(login: logins.Login, token: str, env: Mapping[str, str], *, is_elsewhere: bool) -> Scope:
    """`is_elsewhere`: a context with it leads to a cluster that the login is not shown."""
    if not token:
        return Scope()
    if not files.is_token(token):  # kubectl cannot send it either
        return Scope(is_accepted=False)
    async with client.HubClient(msgspec.structs.replace(login, token=token), env) as hub:
        try:
            who = await hub.get(client.target("v1", "whoami"))
        except errors.CommandError as exc:
            return Scope(is_accepted=exc.exit_code is not errors.Exit.UNAUTHORIZED)
        shown = await _shown(hub) if is_elsewhere else None
    names = who.get("clusters") if isinstance(who, dict) else None
    return Scope(clusters=frozenset(map(str, names)) if isinstance(names, list) else None, shown=shown)


async def _shown(hub: client.HubClient) -> frozenset[str] | None:
    try:
        return frozenset(str(each.get("name")) for each in await hub.items(client.target("v1", "clusters")))
    except errors.CommandError:
        return None


def read(hub: str, env: Mapping[str, str]) -> list[Context]:
    """The contexts that lead to the hub, the first of a name as kubectl merges. Raises CommandError, ValueError."""
    found: dict[str, dict[str, tuple[pathlib.Path, dict[str, Any]]]] = {section: {} for section in entries.SECTIONS}
    for path in location.precedence(env):
        if files.is_there(path, what="kubeconfig"):
            _load(path, found)
    contexts = []
    for name, (_, body) in found["contexts"].items():
        entry = str(body.get("cluster"))
        path, cluster = found["clusters"].get(entry, (pathlib.Path(), {}))
        user_path, user = found["users"].get(str(body.get("user")), (pathlib.Path(), {}))
        wanted = entries.cluster_at(hub, cluster.get("server"))
        if wanted:
            contexts.append(Context(name, wanted, entry, _token(user_path, user), _ca(path, cluster)))
    return contexts


def _load(path: pathlib.Path, found: dict[str, dict[str, tuple[pathlib.Path, dict[str, Any]]]]) -> None:
    try:
        document = yamltext.load(files.read_text(str(path), what="kubeconfig"))
    except ValueError as exc:
        raise ValueError(f"the kubeconfig {path} cannot be read: {exc}") from exc
    for section, key in entries.SECTIONS.items():
        listed = document.get(section) if isinstance(document, dict) else None
        for element in listed if isinstance(listed, list) else []:
            body = element.get(key) if isinstance(element, dict) else None
            if isinstance(body, dict):
                found[section].setdefault(str(element.get("name")), (path, body))


def _token(path: pathlib.Path, user: Mapping[str, Any]) -> str:
    if user.get("tokenFile"):
        return files.read_token(str(path.parent / str(user["tokenFile"])))
    return str(user.get("token") or "")


def _ca(path: pathlib.Path, cluster: Mapping[str, Any]) -> str:
    if cluster.get("certificate-authority-data"):
        try:
            return kubeconfig.ca_text(kubeconfig.decoded(str(cluster["certificate-authority-data"])))
        except ValueError as exc:
            raise ValueError(
                f"the kubeconfig {path} has a certificate-authority-data that is no base64 of PEM"
            ) from exc
    if cluster.get("certificate-authority"):
        return files.read_ca(str(path.parent / str(cluster["certificate-authority"])))
    return ""


def _pins(ca: str) -> set[str]:
    try:
        return set(trust.pins_of(ca)) if ca else set()
    except pins.PinError:
        return {"unreadable"}
