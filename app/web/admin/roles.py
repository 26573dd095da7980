"""The roles that there are."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from app.core import roles
from app.core.roles import Permission
from app.web.admin.surface import admin
from app.web.guards import MAY
from app.work import Work


class RoleReply(TypedDict):
    name: str
    users: int
    assignable: bool
    permissions: list[str]


class RolesReply(TypedDict):
    items: list[RoleReply]
    next_cursor: None  # all are in one page


@admin.add("GET", "/roles", reply=RolesReply, guard=MAY(Permission.ROLES_READ), reads=True)
def list_roles(work: Work) -> Any:
    """The roles of `ROLES`, how many users have each, and what each may do here. One that `ROLES` no longer names while
    somebody has it is not assignable."""
    return {"items": [_role(role) for role in roles.held(work)], "next_cursor": None}


def _role(role: roles.Role) -> RoleReply:
    may = sorted(roles.permissions(role.name))
    return {"name": role.name, "users": role.users, "assignable": role.assignable, "permissions": list(may)}
