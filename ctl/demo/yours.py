"""A kubeconfig of the user's, read as far as the demo needs it: contexts, and a client for one small object."""

import contextlib
import dataclasses
import pathlib
import re
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import aiohttp
import yaml

from ctl import errors, files
from ctl.demo import plugin
from proto import kubeconfig

_NAME_CHARACTERS = re.compile(r"[^a-z0-9-]+")
_BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
_TIMEOUT = aiohttp.ClientTimeout(total=20)


@dataclasses.dataclass(frozen=True, slots=True)
class Yours:
    """One context of a kubeconfig: `name` is what the cluster is called on the hub."""

    name: str
    context: str
    server: str
    cluster: dict[str, Any] = dataclasses.field(repr=False)
    user: dict[str, Any] = dataclasses.field(repr=False)
    base: pathlib.Path
    """Directory that relative paths in the kubeconfig start from."""


def read(file: pathlib.Path, contexts: Sequence[str]) -> list[Yours]:
    """The chosen contexts of `file`, its current one when none is named. CommandError for what the demo cannot use."""
    try:
        loaded = yaml.safe_load(files.read_text(str(file), what="kubeconfig"))
    except (yaml.YAMLError, RecursionError) as exc:
        raise errors.UsageError(f"{file} is not valid YAML") from exc
    if not isinstance(loaded, dict):
        raise errors.UsageError(f"{file} is not a kubeconfig")
    chosen = list(dict.fromkeys(contexts)) or [str(loaded.get("current-context") or "")]
    found: list[Yours] = []
    for context in chosen:
        body = _named(loaded, "contexts", "context", context, file)
        cluster = _named(loaded, "clusters", "cluster", str(body.get("cluster")), file)
        user = _named(loaded, "users", "user", str(body.get("user")), file)
        if "auth-provider" in user:
            raise errors.CommandError(
                f"context {context!r} gets its credentials from an auth provider, which is gone from kubectl too",
                cure="make a kubeconfig with an exec plugin, a token (`kubectl create token`) or a client certificate",
            )
        name = cluster_name(context, {y.name for y in found})
        server = str(cluster.get("server", "")).rstrip("/")
        found.append(Yours(name, context, server, cluster, user, file.resolve().parent))
    return found


def _named(loaded: dict[str, Any], section: str, key: str, name: str, file: pathlib.Path) -> dict[str, Any]:
    listed = loaded.get(section)
    elements = [e for e in (listed if isinstance(listed, list) else []) if isinstance(e, dict)]
    for element in elements:
        if str(element.get("name")) == name and isinstance(element.get(key), dict):
            body: dict[str, Any] = element[key]
            return body
    known = ", ".join(sorted(str(e.get("name")) for e in elements)) or "none"
    raise errors.UsageError(f"{file} has no {key} {name!r}", means=f"its {section}: {known}")


def cluster_name(context: str, taken: set[str]) -> str:
    """A cluster name of the hub for `context`: `kind-dev` stays, `admin@Prod` becomes admin-prod."""
    slug = _NAME_CHARACTERS.sub("-", context.lower()).strip("-")[:50]
    slug = slug if slug[:1].isalpha() else f"c-{slug}".rstrip("-")
    return next(n for n in (slug, *(f"{slug}-{i}" for i in range(2, 1000))) if n not in taken)


@contextlib.asynccontextmanager
async def administrators(yours: Yours, binding: str, left: Callable[[], None]) -> AsyncIterator[bool]:
    """A ClusterRoleBinding `binding` for the hub's administrators, removed when the block ends.

    It is what the agent's manifests have (deploy/agent/20-cluster-admins.yaml). False, and nothing was made, when the
    user of the kubeconfig may not; CommandError when the API server cannot be used at all. `left` is called where the
    binding may be there still when the block has ended.
    """
    async with _session(yours) as session:
        try:
            status = await _ask(session, yours, "POST", _BINDINGS, _binding(binding))
        except BaseException as exc:
            if not isinstance(exc.__cause__, aiohttp.ClientConnectorError | aiohttp.InvalidURL):
                left()  # it may have been asked, and carried out
            raise
    if status >= 500:
        left()
    if status not in {201, 401, 403}:
        raise errors.CommandError(f"the API server of context {yours.context!r} answers HTTP {status}")
    if status == 401:
        raise errors.CommandError(
            f"the API server of context {yours.context!r} refuses the credentials of the kubeconfig",
            cure=f"check: kubectl --context {yours.context} auth whoami",
        )
    try:
        yield status == 201
    finally:
        if status == 201 and not await _removed(yours, binding):
            left()


async def _removed(yours: Yours, binding: str) -> bool:
    try:
        async with _session(yours) as session:
            return await _ask(session, yours, "DELETE", f"{_BINDINGS}/{binding}", None) in {200, 202, 404}
    except errors.CommandError:
        return False


def _binding(name: str) -> dict[str, Any]:
    group = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "riata:hub:cluster-admins"}
    labels = {"app.kubernetes.io/part-of": "riata", "app.kubernetes.io/managed-by": "riata-demo"}
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name, "labels": labels},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [group],
    }


async def _ask(session: aiohttp.ClientSession, yours: Yours, method: str, path: str, body: object) -> int:
    name = str(yours.cluster.get("tls-server-name") or "") or None
    url = yours.server + path
    try:
        async with session.request(method, url, json=body, allow_redirects=False, server_hostname=name) as response:
            return response.status
    except (aiohttp.ClientError, TimeoutError, OSError) as exc:
        raise errors.CommandError(
            f"cannot reach the API server of context {yours.context!r} ({yours.server})",
            means=type(exc).__name__,
            cure=f"check: kubectl --context {yours.context} version",
        ) from exc


@contextlib.asynccontextmanager
async def _session(yours: Yours) -> AsyncIterator[aiohttp.ClientSession]:
    token = await _token(yours)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connector = aiohttp.TCPConnector(ssl=_trust(yours))
    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=_TIMEOUT) as session:
        yield session


async def _token(yours: Yours) -> str:
    """The bearer token of the user, by the agent's order of precedence; empty when there is none."""
    if yours.user.get("exec"):
        return await plugin.token(yours.user["exec"], yours.base)
    data = "" if yours.user.get("tokenFile") else "token"
    return _content(yours, yours.user, data, "tokenFile", plain=True).decode(errors="replace").strip()


def _trust(yours: Yours) -> ssl.SSLContext:
    ca = _content(yours, yours.cluster, "certificate-authority-data", "certificate-authority")
    certificate = _content(yours, yours.user, "client-certificate-data", "client-certificate")
    key = _content(yours, yours.user, "client-key-data", "client-key")
    try:
        context = ssl.create_default_context(cadata=kubeconfig.ca_text(ca) if ca else None)
        if certificate and key:
            with tempfile.NamedTemporaryFile() as pair:  # 0600; the ssl module takes files only
                pair.write(certificate + b"\n" + key)
                pair.flush()
                context.load_cert_chain(pair.name)
    except (ssl.SSLError, ValueError) as exc:
        raise errors.CommandError(f"the certificates of context {yours.context!r} are not valid") from exc
    return context


def _content(yours: Yours, body: dict[str, Any], data: str, path: str, *, plain: bool = False) -> bytes:
    """What `data` holds (base64 unless `plain`), else the file that `path` names; empty when neither is set."""
    if body.get(data):
        try:
            return str(body[data]).encode() if plain else kubeconfig.decoded(str(body[data]))
        except ValueError as exc:
            raise errors.UsageError(f"{data} of context {yours.context!r} is not base64") from exc
    if body.get(path):
        return files.read_text(str(yours.base / str(body[path])), what=path).encode()
    return b""
