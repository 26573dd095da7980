"""The settings of access tokens: what signs them, what still verifies, for whom and how long. A part of
`config.Settings`; `core/token_keys.py` makes keys of it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from app.delivery_config import SECRET, DeliverySettings, Names, Secrets

HOUR = 3600
DAY = 24 * HOUR
AUDIENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}")


class TokenSettings(DeliverySettings):
    jwt_algorithm: Literal["HS256", "EdDSA", "ES256", "RS256"] = Field(
        "HS256",
        description="how access tokens are signed: `HS256` with a secret that backends share; "
        "`EdDSA`, `ES256`, `RS256` with a private key, so that who verifies cannot sign",
    )
    jwt_secret_key: SecretStr = Field(SECRET, description="signs access tokens with `HS256`; other backends share it")
    jwt_previous_secret_keys: Secrets = Field(
        (), description="other secrets that verify: earlier ones, and the next one; comma separated"
    )
    jwt_private_key: SecretStr = Field(
        SECRET, description="signs access tokens otherwise: PEM, PEM with `\\n`, or its base64; `flask make-key`"
    )
    jwt_private_key_file: Path | None = Field(None, description="a file with it, instead")
    jwt_previous_public_keys: Secrets = Field(
        (), description="other public keys that verify, earlier ones and the next one, in the same forms"
    )
    jwt_issuer: str = Field("latchkey", min_length=1, max_length=255, description="`iss` of every access token")
    jwt_audience: str = Field("latchkey", min_length=1, max_length=255, description="`aud` of every access token")
    jwt_audiences: Names = Field(
        (), description="backends with tokens of their own, such as `clinic,lab`; `flask audience-key`"
    )
    jwt_access_ttl: int = Field(900, ge=1, le=HOUR, description="life of an access token, seconds")
    jwt_refresh_ttl: int = Field(7 * DAY, ge=1, le=30 * DAY, description="life of a refresh token, seconds")

    @field_validator("jwt_audiences")
    @classmethod
    def _other_audiences(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if not all(AUDIENCE.fullmatch(name) for name in value) or len(set(value)) != len(value):
            raise ValueError("must be names of letters, digits and . _ : / - such as clinic,lab, each once")
        if info.data.get("jwt_audience") in value:
            raise ValueError("names JWT_AUDIENCE, whose tokens open this service itself")
        return value
