"""Who sent a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Caller:
    """What a good access token says. `amr`: how they proved who they are (RFC 8176); `auth_time`: when, UTC."""

    user_id: str
    session_id: str
    role: str
    amr: tuple[str, ...]
    auth_time: datetime
    claims: Mapping[str, Any]
