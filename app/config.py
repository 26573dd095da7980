"""Settings: one frozen, typed object. `start.load()` reads it; `production.py` says which values are unsafe there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from sqlalchemy.engine import URL, make_url

from app.delivery_config import DeliverySettings, Names, Roots, Secrets, is_country, names_a_host, shown_map
from app.origins import is_covered, is_origin, is_secure, origin_of
from app.store_config import database_url, redis_url, shown_database
from app.token_config import DAY, HOUR, TokenSettings

ROOT = Path(__file__).resolve().parent.parent


class SettingsError(ValueError):
    """The service must not start like this. `str()` says why, one line a problem."""


DOMAIN = re.compile(
    r"localhost|([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z][a-z0-9-]*[a-z0-9]"
)  # passkeys know no addresses
DSN = re.compile(r"https?://[^\s@/]+@[^\s@/?#]+/([^\s?#]+/)?[0-9]+")
ROLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")  # as long as its column
USERINFO = re.compile(r"//\S*@")


def text_of(value: Any) -> Any:
    """A setting, out of its cover if it is a secret."""
    return value.get_secret_value() if isinstance(value, SecretStr) else value


class Settings(TokenSettings):
    """Field descriptions are the table of `docs/settings.md` and the comments of `.env.example`."""

    environment: Literal["development", "production"] = Field(
        "development", description="`production` refuses unsafe values and switches debugging aids off"
    )
    secret_key: SecretStr = Field(SecretStr(""), description="root of the keys for codes, digests and cookies")
    secret_key_previous: Roots = Field(
        (), description="other `SECRET_KEY`s that are accepted: earlier ones, and the next one; comma separated"
    )
    database_url: SecretStr = Field(
        SecretStr("sqlite:///latchkey.db"), description="SQLite (in `instance/`), PostgreSQL or MySQL/MariaDB"
    )
    redis_url: SecretStr | None = Field(None, description="address limits shared by many processes; memory without")
    session_max_age: int = Field(30 * DAY, ge=1, le=90 * DAY, description="a session ends after this, whatever happens")
    step_up_max_age: int = Field(600, ge=1, le=HOUR, description="how recent a 'recent sign-in' is, seconds")

    otp_ttl: int = Field(300, ge=1, le=600, description="life of an e-mailed code, seconds (at most 600)")
    otp_ttl_sms: int = Field(180, ge=1, le=600, description="life of a code by SMS, seconds (at most 600)")
    otp_ttl_reset: int = Field(600, ge=1, le=600, description="life of a recovery code, seconds (at most 600)")
    otp_length: int = Field(6, ge=6, le=9, description="digits of a code")
    otp_max_attempts: int = Field(3, ge=1, le=10, description="guesses one challenge allows")
    otp_resend_in: int = Field(30, ge=0, le=600, description="seconds between two sends of one challenge")
    sends_per_minute: int = Field(3, ge=1, description="messages a minute to one destination, over all routes")
    sends_per_day_email: int = Field(30, ge=1, description="e-mails a day to one destination, over all routes")
    sends_per_day_sms: int = Field(10, ge=1, description="SMS a day to one destination, over all routes")
    roles: Names = Field(
        ("admin", "doctor", "user"),
        description="the roles a user can have, of letters, digits and `_.-`; must name `admin` and `user`",
    )
    mfa_policy: Literal["required", "optional"] = Field(
        "required", description="`required`: a code after the password; `optional`: only with an enrolled factor"
    )
    mfa_required_roles: Names = Field(
        (), description="roles that always give a code, such as `admin,doctor`; without a password that code is all"
    )
    lockout_threshold: int = Field(5, ge=1, le=20, description="wrong guesses that lock an identifier")
    lockout_seconds: int = Field(900, ge=1, le=DAY, description="first lock; doubles up to a day")
    password_min_length: int = Field(8, ge=8, le=64, description="shortest password, code points")
    argon2_memory_kib: int = Field(
        19_456, ge=8, le=4_194_304, description="Argon2id memory, KiB; raising it: `docs/cryptography.md`"
    )
    argon2_time_cost: int = Field(2, ge=1, le=1000, description="Argon2id passes")

    master_secret: SecretStr = Field(
        SecretStr(""), description="root of the keys of devices; none can register without it"
    )
    master_secret_previous: Roots = Field(
        (), description="other `MASTER_SECRET`s whose devices work: earlier ones, and the next one; comma separated"
    )
    api_key: SecretStr = Field(SecretStr(""), description="a key of servers with every scope, besides those of admins")
    api_key_previous: Secrets = Field((), description="other `API_KEY`s that are accepted: the one before, or the next")
    otp_digits: int = Field(
        6, ge=6, le=8, description="digits of a code by time; a device keeps those of its registration"
    )
    otp_interval: int = Field(30, ge=15, le=30, description="seconds a code by time is shown (at most 30); likewise")
    otp_window: int = Field(
        1, ge=0, le=1, description="steps each way in which a code by time still counts (at most 1)"
    )

    default_phone_region: str = Field("", description="country of numbers typed without a prefix, such as `IN`")
    allow_console_delivery: bool = Field(
        False, description="lets production print codes of a channel for which no sender is set"
    )
    allow_sqlite: bool = Field(False, description="lets production run on SQLite (one host with a durable disk)")
    courier: Literal["web", "worker"] = Field(
        "web", description="who sends messages: a thread of each web process, or only `flask courier`"
    )

    retain_outbox_days: int = Field(
        30, ge=2, le=3650, description="days that settled messages and their challenges are kept; see `docs/privacy.md`"
    )
    retain_sessions_days: int = Field(
        90, ge=1, le=3650, description="days that sessions are kept after their end, to know a browser or phone again"
    )
    ratelimit: bool = Field(True, description="the limits by client address; guess budgets hold without them")
    trusted_proxies: int = Field(0, ge=0, le=10, description="proxies in front; 0 ignores `X-Forwarded-*`")
    cors_origins: Names = Field(
        (),
        description="other origins whose pages may call, such as `https://app.example.com`; with a cookie only those "
        "of `PUBLIC_URL`'s site",
    )
    passkey_rp_id: str = Field(
        "", description="domain that passkeys, for good, and codes by SMS are for; default: `PUBLIC_URL`'s"
    )
    passkey_origins: Names = Field(
        (),
        description="origins whose pages may use passkeys; default: `PUBLIC_URL`'s and `CORS_ORIGINS`, of that domain",
    )
    csp_report_uri: str = Field(
        "",
        pattern=r"^(https?://[^\s;,\"'<>]+)?$",
        description="where browsers report what a Content-Security-Policy kept from a page; optional",
    )
    docs: bool | None = Field(None, description="serve `/docs`, `/redoc`, `/openapi.json`; default: not in production")
    metrics_public: bool = Field(False, description="serve `/metrics` to anybody who can reach it")
    metrics_port: int = Field(
        0, ge=0, le=65_535, description="where `flask courier` serves `/metrics` and `/health`; 0: nowhere"
    )
    otel_exporter_otlp_endpoint: str = Field(
        "",
        pattern=r"^(https?://[^\s?#]+)?$",
        description="collector of traces, such as `http://localhost:4318`; optional",
    )
    sentry_dsn: SecretStr = Field(
        SecretStr(""), description="Sentry project that is told of unexpected errors; optional"
    )
    debug: bool = Field(False, description="verbose logs; refused in production")
    port: int = Field(5000, ge=1, le=65_535, description="where the service listens")
    web_concurrency: int = Field(2, ge=1, le=64, description="worker processes")
    web_threads: int = Field(8, ge=1, le=64, description="threads a worker, beside two that only read")
    web_patience: float = Field(
        0.8, gt=0, le=60, description="seconds a request waits for a thread; a longer wait is answered 503"
    )

    @property
    def production(self) -> bool:
        return self.environment == "production"

    @property
    def serves_docs(self) -> bool:
        return not self.production if self.docs is None else self.docs

    @property
    def rp_id(self) -> str:
        """The domain that passkeys are for (WebAuthn's relying party id). Empty: there are none here."""
        host = urlsplit(self.public_url).hostname or ""
        usual = host if DOMAIN.fullmatch(host) else "" if self.production else "localhost"
        return self.passkey_rp_id or usual

    @property
    def rp_origins(self) -> tuple[str, ...]:
        """The origins whose pages may use passkeys: those that were named, or the known ones that the domain covers."""
        if self.passkey_origins:
            return self.passkey_origins
        near = () if self.production else (f"http://localhost:{self.port}",)
        known = (origin_of(self.public_url), *self.cors_origins, *near)
        return tuple(dict.fromkeys(o for o in known if is_secure(o) and is_covered(o, self.rp_id)))

    @property
    def db_url(self) -> URL:
        return make_url(self.database_url.get_secret_value())

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: SecretStr) -> SecretStr:
        return SecretStr(database_url(value.get_secret_value()))

    @field_validator("redis_url")
    @classmethod
    def _known_redis(cls, value: SecretStr | None) -> SecretStr | None:
        return SecretStr(redis_url(value.get_secret_value())) if value else None

    @field_validator("secret_key", "secret_key_previous", "jwt_secret_key", "jwt_previous_secret_keys", "master_secret",
                     "master_secret_previous", "api_key", "api_key_previous", "public_url", "support_email",
                     "brand_logo_url")  # fmt: skip
    @classmethod
    def _in_utf_8(cls, value: Any) -> Any:
        """Of what makes keys, and of what stands in messages. A provider's password goes out as it stands."""
        try:
            for each in value if isinstance(value, tuple) else (value,):
                text_of(each).encode()
        except UnicodeEncodeError:
            raise ValueError("holds bytes that are no UTF-8") from None
        return value

    @field_validator("csp_report_uri", "otel_exporter_otlp_endpoint")
    @classmethod
    def _with_a_host(cls, value: str) -> str:
        if value and not names_a_host(value):
            raise ValueError("must be an address such as https://reports.example.com")
        return value

    @field_validator("sentry_dsn")
    @classmethod
    def _a_dsn(cls, value: SecretStr) -> SecretStr:
        dsn = value.get_secret_value()
        if dsn and not (DSN.fullmatch(dsn) and names_a_host(dsn)):
            raise ValueError("must be a DSN such as https://key@sentry.example.com/1")
        return value

    @field_validator("roles")
    @classmethod
    def _needed_roles(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not {"admin", "user"} <= set(value):
            raise ValueError("must name at least admin and user")
        if not all(ROLE.fullmatch(role) for role in value):
            raise ValueError("must be names of 1 to 32 letters, digits and _ . -, beginning with a letter or digit")
        return value

    @field_validator("mfa_required_roles")
    @classmethod
    def _known_roles(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if strange := set(value) - set(info.data.get("roles", value)):
            raise ValueError(f"names {', '.join(map(repr, sorted(strange)))}, which ROLES does not")
        return value

    @field_validator("default_phone_region")
    @classmethod
    def _known_region(cls, value: str) -> str:
        if value and not is_country(value):
            raise ValueError("must be a country by its ISO code, such as IN or GB")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _whole_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(map(is_origin, value)):
            raise ValueError("must be origins such as https://app.example.com, without a path; * is none")
        return tuple(map(origin_of, value))

    @field_validator("passkey_rp_id")
    @classmethod
    def _a_domain(cls, value: str) -> str:
        if value and not DOMAIN.fullmatch(value):
            raise ValueError("must be a domain such as example.com")
        return value

    @field_validator("passkey_origins")
    @classmethod
    def _origins_of_the_domain(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if not all(is_origin(origin) and is_secure(origin) for origin in value):
            raise ValueError("must be https origins such as https://app.example.com, without a path")
        domain = info.data.get("passkey_rp_id") or urlsplit(info.data.get("public_url", "")).hostname
        if not all(is_covered(origin, domain or "localhost") for origin in value):
            raise ValueError("names an origin whose host is not that of PASSKEY_RP_ID, nor below it")
        return tuple(map(origin_of, value))

    @classmethod
    def names(cls) -> list[str]:
        """The settings in the order in which people read them: of the service, of its tokens, of delivery."""
        own = [name for name in cls.model_fields if name not in TokenSettings.model_fields]
        tokens = [name for name in TokenSettings.model_fields if name not in DeliverySettings.model_fields]
        return [name.upper() for name in (*own, *tokens, *DeliverySettings.model_fields)]

    def masked(self) -> dict[str, str]:
        """What is in force, for people: every setting by its environment name, secrets as '(set)' or '(not set)'."""
        return {name: _shown(name.lower(), getattr(self, name.lower())) for name in self.names()}


def _shown(name: str, value: Any) -> str:
    if name == "database_url":
        return shown_database(value.get_secret_value())
    if isinstance(value, SecretStr):
        return "(set)" if value.get_secret_value() else "(not set)"
    if isinstance(value, dict):
        return shown_map(value) or "(not set)"
    if isinstance(value, tuple):
        return ",".join("(set)" if isinstance(part, SecretStr) else str(part) for part in value)
    if isinstance(value, str):
        return USERINFO.sub("//***@", value) or "(not set)"
    return "(not set)" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
