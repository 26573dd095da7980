"""The engine: users, sign-ups, challenges, sessions, tokens, throttles, messages, repeats, audit, consents."""

import sqlalchemy as sa
from resume import create_table, drop_table

from app.db import Digest, Id, UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def text(name: str, length: int, *, null: bool = False) -> sa.Column:
    return sa.Column(name, sa.String(length), nullable=null)


def number(name: str) -> sa.Column:
    return sa.Column(name, sa.Integer(), nullable=False)


def time(name: str, *, null: bool = False) -> sa.Column:
    return sa.Column(name, UtcDateTime(), nullable=null)


def ident(name: str = "id", *, null: bool = False) -> sa.Column:
    return sa.Column(name, Id, nullable=null)


def digest(name: str) -> sa.Column:
    return sa.Column(name, Digest, nullable=False)


def refers(table: str, column: str, to: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{to}.id"], name=f"fk_{table}_{column}", ondelete="CASCADE")


def key(table: str, column: str = "id") -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(column, name=f"pk_{table}")


def only_one(table: str, column: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(column, name=f"uq_{table}_{column}")


def upgrade() -> None:
    create_table(
        "users",
        ident(),
        text("name", 100, null=True),
        text("username", 32, null=True),
        text("email", 254, null=True),
        text("phone", 16, null=True),
        text("role", 32),
        text("password_hash", 255, null=True),
        text("language", 16, null=True),
        time("disabled_at", null=True),
        time("created_at"),
        time("last_login_at", null=True),
        text("recovered_by", 8, null=True),
        time("password_changed_at", null=True),
        key("users"),
        only_one("users", "username"),
        only_one("users", "email"),
        only_one("users", "phone"),
        indexes=[("role",)],
    )
    create_table(
        "signups",
        ident(),
        text("email", 254, null=True),
        text("phone", 16, null=True),
        text("username", 32, null=True),
        text("name", 100, null=True),
        text("password_hash", 255, null=True),
        sa.Column("consent", sa.JSON(), nullable=True),
        text("language", 16, null=True),
        ident("challenge_id", null=True),
        sa.Column("grant_digest", Digest, nullable=True),
        time("grant_expires_at", null=True),
        time("created_at"),
        time("expires_at"),
        time("completed_at", null=True),
        key("signups"),
        only_one("signups", "grant_digest"),
        indexes=[("email", "created_at"), ("phone", "created_at"), ("username", "created_at"), ("expires_at",)],
    )
    create_table(
        "username_holds",
        text("username", 32),
        digest("claimant"),
        time("expires_at"),
        key("username_holds", "username"),
        indexes=[("expires_at",)],
    )
    create_table(
        "otp_challenges",
        ident(),
        text("purpose", 24),
        text("channel", 8),
        text("destination", 254),
        text("shown", 254),
        ident("user_id", null=True),
        ident("signup_id", null=True),
        ident("asked_by", null=True),
        ident("session_id", null=True),
        digest("budget_key"),
        time("stands_on", null=True),
        text("methods", 64),
        text("language", 16),
        text("key_id", 8),
        text("factor", 32),
        digest("digest"),
        number("attempts"),
        number("max_attempts"),
        number("sends"),
        time("last_sent_at"),
        time("created_at"),
        time("expires_at"),
        time("used_at", null=True),
        time("void_at", null=True),
        sa.Column("begun_by", Digest, nullable=True),
        sa.Column("grant_digest", Digest, nullable=True),
        time("grant_expires_at", null=True),
        key("otp_challenges"),
        refers("otp_challenges", "user_id", "users"),
        refers("otp_challenges", "signup_id", "signups"),
        only_one("otp_challenges", "grant_digest"),
        indexes=[("destination",), ("user_id",), ("signup_id",), ("budget_key",), ("expires_at",)],
    )
    create_table(
        "sessions",
        ident(),
        ident("user_id"),
        text("amr", 64),
        text("ip", 45),
        text("user_agent", 255),
        sa.Column("device_info", sa.JSON(), nullable=True),
        digest("client_key"),
        sa.Column("cookie_digest", Digest, nullable=True),
        time("created_at"),
        time("auth_time"),
        time("last_used_at"),
        time("expires_at"),
        time("revoked_at", null=True),
        text("revoked_why", 32, null=True),
        key("sessions"),
        refers("sessions", "user_id", "users"),
        only_one("sessions", "cookie_digest"),
        indexes=[("user_id", "client_key"), ("user_id", "id"), ("expires_at",)],
    )
    create_table(
        "refresh_tokens",
        ident(),
        ident("session_id"),
        digest("digest"),
        time("created_at"),
        time("expires_at"),
        time("used_at", null=True),
        key("refresh_tokens"),
        refers("refresh_tokens", "session_id", "sessions"),
        only_one("refresh_tokens", "digest"),
        indexes=[("session_id",), ("expires_at",)],
    )
    create_table(
        "throttles",
        digest("key"),
        number("count"),
        time("window_ends_at"),
        number("day_count"),
        time("day_ends_at"),
        number("level"),
        number("streak"),
        time("locked_until", null=True),
        time("touched_at"),
        key("throttles", "key"),
        indexes=[("touched_at",)],
    )
    create_table(
        "outbox_messages",
        ident(),
        text("kind", 40),
        text("channel", 8),
        text("recipient", 254),
        text("language", 16),
        text("country", 3, null=True),
        ident("challenge_id", null=True),
        ident("user_id", null=True),
        sa.Column("facts", sa.JSON(), nullable=False),
        text("state", 10),
        number("attempts"),
        time("next_attempt_at"),
        text("lease", 32, null=True),
        time("leased_until", null=True),
        time("expires_at", null=True),
        text("provider", 32, null=True),
        text("provider_id", 128, null=True),
        text("avoid", 32, null=True),
        text("last_error", 255, null=True),
        time("created_at"),
        time("settled_at", null=True),
        key("outbox_messages"),
        refers("outbox_messages", "challenge_id", "otp_challenges"),
        indexes=[
            ("state", "next_attempt_at"),
            ("challenge_id",),
            ("user_id",),
            ("lease",),
            ("provider", "provider_id"),
            ("country", "created_at"),
        ],
    )
    create_table(
        "repeats",
        digest("key"),
        digest("body"),
        sa.Column("answer", sa.JSON(), nullable=True),
        time("expires_at"),
        key("repeats", "key"),
        indexes=[("expires_at",)],
    )
    create_table(
        "audit_logs",
        ident(),
        time("at"),
        text("event", 40),
        sa.Column("success", sa.Boolean(), nullable=False),
        text("reason", 40, null=True),
        ident("user_id", null=True),
        ident("actor_id", null=True),
        ident("session_id", null=True),
        text("subject", 254, null=True),
        text("ip", 45, null=True),
        text("user_agent", 255, null=True),
        text("request_id", 64, null=True),
        sa.Column("facts", sa.JSON(), nullable=False),
        key("audit_logs"),
        indexes=[("at",), ("user_id", "at"), ("event", "at")],
    )
    create_table(
        "consents",
        ident(),
        ident("user_id"),
        sa.Column("terms", sa.Boolean(), nullable=False),
        sa.Column("privacy", sa.Boolean(), nullable=False),
        text("version", 40),
        time("given_at"),
        text("ip", 45),
        time("withdrawn_at", null=True),
        key("consents"),
        refers("consents", "user_id", "users"),
        indexes=[("user_id",)],
    )


def downgrade() -> None:
    for table in (
        "consents",
        "audit_logs",
        "repeats",
        "outbox_messages",
        "throttles",
        "refresh_tokens",
        "sessions",
        "otp_challenges",
        "username_holds",
        "signups",
        "users",
    ):
        drop_table(table)
