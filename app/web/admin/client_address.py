"""Which address the service sees, for who sets TRUSTED_PROXIES."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from app.core.roles import Permission
from app.web import hops, transport
from app.web.admin.surface import admin
from app.web.guards import MAY
from app.web.hops import Choice
from app.work import Work


class ClientAddressReply(TypedDict):
    address: str
    peer: str
    trusted_proxies: int
    hops: int
    choices: list[Choice]


@admin.add("GET", "/client-address", reply=ClientAddressReply, guard=MAY(Permission.SETTINGS_READ), reads=True)
def client_address(work: Work) -> Any:
    """Which address this request came from, as the service sees it, and what each value of TRUSTED_PROXIES would see.
    The right value is the one beside your own public address."""
    return {
        "address": transport.address(work.settings),
        "peer": transport.peer(),
        "trusted_proxies": work.settings.trusted_proxies,
        "hops": len(transport.forwarded()),
        "choices": hops.choices(transport.forwarded(), transport.peer()),
    }
