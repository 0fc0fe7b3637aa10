"""The one door to kubernetes_asyncio: the agent's own Kubernetes work, never a request of the hub's.

Imported when that work starts; an agent with a key file, and one in mode node, never do. What the library would do
wrong is mended here (facts/dependencies.md §3.2, trap 20): each call has a deadline, CA and token are those of the
relay and so re-read when their files change, no proxy of the environment is used, no redirect is followed (it would
carry the token to whatever host it names), and bodies, which hold secrets, never reach its log.
"""

import asyncio
import importlib.util
import ipaddress
import json
import logging
import socket
import ssl
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from agent.errors import AgentError, TokenUnavailable
from agent.kubeconfig import KubeAccess
from agent.relay.addresses import Addresses
from agent.relay.renewal import renewed
from proto.versions import PRODUCT_VERSION

logger = logging.getLogger(__name__)

TIMEOUT: Final = 10.0
"""Seconds of one call."""
KEEP_ALIVE: Final = 5.0
"""Seconds that an idle connection is kept: calls come in bursts, hours apart."""
ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
_ANY: Final = "kubernetes.invalid"
"""A name that leads to _Elsewhere, and nowhere without it."""
_AGENT: Final = f"riata-agent/{PRODUCT_VERSION}"
_PACKAGES: Final = (
    "kubernetes_asyncio",
    "kubernetes_asyncio.client",
    "kubernetes_asyncio.client.api",
    "kubernetes_asyncio.client.models",
)


class KubeError(AgentError):
    """A call failed. `status` is the API server's, 0 where none answered. The text never quotes a body."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status

    @property
    def may_pass(self) -> bool:
        """Nobody has to change anything, as when an API server restarts."""
        return self.status in {0, 401, 429} or self.status >= 500


class KubeApi:
    """Calls with the agent's own credential. Used by one event loop; `close` at the end."""

    def __init__(self, access: KubeAccess) -> None:
        self._access = access
        self._context: ssl.SSLContext | None = None
        self._client: Any = None
        self._making = asyncio.Lock()

    async def get(self, path: str, decode: Callable[[bytes], Any] = json.loads) -> Any:
        """The JSON document at `path`, as `decode` makes it (raising ValueError). Raises KubeError."""
        return await self._call("GET", path, None, decode)

    async def put(self, path: str, document: object) -> Any:
        """Replace the object at `path`, if its `resourceVersion` is still the one in `document`. Raises KubeError."""
        return await self._call("PUT", path, document)

    async def patch(self, path: str, changes: object) -> Any:
        """Merge `changes` into the object at `path` (RFC 7386: null takes a field away). Raises KubeError."""
        return await self._call("PATCH", path, changes)

    async def post(self, path: str, document: object) -> Any:
        """Make an object, or ask a question that is one (a review). Raises KubeError."""
        return await self._call("POST", path, document)

    async def close(self) -> None:
        """Release the connections. Idempotent."""
        client, self._client, self._context = self._client, None, None
        if client is not None:
            await client.close()

    async def _call(self, method: str, path: str, document: object, decode: Callable[[bytes], Any] = json.loads) -> Any:
        try:
            async with asyncio.timeout(TIMEOUT):
                status, body = await self._once(method, path, document)
                if status == 401:
                    await renewed(self._access.credential)
                    status, body = await self._once(method, path, document)
        # UnicodeError for a host with a label that IDNA cannot encode.
        except (OSError, UnicodeError, aiohttp.ClientError, TokenUnavailable) as exc:
            raise KubeError(0, f"the API server cannot be asked ({type(exc).__name__})") from exc
        if status >= 300:
            raise KubeError(status, f"the API server answered {status} to {method} {path}")
        try:
            return decode(body)
        except ValueError:
            raise KubeError(status, f"the API server's answer to {method} {path} is malformed") from None

    async def _once(self, method: str, path: str, document: object) -> tuple[int, bytes]:
        client = await self._ready()
        content = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Accept": "application/json, */*;q=0.1", "Content-Type": content}
        headers["Host"] = self._access.endpoint.authority.decode()
        authorization = self._access.credential.authorization(asyncio.get_running_loop().time())
        if authorization:
            headers["Authorization"] = authorization.decode("ascii")
        # `_preload_content` False: the library neither decodes the body into models nor writes it to its debug log.
        response = await client.call_api(
            path, method, {}, [], headers, body=document, _preload_content=False, _request_timeout=TIMEOUT,
            _return_http_data_only=True,
        )  # fmt: skip
        try:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > ANSWER_BYTES_MAX:
                    raise KubeError(response.status, f"the API server's answer to {method} {path} is too big")
            return response.status, bytes(body)
        finally:
            response.release()

    async def _ready(self) -> Any:
        """The library's client, made anew when the CA has changed."""
        async with self._making:  # calls come at once, and each would make one
            context = self._access.trust.context()
            if self._client is None or context is not self._context:
                await self.close()
                self._client, self._context = await self._make(context), context
            return self._client

    async def _make(self, context: ssl.SSLContext) -> Any:
        load()
        from kubernetes_asyncio.client.api_client import ApiClient
        from kubernetes_asyncio.client.configuration import Configuration

        endpoint = self._access.endpoint
        elsewhere = _elsewhere(self._access)
        host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
        host = host if elsewhere is None else _ANY
        configuration = Configuration(host=f"https://{host}:{endpoint.port}{endpoint.base_path.decode()}")
        configuration.proxy = None
        client = ApiClient(configuration)
        client.user_agent = _AGENT
        rest: Any = client.rest_client
        # Its own session takes proxies from the environment and trusts what the system trusts.
        await rest.pool_manager.close()
        connector = aiohttp.TCPConnector(
            ssl=context, limit=4, keepalive_timeout=KEEP_ALIVE, resolver=elsewhere, use_dns_cache=elsewhere is None
        )
        rest.pool_manager = _Session(aiohttp.ClientSession(connector=connector, trust_env=False))
        rest.server_hostname = None if endpoint.server_name == host else endpoint.server_name
        rest.proxy = rest.proxy_headers = None
        return client


class _Elsewhere(AbstractResolver):
    """ "Resolves" to the Service and to the control plane's endpoints: aiohttp dials them a quarter of a second apart,
    and takes the first that answers. Which it is, its certificate has to say."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=number,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address, number in self._addresses.candidates()
        ]

    async def close(self) -> None:
        pass


def _elsewhere(access: KubeAccess) -> _Elsewhere | None:
    """None where the endpoint has a name, not an address: names are for the system's resolver."""
    if access.addresses is None:
        return None
    try:
        ipaddress.ip_address(access.endpoint.host)
    except ValueError:
        return None
    return _Elsewhere(access.addresses)


class _Session:
    """As much of aiohttp's session as the library calls. A redirect is an answer like any other."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def request(self, **how: Any) -> aiohttp.ClientResponse:
        return await self._session.request(**{**how, "allow_redirects": False})

    async def close(self) -> None:
        await self._session.close()


def load() -> None:
    """Make the library's packages known without running their `__init__`, which imports 700 models: 14 MiB, not 45.

    Nothing is done where it is imported already. Models are not used: documents are plain JSON here.
    """
    if "kubernetes_asyncio" in sys.modules:
        return
    spec = importlib.util.find_spec("kubernetes_asyncio")
    if spec is None or spec.origin is None:
        raise KubeError(0, "the package kubernetes_asyncio is not installed")
    root = Path(spec.origin).parent
    for name in _PACKAGES:
        parent, _, last = name.rpartition(".")
        package = types.ModuleType(name)
        package.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = package
        if parent:
            setattr(sys.modules[parent], last, package)
