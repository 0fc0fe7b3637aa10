"""A cluster that signs ServiceAccount tokens, as far as the hub ever sees of it: its JWKS and its tokens."""

from __future__ import annotations

import json
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

HUB_ID = "hub-1"
ISSUER = "https://kubernetes.default.svc"
SUBJECT = "system:serviceaccount:riata-system:riata-agent-node"


class Cluster:
    """Keys of one API server. `rotate` adds one, which signs from then on."""

    def __init__(self, uid: str, kind: str = "RS256") -> None:
        self.uid, self.kind = uid, kind
        self.keys: list[Any] = []
        self.rotate()

    def rotate(self) -> None:
        parameters = {"kid": f"key-{self.uid}-{len(self.keys)}", "use": "sig"}
        key: Any
        if self.kind.startswith("RS"):
            key = RSAKey.generate_key(2048, parameters=parameters)
        else:
            key = ECKey.generate_key("P-256", parameters=parameters)
        self.keys.append(key)

    def jwks(self) -> str:
        return json.dumps({"keys": [key.as_dict(private=False) for key in self.keys]})

    def claims(self, now: float, **changes: object) -> dict[str, Any]:
        claims: dict[str, Any] = {
            "iss": ISSUER, "aud": [f"riata:{HUB_ID}:{self.uid}"], "sub": SUBJECT, "iat": int(now), "nbf": int(now),
            "exp": int(now) + 600, "jti": "x",
            "kubernetes.io": {
                "namespace": "riata-system", "pod": {"name": "p", "uid": "pod-1"},
                "node": {"name": "node-1", "uid": "n"}, "serviceaccount": {"name": "riata-agent-node", "uid": "s"},
            },
        }  # fmt: skip
        return {name: value for name, value in {**claims, **changes}.items() if value is not None}

    def token(
        self, now: float, *, header: dict[str, object] | None = None, key: Any = None, **changes: object
    ) -> bytes:
        head = {"alg": self.kind, "kid": self.keys[-1].kid, **(header or {})}
        signer = key or self.keys[-1]
        return jwt.encode(head, self.claims(now, **changes), signer, algorithms=[str(head["alg"])]).encode()
