"""A real HTTP server that publishes keys, and signs with them."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tests.integration.gateway.serving import ISSUER


class KeyServer:
    """Publishes the public half of each key; `asked` counts how often it was asked."""

    def __init__(self) -> None:
        self.keys: dict[str, ec.EllipticCurvePrivateKey] = {}
        self.asked = 0
        self.broken = False
        self.add("first")
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.asked += 1
                body = b"not json" if owner.broken else json.dumps({"keys": owner.published()}).encode()
                self.send_response(500 if owner.broken else 200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}/keys.json"

    def add(self, key_id: str) -> None:
        self.keys[key_id] = ec.generate_private_key(ec.SECP256R1())

    def published(self) -> list[dict[str, Any]]:
        return [
            {**json.loads(ECAlgorithm.to_jwk(key.public_key())), "kid": key_id, "alg": "ES256"}
            for key_id, key in self.keys.items()
        ]

    def token(self, user_id: str, key_id: str, signed_by: ec.EllipticCurvePrivateKey | None = None) -> str:
        claims = {"sub": user_id, "aud": "authenticated", "iss": ISSUER, "exp": int(time.time()) + 600}
        key = signed_by or self.keys[key_id]
        return jwt.encode(claims, key, algorithm="ES256", headers={"kid": key_id})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
