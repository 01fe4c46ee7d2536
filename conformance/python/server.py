"""Where the driver (../run) has put the server, and what the scenarios share."""

import base64
import hashlib
import hmac
import json
import os
import uuid

WS_URL = os.environ["BOWLINE_WS_URL"]
API_URL = os.environ["BOWLINE_API_URL"]
API_KEY = os.environ["BOWLINE_API_KEY"]
TOKEN_SECRET = os.environ["BOWLINE_TOKEN_SECRET"]


def token(**claims) -> str:
    """Signs a token with the server's secret."""

    def part(value: bytes) -> bytes:
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    signed = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(claims).encode())
    signature = hmac.new(TOKEN_SECRET.encode(), signed, hashlib.sha256).digest()
    return (signed + b"." + part(signature)).decode()


def fresh(namespace: str) -> str:
    """A channel nobody used before."""
    return f"{namespace}:{uuid.uuid4()}"
