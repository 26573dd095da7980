"""What production refuses: sample secrets, default passwords, debugging, printed codes, a database that may vanish.
And what it takes and tells.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import SecretStr

from app import sqlite_file
from app.config import Settings, text_of
from app.delivery_config import ANYWHERE

SECRET_NAMES = ("secret_key", "jwt_secret_key")
MADE_ONCE = (*SECRET_NAMES, "master_secret")  # in development, if they are missing
# Six letters and more: a shorter word turns up by chance in one random secret of some thousands.
SAMPLES = ("change", "example", "sample", "placeholder", "secret", "password", "default")
MAKE_ONE = "make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"
WEAK = "a weak key; drop it, unless it is a part of one secret with a comma, which no list can hold"
SHORTEST_LOCK = 60
NEARBY = ("localhost", "127.0.0.1", "::1")
# What databases, brokers and mail servers ship with, and what guides print: the letters of it, in any case.
DEFAULTS = frozenset(
    (
        "admin", "administrator", "changeit", "changeme", "default", "dev", "example", "foobared", "guest", "latchkey",
        "letmein", "mariadb", "mysql", "pass", "passwd", "password", "placeholder", "postgres", "postgresql", "redis",
        "root", "sample", "secret", "test", "toor", "user", "username", "yourpassword",
    )
)  # fmt: skip
# What may stand there as a guide has it: all texts but a key that is read, which says so itself.
TEXTS = [n for n, f in Settings.model_fields.items() if f.annotation in (str, SecretStr) and n != "jwt_private_key"]
SHORTEST_TOKEN = 32  # some mail services take one token for both the name and the password
SHORTEST_NUMBER = 12  # digits alone, and fewer: 123456 and its like
NEEDED = {
    "smtp": ("smtp_server", "sender_email"),
    "sendgrid": ("sendgrid_api_key", "sender_email"),
    "resend": ("resend_api_key", "sender_email"),
    "twilio": ("twilio_sid", "twilio_token", "twilio_phone"),
    "msg91": ("msg91_auth_key",),
    "gupshup": ("gupshup_user_id", "gupshup_password"),
}
ACCOUNTS = {  # what the settings of a channel's providers begin with
    "email_provider": ("smtp_", "sendgrid_", "resend_"),
    "sms_provider": ("twilio_", "msg91_", "gupshup_"),
}
PRINTED = {"email_provider": "e-mails", "sms_provider": "SMS"}
REPORTED = ("msg91", "gupshup")  # whose reports come to an address with WEBHOOK_SECRET
EXTRAS = {"otel_exporter_otlp_endpoint": "opentelemetry.exporter.otlp.proto.http", "sentry_dsn": "sentry_sdk"}
INSTALL = "run: .venv/bin/python -m pip install --require-hashes -r requirements-extras.txt"
MIN_ARGON2 = {1: 47_104, 2: 19_456}  # OWASP ASVS 5.0 appendix C; three passes and more: 12,288 KiB


def weak(secret: str) -> str | None:
    """Why a secret is not one, or None. At least 32 bytes and not a sample value (ASVS 11.2.3)."""
    if not secret:
        return "is missing"
    if len(secret.encode()) < 32:
        return "is shorter than 32 bytes"
    if len(set(secret)) < 10 or any(word in secret.lower() for word in SAMPLES):
        return "looks like a sample value"
    return None


def is_default(password: str, user: str) -> bool:
    """True for a password of another system that everybody tries first. An empty one may be none that is asked."""
    letters = re.sub("[^a-z]", "", password.lower())
    guessable = letters in DEFAULTS if letters else len(password) < SHORTEST_NUMBER
    named = password.lower() == user.lower() and len(user) < SHORTEST_TOKEN
    return bool(password) and (guessable or named)


def is_placeholder(value: str) -> bool:
    """True for what holds no letter and no digit: the `...` of a guide."""
    return bool(value) and not any(map(str.isalnum, value))


def unsafe(s: Settings) -> Iterator[str]:
    """One line a problem: which setting, what is wrong, how to mend it. The value itself is never repeated."""
    lines = list(_unsafe(s))
    yield from lines
    told = {line.split()[0] for line in lines}
    for name in TEXTS:
        if is_placeholder(text_of(getattr(s, name))) and name.upper() not in told:
            yield f"{name.upper()} is a placeholder, without a letter or digit; give it a value, or drop it"


def _unsafe(s: Settings) -> Iterator[str]:
    for name in SECRET_NAMES if s.jwt_algorithm == "HS256" else SECRET_NAMES[:1]:
        why = weak(getattr(s, name).get_secret_value())
        if why:
            yield f"{name.upper()} {why}; {MAKE_ONE}"
    for name in ("secret_key_previous", "jwt_previous_secret_keys"):
        if any(weak(old.get_secret_value()) for old in getattr(s, name)):
            yield f"{name.upper()} holds {WEAK}"
    if s.secret_key.get_secret_value() and s.secret_key == s.jwt_secret_key:
        yield f"JWT_SECRET_KEY is the same as SECRET_KEY, and other backends share it; {MAKE_ONE}"
    shared = {s.jwt_secret_key.get_secret_value(), *(k.get_secret_value() for k in s.jwt_previous_secret_keys)}
    own = {s.secret_key.get_secret_value(), *(k.get_secret_value() for k in s.secret_key_previous)}
    if s.secret_key != s.jwt_secret_key and shared & own - {""}:
        yield "JWT_PREVIOUS_SECRET_KEYS or SECRET_KEY_PREVIOUS holds a key of the other kind; drop it"
    yield from _unsafe_machines(s)
    yield from _default_passwords(s)
    if s.lockout_seconds < SHORTEST_LOCK:
        yield f"LOCKOUT_SECONDS is below {SHORTEST_LOCK}; a lock must outlast a burst of guesses"
    if s.debug:
        yield "DEBUG must be off in production; remove it"
    if s.argon2_memory_kib < MIN_ARGON2.get(s.argon2_time_cost, 12_288):
        yield "ARGON2_MEMORY_KIB is too low for ARGON2_TIME_COST; use 19456 with 2"
    yield from _unsafe_delivery(s)
    if s.db_url.get_backend_name() == "sqlite" and not s.allow_sqlite:
        yield "DATABASE_URL names SQLite; use PostgreSQL, or set ALLOW_SQLITE=true if the disk is durable"


def remarks(s: Settings) -> Iterator[str]:
    """What is taken as it is, and may not be meant: one line each, without any value that is secret."""
    if not s.ratelimit:
        yield "RATELIMIT=false: nothing limits requests by address; the budgets of guesses hold."
    elif s.redis_url is None and s.web_concurrency > 1:
        yield (
            f"Limits by address are counted in the memory of each of {s.web_concurrency} workers, so that a caller who "
            "meets them all has as many times as much; REDIS_URL counts them once."
        )
    if s.production:
        yield from _remarks_in_production(s)


def _remarks_in_production(s: Settings) -> Iterator[str]:
    if sqlite_file.is_open_to_all(s.db_url):
        yield "DATABASE_URL: everybody on this host may read that file of SQLite; chmod 600 it, and 700 its folder."
    if urlsplit(s.public_url).scheme == "https" and not s.trusted_proxies:
        yield (
            "TRUSTED_PROXIES=0 while PUBLIC_URL is https: what speaks TLS in front is every client's address then, and "
            "all share the limits of one; TRUSTED_PROXIES says how many such proxies there are."
        )
    for name, what in PRINTED.items():
        if "console" in getattr(s, name):
            yield f"{name.upper()} prints the codes of {what}: whoever may read the log can use them."
    if (named := [each for each in s.sms_provider if each in REPORTED]) and not s.webhook_secret.get_secret_value():
        yield f"WEBHOOK_SECRET is missing: the delivery reports of {' and '.join(named)} are not taken."


def _unsafe_machines(s: Settings) -> Iterator[str]:
    found = {name: getattr(s, name).get_secret_value() for name in ("api_key", "master_secret")}
    for name, value in found.items():
        if value and (why := weak(value)):
            yield f"{name.upper()} {why}; {MAKE_ONE}"
    if found["api_key"] and not found["master_secret"]:
        yield f"MASTER_SECRET is missing; devices that API_KEY registers need it; {MAKE_ONE}"
    for name in ("master_secret_previous", "api_key_previous"):
        if any(weak(old.get_secret_value()) for old in getattr(s, name)):
            yield f"{name.upper()} holds {WEAK}"
    others = [s.secret_key, s.jwt_secret_key, *s.secret_key_previous, *s.jwt_previous_secret_keys]
    found["webhook_secret"] = s.webhook_secret.get_secret_value()
    values = [v for v in (*found.values(), *(other.get_secret_value() for other in others)) if v]
    for name, value in found.items():
        if values.count(value) > 1:
            yield f"{name.upper()} is the same as another secret; {MAKE_ONE}"


def _default_passwords(s: Settings) -> Iterator[str]:
    redis = urlsplit(s.redis_url.get_secret_value() if s.redis_url else "")
    in_database, in_redis = s.db_url.normalized_query, parse_qs(redis.query)
    found = {
        "DATABASE_URL": ([s.db_url.password or "", *_passwords(in_database)], s.db_url.username or _user(in_database)),
        "REDIS_URL": (
            [unquote(redis.password or ""), *_passwords(in_redis)],
            unquote(redis.username or "") or _user(in_redis),
        ),
        "SMTP_PASSWORD": ([s.smtp_password.get_secret_value()], s.smtp_username),
    }
    for name, (passwords, user) in found.items():
        if any(is_default(password, user) for password in passwords):
            yield f"{name} holds a default password or a sample value; give that account one of its own"


def _passwords(query: Mapping[str, Sequence[str]]) -> list[str]:
    """The passwords that stand in the query of a URL, where drivers take them too."""
    return [value for name, values in query.items() if name in ("password", "passwd") for value in values]


def _user(query: Mapping[str, Sequence[str]]) -> str:
    return next((values[-1] for name, values in query.items() if name in ("user", "username")), "")


def _unsafe_delivery(s: Settings) -> Iterator[str]:
    for name, beginnings in ACCOUNTS.items():
        if "console" in getattr(s, name) and not s.allow_console_delivery:
            yield f"{name.upper()} prints codes to the log; name a real sender, or set ALLOW_CONSOLE_DELIVERY=true"
        elif getattr(s, name) == ("console",) and (others := list(_given(s, beginnings))):
            yield f"{name.upper()} prints codes, but a sender is meant by {', '.join(others)}; name it, or drop that"
    if "smtp" in s.email_provider and s.smtp_tls == "none" and s.smtp_server not in NEARBY:
        yield "SMTP_TLS=none sends codes in the clear; use starttls or ssl, or a mail server on this host"
    for name in (
        "public_url",
        "csp_report_uri",
        *(name for name in Settings.model_fields if name.endswith("_base_url")),
    ):
        if urlsplit(getattr(s, name)).scheme == "http" and urlsplit(getattr(s, name)).hostname not in NEARBY:
            yield f"{name.upper()} is not https"
    for origin in s.cors_origins:
        if origin.startswith("http:") and urlsplit(origin).hostname not in NEARBY:
            yield "CORS_ORIGINS names an origin that is not https"
    if (
        set(REPORTED) & set(s.sms_provider)
        and s.webhook_secret.get_secret_value()
        and weak(s.webhook_secret.get_secret_value())
    ):
        yield f"WEBHOOK_SECRET {weak(s.webhook_secret.get_secret_value())}; {MAKE_ONE}"


def _given(s: Settings, beginnings: tuple[str, ...]) -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        own = name.startswith(beginnings) and not name.endswith("_base_url")
        if own and getattr(s, name) != field.default:
            yield name.upper()


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of a package around it
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long
        return False


def incomplete(s: Settings) -> Iterator[str]:
    """What the named providers and extras still need, in every environment."""
    for name, module in EXTRAS.items():
        if text_of(getattr(s, name)) and not _is_installed(module):
            yield f"{name.upper()} is set, but its package is not installed; {INSTALL}"
    yield from _incomplete_delivery(s)
    for name, key in (
        ("JWT_PRIVATE_KEY", s.jwt_private_key.get_secret_value()),
        ("JWT_PRIVATE_KEY_FILE", s.jwt_private_key_file),
    ):
        if key and s.jwt_algorithm == "HS256":
            yield f"{name} signs nothing while JWT_ALGORITHM is HS256; name its algorithm, or drop the key"
    if s.db_url.get_backend_name() == "sqlite" and s.db_url.database in (None, "", ":memory:"):
        yield "DATABASE_URL names SQLite in memory, which forgets every account; name a file"
    if s.templates_dir and not _is_folder(s.templates_dir):
        yield "TEMPLATES_DIR is no folder"
    if s.passkey_rp_id and not s.rp_origins:
        yield "PASSKEY_ORIGINS is missing; neither PUBLIC_URL nor CORS_ORIGINS is of the domain PASSKEY_RP_ID"
    if s.sms_budget_per_day and ANYWHERE not in s.sms_prices:
        yield "SMS_PRICES names no price for every other country (*); SMS_BUDGET_PER_DAY needs it"


def _incomplete_delivery(s: Settings) -> Iterator[str]:
    for provider in (*s.email_provider, *s.sms_provider):
        for name in NEEDED.get(provider, ()):
            if not text_of(getattr(s, name)):
                yield f"{name.upper()} is missing; the provider {provider} needs it"
    if "msg91" in s.sms_provider and not (s.msg91_template_id or s.dlt_file):
        yield "MSG91_TEMPLATE_ID is missing, and so is DLT_FILE; the provider msg91 needs one of them"
    if "smtp" in s.email_provider and bool(s.smtp_username) != bool(s.smtp_password.get_secret_value()):
        alone, other = ("SMTP_USERNAME", "SMTP_PASSWORD")[:: 1 if s.smtp_username else -1]
        yield f"{other} is missing; {alone} needs it"
    for name, value in (("SMTP_USERNAME", s.smtp_username), ("SMTP_PASSWORD", s.smtp_password.get_secret_value())):
        if "smtp" in s.email_provider and not value.isascii():
            yield f"{name} has letters beyond ASCII, and no sign-in at a mail server here can carry them; choose others"
