"""Roles and what they may do. A role is a word on the account; what it opens stands here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import ColumnElement, and_, func, or_, select, true

from app.core import locks, policy, throttles
from app.models import User
from app.work import Work

ADMIN = "admin"


class Permission(StrEnum):
    """What an endpoint of administration can ask for. Each names one; a role without it is refused."""

    USERS_READ = "users:read"
    USERS_WRITE = "users:write"
    ROLES_READ = "roles:read"
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"
    AUDIT_READ = "audit:read"
    DELIVERIES_READ = "deliveries:read"
    DELIVERIES_WRITE = "deliveries:write"
    STATS_READ = "stats:read"
    SETTINGS_READ = "settings:read"


# `doctor`, `user` and those that ROLES adds mean something to the applications behind, and nothing here.
GRANTED: dict[str, frozenset[Permission]] = {ADMIN: frozenset(Permission)}


@dataclass(frozen=True, slots=True)
class Role:
    name: str
    users: int
    assignable: bool  # ROLES names it; False for one that was taken out while users had it


def permissions(role: str) -> frozenset[Permission]:
    """What a role may do here: nothing, unless it is granted above."""
    return GRANTED.get(role, frozenset())


def held(work: Work) -> list[Role]:
    """Every role that can be given, in the order of ROLES, then those that somebody still has; and by how many."""
    counted = select(User.role, func.count()).group_by(User.role)
    users = {row[0]: row[1] for row in work.db.execute(counted)}
    assignable = work.settings.roles
    names = (*assignable, *sorted(users.keys() - set(assignable)))
    return [Role(name, users.get(name, 0), name in assignable) for name in names]


def another_admin(work: Work, user: User) -> bool:
    """True if somebody else is an admin who may sign in, and can. It stays true until the unit ends: whoever takes an
    admin away waits here for the one before, so two who do it to each other in the same moment do not both pass.
    """
    throttles.held(work, [throttles.key("admins")])
    others = (User.role == ADMIN, User.id != user.id, locks.unlocked(work.now))
    return work.db.scalar(select(User.id).where(*others, _can_sign_in(work)).limit(1)) is not None


def _can_sign_in(work: Work) -> ColumnElement[bool]:
    """Of an admin, what `policy` lets through: an address, whose code binds a password where there is none; a passkey;
    or a password with another factor, or alone where that is enough. Somebody imported may have but a username.
    """
    alone = work.settings.mfa_policy == "optional" and ADMIN not in work.settings.mfa_required_roles
    by_password = and_(User.password_hash.is_not(None), true() if alone else User.mfa != "")
    return or_(User.email.is_not(None), User.phone.is_not(None), User.mfa.contains(policy.PASSKEY), by_password)
