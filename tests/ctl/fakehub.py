"""A fake hub on loopback: the /v1 API as the interface document gives it, kept in plain dictionaries."""

import asyncio
import dataclasses
import email.utils
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from proto import versions

ADMIN = "riata_admin00000_" + "a" * 64
CREATED = "2026-11-25T04:00:00Z"
EXPIRES = "2026-12-02T04:00:00Z"


@dataclasses.dataclass
class FakeHub:
    """What the hub knows, and what was asked of it."""

    clusters: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    grants: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    tokens: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    agent_tokens: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    agents: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    knows_parameters: bool = True
    """Of the list of agents; an older hub passes them over."""
    join_tokens: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    nodes: dict[str, dict[str, Any] | int] = dataclasses.field(default_factory=dict)
    """What it says of the nodes of a cluster, by its name: an answer, or the status of an error."""
    clean_ups: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    clean_up: dict[str, Any] | None = None
    """What the deletion of a cluster answers with."""
    clean_up_ends: bool = True
    busy: list[str] = dataclasses.field(default_factory=list)
    """Paths, each for one 503."""
    no_backend: list[str] = dataclasses.field(default_factory=list)
    """Paths, each for one 404 of a load balancer in front."""
    calls: list[tuple[str, str, Any]] = dataclasses.field(default_factory=list)
    answer: web.Response | None = None
    """When set, every request gets this."""
    meanwhile: Callable[[], Awaitable[object]] | None = None
    """When set, what somebody else does while the next request waits for its answer."""
    is_admins: bool = True
    """The login may administer the hub: to others what is missing is forbidden."""
    made: int = 0
    shell: str | None = "sh <<'RIATA_END'\nRIATA_END\n"
    version: str = "0.1.0"
    date: float | None = None
    """What its clock says, in seconds since the epoch; None: the time that it is."""
    ends: str | None = None
    """When the login's token ends."""
    scope: list[str] | None = None
    """Names of the clusters that its token is limited to."""
    strips: bool = False
    """Something in front takes the Upgrade away."""
    subprotocols: tuple[str, ...] = (versions.SUBPROTOCOL,)
    ca: str = ""
    """What it gives out as its CAs; empty: nothing."""
    who: int | None = None
    """When set, the status of an error in the place of who the caller is."""
    silent: dict[str, asyncio.Event] = dataclasses.field(default_factory=dict)
    """Paths whose questions are taken, and answered when it comes."""
    kubernetes: web.Response | None = None
    """When set, the answer to everything below /k8s/."""

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._front])
        routes = app.router
        routes.add_get("/version", self._version)
        routes.add_get("/v1/whoami", self._whoami)
        routes.add_get("/v1/ca", self._ca)
        routes.add_post("/v1/tokens", self._create_token)
        routes.add_get("/v1/tokens", self._tokens)
        routes.add_delete("/v1/tokens/{id}", _remover(self.tokens))
        routes.add_get("/v1/tokens/{id}/with-descendants", self._with_descendants)
        routes.add_delete("/v1/tokens/{id}/with-descendants", self._with_descendants)
        routes.add_post("/v1/clusters/{name}/agent-tokens", self._create_agent_token)
        routes.add_get("/v1/clusters/{name}/agent-tokens", _lister(self.agent_tokens))
        routes.add_delete("/v1/clusters/{name}/agent-tokens/{id}", _remover(self.agent_tokens))
        routes.add_get("/v1/agents", self._agents)
        routes.add_delete("/v1/agents/{id}", _remover(self.agents))
        routes.add_post("/v1/agents/{id}/rotate-key", _done)
        routes.add_post("/v1/clusters/{name}/join-tokens", self._create_join_token)
        routes.add_get("/v1/clusters/{name}/join-tokens", _lister(self.join_tokens))
        routes.add_delete("/v1/clusters/{name}/join-tokens/{id}", _remover(self.join_tokens))
        routes.add_get("/v1/clusters/{name}/nodes", self._nodes)
        routes.add_post("/v1/clusters/{name}/manifest", self._manifest)
        routes.add_get("/v1/tunnel", self._tunnel)
        routes.add_get("/k8s/clusters/{name}/{rest:.*}", self._kubernetes)
        routes.add_get("/v1/clean-ups", _lister(self.clean_ups))
        routes.add_get("/v1/clean-ups/{id}", self._clean_up)
        routes.add_delete("/v1/clean-ups/{id}", _remover(self.clean_ups))
        for path, kept in (("/v1/clusters", self.clusters), ("/v1/grants", self.grants)):
            routes.add_get(path, _lister(kept))
            routes.add_post(path, self._create_cluster if kept is self.clusters else _creator(kept))
            routes.add_get(path + "/{id}", _getter(kept))
            routes.add_delete(path + "/{id}", self._delete_cluster if kept is self.clusters else _remover(kept))
        return app

    @web.middleware
    async def _front(self, request: web.Request, handler: Any) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        self.calls.append((request.method, request.raw_path, body))
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        if self.answer is not None:
            return self.answer
        if request.path in self.silent:
            await self.silent[request.path].wait()
        if request.path in self.busy:
            self.busy.remove(request.path)
            return status(503, "busy")
        if request.path in self.no_backend:
            self.no_backend.remove(request.path)
            return web.Response(status=404, text="default backend - 404")
        if request.path not in {"/version", "/v1/tunnel"} and self._user(request) is None:
            return status(401, "the token is not valid")
        response: web.StreamResponse = await handler(request)
        if response.status == 404 and not self.is_admins:
            return status(403, "you may only do this with your own")
        return response

    def _user(self, request: web.Request) -> str | None:
        """Whose the token is; None for one that it does not know."""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        made = self.tokens.get(token.split("_")[1]) if token.startswith("riata_") and token.endswith("0" * 64) else None
        return "admin" if token == ADMIN else None if made is None else made.get("user", "admin")

    async def _version(self, request: web.Request) -> web.Response:
        headers = {} if self.date is None else {"Date": email.utils.formatdate(self.date, usegmt=True)}
        return web.json_response({"version": self.version}, headers=headers)

    async def _tunnel(self, request: web.Request) -> web.StreamResponse:
        if self.strips or request.headers.get("Upgrade") != "websocket":
            return status(400, "agents connect here by WebSocket")
        socket = web.WebSocketResponse(protocols=self.subprotocols)
        await socket.prepare(request)
        await socket.close()
        return socket

    async def _kubernetes(self, request: web.Request) -> web.StreamResponse:
        name, rest = request.match_info["name"], request.match_info["rest"]
        if self.kubernetes is not None:
            return self.kubernetes
        if rest == "version" and name in self.clusters:
            return web.json_response({"gitVersion": "v1.37.2"})
        return status(403, "this is not allowed")

    async def _agents(self, request: web.Request) -> web.Response:
        """In pages of whole clusters."""
        query = request.query if self.knows_parameters else {}
        limit, behind = int(query.get("limit", 1_000_000)), query.get("continue", "")
        found: list[dict[str, Any]] = []
        for name in sorted({each["cluster"] for each in self.agents.values()}):
            if len(found) >= limit:
                return web.json_response({"items": found, "continue": found[-1]["cluster"]})
            if name > behind and query.get("cluster", name) == name:
                found += [each for each in self.agents.values() if each["cluster"] == name]
        return web.json_response({"items": found})

    async def _nodes(self, request: web.Request) -> web.Response:
        found = self.nodes.get(request.match_info["name"], 404)
        return status(found, "no") if isinstance(found, int) else web.json_response(found)

    async def _ca(self, request: web.Request) -> web.Response:
        return web.Response(text=self.ca) if self.ca else status(404, "there is none")

    async def _whoami(self, request: web.Request) -> web.Response:
        if self.who is not None:
            return status(self.who, "not now")
        who = {"user": self._user(request), "groups": ["ops"], "admin": self.is_admins, "token": "admin00000"}
        who |= {"clusters": self.scope}
        return web.json_response({**who, **({"tokenExpiresAt": self.ends} if self.ends else {})})

    def token(self, prefix: str, body: dict[str, Any]) -> dict[str, Any]:
        self.made += 1
        number = f"t{self.made:09d}"
        base = {"id": number, "createdAt": CREATED, "expiresAt": EXPIRES}
        return {
            **base,
            **{k: v for k, v in body.items() if k != "expiresInSeconds"},
            "_": f"{prefix}_{number}_" + "0" * 64,
        }

    async def _create_token(self, request: web.Request) -> web.Response:
        return self._keep(self.tokens, self.token("riata", await request.json()))

    async def _tokens(self, request: web.Request) -> web.Response:
        return web.json_response({"items": [{"user": "admin", **each} for each in self.tokens.values()]})

    async def _with_descendants(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        found = [each for each in self.tokens.values() if name in (each["id"], each.get("createdWith"))]
        for each in found if request.method == "DELETE" else ():
            del self.tokens[each["id"]]
        return web.json_response({"items": found}) if found else status(404, f'"{name}" not found')

    async def _create_agent_token(self, request: web.Request) -> web.Response:
        return self._keep(self.agent_tokens, self.token("riataagent", await request.json()))

    async def _create_join_token(self, request: web.Request) -> web.Response:
        return self._keep(self.join_tokens, self.token("riatajoin", await request.json()))

    async def _delete_cluster(self, request: web.Request) -> web.Response:
        answer: web.Response = await _remover(self.clusters)(request)
        if answer.status != 204 or self.clean_up is None:
            return answer
        self.clean_ups[self.clean_up["id"]] = dict(self.clean_up)
        return web.json_response(self.clean_up)

    async def _clean_up(self, request: web.Request) -> web.Response:
        """Running at the first look, settled at the second."""
        found = self.clean_ups.get(request.match_info["id"])
        if found is None:
            return status(404, "nothing is left")
        answer = web.json_response(found)
        if self.clean_up_ends:
            del self.clean_ups[found["id"]]
        else:
            found |= {"state": "pending", "reason": "it changes all the time"}
        return answer

    async def _create_cluster(self, request: web.Request) -> web.Response:
        body = await request.json()
        wanted, existed = body.get("manifest") is not None, body.get("name") in self.clusters
        shown = json.loads((await _creator(self.clusters)(request)).body)
        if "code" in shown:
            return web.json_response(shown, status=shown["code"])
        manifest = {"shell": self.shell, "expiresAt": EXPIRES} if wanted else None
        answer = {**shown, "command": "riata clusters manifest a | kubectl apply -f -", "manifest": manifest}
        answer |= {"existed": existed}
        return web.json_response({**answer, "obstacle": "set agent_pins" if self.shell is None else None})

    async def _manifest(self, request: web.Request) -> web.Response:
        answer = {
            "cluster": "a",
            "joinToken": "t1",
            "expiresAt": EXPIRES,
            "manifest": "kind: Namespace\n---\nkind: X\n",
            "shell": self.shell,
            "values": "hub: {}\n",
        }
        return web.json_response(answer, status=201)

    @staticmethod
    def _keep(kept: dict[str, Any], made: dict[str, Any]) -> web.Response:
        secret = made.pop("_")
        kept[made["id"]] = made
        return web.json_response({**made, "token": secret}, status=201)


def status(code: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "status": "Failure", "message": message, "code": code}, status=code)


def _creator(kept: dict[str, Any]) -> Any:
    async def create(request: web.Request) -> web.Response:
        body = {key: value for key, value in (await request.json()).items() if key != "manifest"}
        old = kept.get(body["name"])
        if old is not None and not body.get("labels", True):
            return web.json_response(old)
        if old is not None and any(old.get(k) != v for k, v in body.items()):
            return status(409, f'"{body["name"]}" exists already and is different')
        kept[body["name"]] = {"createdAt": CREATED, **body}
        return web.json_response(kept[body["name"]], status=200 if old else 201)

    return create


def _lister(kept: dict[str, Any]) -> Any:
    async def listing(request: web.Request) -> web.Response:
        return web.json_response({"items": list(kept.values())})

    return listing


async def _done(request: web.Request) -> web.Response:
    return web.Response(status=204)


def _getter(kept: dict[str, Any]) -> Any:
    async def get(request: web.Request) -> web.Response:
        name = request.match_info["id"]
        return web.json_response(kept[name]) if name in kept else status(404, f'"{name}" not found')

    return get


def _remover(kept: dict[str, Any]) -> Any:
    async def remove(request: web.Request) -> web.Response:
        name = request.match_info["id"]
        if kept.pop(name, None) is None:
            return status(404, f'"{name}" not found')
        return web.Response(status=204)

    return remove


def dumps(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"
