"""`riata kubeconfig`: unmodified kubectl against clusters behind the hub."""

import asyncio
import concurrent.futures
import contextlib
import functools
import os
import socket
from collections.abc import Callable, Container, Mapping
from typing import Annotated, Any, Final

import msgspec
from cyclopts import Parameter

from ctl import client, durations, errors, identities, lifetimes, logins, options, output, terminal, trust
from ctl.kubeconfig import entries, store

_EXPIRY = "7d"
_AT_ONCE: Final = 8
"""Tokens asked about at a time."""

KIND = output.Kind(
    "context",
    {
        "CONTEXT": lambda c: c.get("context"),
        "CLUSTER": lambda c: c.get("cluster"),
        "SERVER": lambda c: c.get("server"),
    },
)


async def kubeconfig(
    *clusters: Annotated[str, Parameter(help="Names of clusters.")],
    all_: Annotated[bool, Parameter(name="--all", negative="", help="Every cluster you may use.")] = False,
    merge: Annotated[bool, Parameter(negative="", help="Merge into the file kubectl would write.")] = False,
    use_context: Annotated[
        bool, Parameter(negative="", help="With --merge: make the first cluster the current context.")
    ] = False,
    replace: Annotated[
        bool, Parameter(negative="", help="With --merge: take over entries of these names that are somebody else's.")
    ] = False,
    prefix: Annotated[str, Parameter(help="Names are PREFIX-CLUSTER.")] = entries.DEFAULT_PREFIX,
    token_name: Annotated[str, Parameter(help="Name of the token at the hub.")] = "",
    token_expiry: options.Expiry = _EXPIRY,
    form: Annotated[
        output.Format | None,
        Parameter(
            name=["--output", "-o"],
            help="yaml (what is printed without this option) and json: the kubeconfig; with --merge: what it did. "
            "table and name: its contexts, and without --merge no token is made for that.",
        ),
    ] = None,
    profile: options.Profile = "",
) -> None:
    """Make a kubeconfig with one context for each cluster, called riata-CLUSTER.

    A new token is made for it, named, expiring, and valid for these clusters only. Without --merge the kubeconfig is
    printed: it holds the token, so send it to a file only you can read. With --merge it goes into the file kubectl
    would write (KUBECONFIG or ~/.kube/config): entries of others, comments and order stay, the file becomes 0600, and a
    riata token of yours that is replaced there is revoked. An entry of another cluster or user is not replaced without
    --replace, and another user's token is never revoked.
    """
    _check(clusters, all_, prefix)
    login = logins.resolve(os.environ, profile)
    _check_tls(login.hub)
    seconds = durations.parse(token_expiry)
    async with client.HubClient(login, doctor=options.doctor(profile)) as hub:
        names = await _names(hub, clusters, all_)
        contexts = _contexts(login.hub, names, prefix)
        if form in {"table", "name"} and not merge:
            KIND.show_all(contexts, form)
            return
        there = {context["context"] for context in contexts}
        owners = await _owners(hub, there) if merge else {}
        ca = await _current_ca(hub)
        name = token_name or f"kubeconfig-{socket.gethostname()}"
        made = await hub.post(
            client.target("v1", "tokens"), {"name": name, "expiresInSeconds": seconds, "clusters": names}
        )
        ours = entries.build(login.hub, ca, str(made["token"]), names, prefix)
        if merge:
            first = str(contexts[0]["context"]) if use_context else None
            merging = functools.partial(
                store.merge_into_files, ours, os.environ, hub=login.hub, use=first, replace=replace
            )
            merged = await _merge(hub, merging, made, profile, owners, there)
            for token_id in merged.replaced_tokens:
                await _revoke_replaced(hub, token_id, owners)
            _show_merged(merged, made, contexts, form or "name")
        else:
            try:
                output.document(entries.document(ours, ours[0].name), form or "yaml")
            except BaseException:
                await _discard(hub, str(made.get("id")), profile)
                raise
            terminal.say(f"token {made.get('id')} ({name}), valid until {made.get('expiresAt')}, is in it")
        await lifetimes.tell(hub, made, seconds)


def _check(clusters: tuple[str, ...], all_: bool, prefix: str) -> None:
    if bool(clusters) == all_:
        raise errors.UsageError("name the clusters", cure="riata kubeconfig CLUSTER…, or riata kubeconfig --all")
    if not entries.PREFIX.fullmatch(prefix):
        raise errors.UsageError(f"{prefix!r} is not a prefix", cure="letters, digits, dots and dashes, a letter first")


def _check_tls(hub: str) -> None:
    """client-go reads no credential for a server without TLS, so kubectl would ask for a user name."""
    if not hub.startswith("https:"):
        raise errors.UsageError(
            "kubectl sends no token without TLS",
            means=f"{hub} is plain HTTP; no token was made",
            cure="log in at the hub's https address",
        )


async def _current_ca(hub: client.HubClient) -> str:
    """The login's CAs; while the hub replaces its own, both of them, which are kept with the login too."""
    login = hub.login
    if not login.ca:
        return ""
    ca = trust.follow(login.ca, await hub.text("/v1/ca"))
    if ca != login.ca:
        terminal.say(f"the hub gives out other CAs than the login has: this kubeconfig follows, {_kept(login, ca)}")
    return ca


def _kept(login: logins.Login, ca: str) -> str:
    """What becomes of the login. One that cannot be written (a file mounted read-only) is no reason to go without a
    kubeconfig."""
    try:
        is_kept = logins.keep_ca(os.environ, login, ca)
    except errors.CommandError as exc:
        return f"the login does not: {exc}"
    if is_kept and not os.environ.get("RIATA_CA_FILE"):  # which the next command reads again
        return "the login too"
    return "the CA file of the login does not: take the hub's anew (GET /v1/ca)"


async def _names(hub: client.HubClient, clusters: tuple[str, ...], all_: bool) -> list[str]:
    """The clusters by their names at the hub, each once, in the order asked for. CommandError when one is missing."""
    if all_:
        names = sorted(str(c["name"]) for c in await hub.items(client.target("v1", "clusters")))
        if not names:
            raise errors.CommandError(
                "there is no cluster you may use",
                cure="riata clusters create NAME, or ask for a grant",
                exit_code=errors.Exit.NOT_FOUND,
            )
        return names
    for name in clusters:
        await hub.get(client.target("v1", "clusters", name))
    return list(dict.fromkeys(clusters))


def _contexts(hub: str, names: list[str], prefix: str) -> list[dict[str, str]]:
    """The contexts as `-o table` and `-o name` show them, in the order of the clusters."""
    return [
        {"context": entries.context_name(prefix, name), "cluster": name, "server": entries.server(hub, name)}
        for name in names
    ]


async def _owners(hub: client.HubClient, names: Container[str]) -> dict[str, str]:
    """As `store.merge_into_files` takes them. CommandError where the hub does not say."""
    tokens = store.standing(names, os.environ, hub=hub.login.hub)
    if not tokens:
        return {}
    me = await identities.user(hub.login)
    at_once = asyncio.Semaphore(_AT_ONCE)

    async def owner(token: str) -> str:
        async with at_once:
            user = await identities.user(msgspec.structs.replace(hub.login, token=token))
        return "" if user is None or user == me else user

    asked = {token_id: token for token_id, token in tokens.items() if token}
    owners = dict(zip(asked, await asyncio.gather(*map(owner, asked.values())), strict=True))
    if len(asked) < len(tokens):  # left without a cluster: no token is shown to what may be no hub of its own
        listed: dict[str, str] = {}
        with contextlib.suppress(errors.CommandError):  # it helps to know more of them, and none is revoked unknown
            items = await hub.items(client.target("v1", "tokens"))
            listed = {str(each.get("id")): str(each.get("user")) for each in items}
        owners |= {each: "" for each in tokens.keys() - asked.keys() if listed.get(each) == me}
    return owners


async def _merge(
    hub: client.HubClient,
    merging: Callable[..., store.Merged],
    made: dict[str, Any],
    profile: str,
    owners: dict[str, str],
    names: Container[str],
) -> store.Merged:
    """What `merging` did; without it the token that was made is taken back. `owners`, of the tokens in the entries of
    `names`, is brought up to date where another riata put one there meanwhile."""
    works: list[asyncio.Future[store.Merged]] = []
    with concurrent.futures.ThreadPoolExecutor(1) as thread:  # joined: it holds kubectl's lock

        async def attempt() -> store.Merged:
            work = functools.partial(merging, owners=dict(owners))
            works.append(asyncio.get_running_loop().run_in_executor(thread, work))
            return await asyncio.shield(works[-1])

        try:
            try:
                merged = await attempt()
            except store.UnknownToken:
                owners |= await _owners(hub, names)
                merged = await attempt()
        except BaseException:
            await asyncio.wait(works)  # Ctrl-C does not stop the thread: a token it still wrote must stay valid
            if works[-1].exception() is not None:
                await _discard(hub, str(made.get("id")), profile)
            raise
    written = ", ".join(str(path) for path in merged.files)
    terminal.say(f"merged into {written}; token {made.get('id')} is valid until {made.get('expiresAt')}")
    return merged


def _show_merged(
    merged: store.Merged, made: dict[str, Any], contexts: list[dict[str, str]], form: output.Format
) -> None:
    """Last of what can fail."""
    if form in {"table", "name"}:
        KIND.show_all(contexts, form)
    else:
        files = [str(path) for path in merged.files]
        named = [context["context"] for context in contexts]
        output.document({"files": files, "contexts": named, "token": made.get("id")}, form)
    terminal.say(f"next: kubectl --context {contexts[0]['context']} get namespaces")


async def _discard(hub: client.HubClient, token_id: str, profile: str) -> None:
    """Take back a token that did not reach anybody; the error that is on its way matters more than one from here."""
    try:
        await hub.delete(client.target("v1", "tokens", token_id))
    except errors.CommandError as exc:
        command = f"riata tokens revoke {token_id}{options.typed(profile)}"
        terminal.say(f"token {token_id} could not be taken back ({exc}); revoke it: {command}")


async def _revoke_replaced(hub: client.HubClient, token_id: str, owners: Mapping[str, str]) -> None:
    """Never another user's, though an administrator may."""
    if owners.get(token_id) != "":
        terminal.say(f"the replaced token {token_id} is not known to be yours, and stays valid")
        return
    if token_id == entries.token_id(hub.login.token):
        terminal.say(f"the replaced token {token_id} is this login's own, and stays valid")
        return
    try:
        await hub.delete(client.target("v1", "tokens", token_id))
    except errors.CommandError as exc:
        if exc.exit_code == errors.Exit.FORBIDDEN:  # what is gone and what is wider are alike to a user
            terminal.say(
                f"the replaced token {token_id} was not revoked: it is gone already, or may do more than this login"
            )
        elif exc.exit_code != errors.Exit.NOT_FOUND:  # gone already, or of another hub
            terminal.say(f"the replaced token {token_id} could not be revoked: {exc}")
    else:
        terminal.say(f"revoked the replaced token {token_id}")
