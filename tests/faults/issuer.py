"""What signs a stub cluster's ServiceAccount tokens, and the cluster agent that tells the hub so: both play here, so
that node agents can be real without a real API server."""

import datetime
import json
import secrets
from pathlib import Path
from typing import Final

from joserfc import jwt
from joserfc.jwk import ECKey

from agent.config import HubSettings
from agent.uplink.credentials import AgentTokenFile
from agent.uplink.session import Identity, Opener
from agent.uplink.trust import HubTrust
from hub.auth.nodes import audience
from proto.aio.commands import call
from proto.aio.link import Link
from proto.aio.tasks import TaskGroup
from proto.commands import REGISTER_ISSUER, RegisterIssuer
from proto.errors import Code
from tests import harness
from tests.harness.pki import write_private

ISSUER: Final = "https://kubernetes.default.svc"
FALLBACK: Final = "system:serviceaccount:riata-system:riata-agent-node-fallback"
LIFE_S: Final = 600


class Issuer:
    """The signing key of one cluster."""

    def __init__(self) -> None:
        self._key = ECKey.generate_key("P-256", parameters={"kid": "faults", "use": "sig"})

    async def register(self, hub: harness.Hub, token_file: Path) -> None:
        """Tell the hub who signs, as the cluster's agent does; raises what the hub says against it."""
        settings = HubSettings(url=hub.url, ca_pins=(hub.ca_pin,), ca_file=hub.ca_file, token_file=token_file)

        async def version() -> str:
            return ""

        identity = Identity(secrets.token_bytes(16))
        credential = AgentTokenFile(token_file)
        opener = Opener(settings, identity, HubTrust(settings), credential, proxy_environment={}, kubernetes=version)
        opened = await opener.open()
        async with TaskGroup("registrar") as group:
            link = Link(opened.session, opened.transport, name="registrar", on_open=lambda *_: None)
            running = group.spawn(link.run(), name="link")
            keys = json.dumps({"keys": [self._key.as_dict(private=False)]})
            await call(link, REGISTER_ISSUER, RegisterIssuer(ISSUER, keys, (FALLBACK,), FALLBACK))
            link.close(Code.CLOSED, "registered")
            await running

    def project(self, path: Path, hub_id: str, cluster_uid: str, node: str) -> None:
        """Put a token of the fallback's pod on this node into a file, as the kubelet does; it lives LIFE_S seconds."""
        now = int(datetime.datetime.now(datetime.UTC).timestamp())
        claims = {
            "iss": ISSUER, "aud": [audience(hub_id, cluster_uid)], "sub": FALLBACK,
            "iat": now, "nbf": now, "exp": now + LIFE_S,
            "kubernetes.io": {
                "namespace": "riata-system", "pod": {"name": f"fallback-{node}", "uid": f"pod-{node}"},
                "node": {"name": node, "uid": f"node-{node}"},
            },
        }  # fmt: skip
        token = jwt.encode({"alg": "ES256", "kid": "faults"}, claims, self._key, algorithms=["ES256"])
        draft = path.with_suffix(".new")
        write_private(draft, token.encode())
        draft.replace(path)
