"""Refusals as the service answers them: problem+json (RFC 9457) with `WWW-Authenticate` (RFC 6750, RFC 9470)."""

from __future__ import annotations

import json

from latchkey_client.errors import Forbidden, Refused, TokenMissing

CONTENT_TYPE = "application/problem+json"
TITLES = {401: "Unauthorized", 403: "Forbidden", 503: "Service Unavailable"}
CHALLENGES = {"token_invalid": "invalid_token", "token_expired": "invalid_token", "token_revoked": "invalid_token"}


def body(refused: Refused) -> str:
    """The problem document."""
    return json.dumps(
        {
            "type": f"urn:latchkey:problem:{refused.code}",
            "title": TITLES[refused.status],
            "status": refused.status,
            "detail": refused.message,
            "code": refused.code,
            **refused.extra,
        }
    )


def headers(refused: Refused, realm: str) -> dict[str, str]:
    """The headers beside it. `realm`: the audience that the tokens are for."""
    found = {"Cache-Control": "no-store"}
    if refused.status in (401, 403):
        found["WWW-Authenticate"] = _challenge(refused, realm)
    if "retry_after" in refused.extra:
        found["Retry-After"] = str(refused.extra["retry_after"])
    return found


def _challenge(refused: Refused, realm: str) -> str:
    """Without a token no error is named (RFC 6750, section 3.1)."""
    parts = {"realm": realm}
    if not isinstance(refused, TokenMissing):
        error = "insufficient_scope" if isinstance(refused, Forbidden) else CHALLENGES.get(refused.code, refused.code)
        parts |= {"error": error, "error_description": refused.message}
    if "max_age" in refused.extra:
        parts["max_age"] = str(refused.extra["max_age"])
    return "Bearer " + ", ".join(f'{name}="{_quoted(value)}"' for name, value in parts.items())


def _quoted(text: str) -> str:
    visible = "".join(c if " " <= c <= "~" else "?" for c in text)
    return visible.replace("\\", "\\\\").replace('"', '\\"')
