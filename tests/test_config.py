"""Settings: typed, frozen, and refused where they are unsafe."""

from __future__ import annotations

import base64
import os
import random
import re
import secrets
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from app import create_app, production, start
from app.config import Settings, SettingsError
from app.delivery.senders import registry
from app.delivery_config import PROVIDERS
from tests.lanes import SECRETS

ROOT = Path(__file__).resolve().parent.parent
STRONG = {
    "environment": "production",
    "secret_key": "3mO9v2Yb7Qx1Lk8Zr5Nf6Ht4Wd0Jc2Pg9Sa7Ue3Ri",
    "jwt_secret_key": "Tq4Vz8Xn1Cm6Bk3Hj7Gf2Ds9Pa5Lo0Wy8Er4Uh6It",
    "database_url": "postgresql://u:p@db/x",
    "email_provider": "smtp",
    "smtp_server": "mail.example.com",
    "sender_email": "no-reply@example.com",
    "allow_console_delivery": "true",
}
SECRETS_OF_A_START = {name.upper(): value for name, value in SECRETS.items()}
SMTP = {"email_provider": "smtp", "smtp_server": "mail.example.com", "sender_email": "no-reply@example.com"}

TWILIO = {"twilio_sid": "AC0000", "twilio_token": "a-token", "twilio_phone": "+15005550006"}
INDIAN = {
    "msg91_auth_key": "a-key",
    "msg91_template_id": "65f0c0ffee",
    "gupshup_user_id": "2000000",
    "gupshup_password": "k7Qx2mVp-k",
}


def load(tmp_path: Path, **values: Any) -> Settings:
    env_file = tmp_path / ".env"
    env_file.write_text("".join(f"{k.upper()}={v}\n" for k, v in values.items()))
    return start.load(env_file)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.names():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


def test_a_safe_production_starts(tmp_path: Path) -> None:
    settings = load(tmp_path, **STRONG)
    assert settings.production
    assert not settings.serves_docs


def test_a_safe_production_with_machines_starts(tmp_path: Path) -> None:
    machines = {
        "api_key": "Ld8Sx2Gk5Zt9Bn3Wq7Vh4Mc6Rj1Fy0Pa8Ue3Io5Tl",
        "master_secret": "Wb6Nf9Jx3Qs8Cd1Hk5Zm2Vt7Lp0Gy4Ra8Eu6Io3Tw",
    }
    assert load(tmp_path, **STRONG, **machines).master_secret.get_secret_value()


UNSAFE: list[tuple[dict[str, str], str]] = [
    ({"secret_key": ""}, "SECRET_KEY is missing; make one with"),
    ({"jwt_secret_key": ""}, "JWT_SECRET_KEY is missing; make one with"),
    ({"jwt_secret_key": "short"}, "JWT_SECRET_KEY is shorter than 32 bytes"),
    ({"jwt_secret_key": "k" * 31}, "JWT_SECRET_KEY is shorter than 32 bytes"),
    ({"jwt_secret_key": "k" * 40}, "JWT_SECRET_KEY looks like a sample value"),
    ({"secret_key": "change-me-change-me-change-me-change-me"}, "SECRET_KEY looks like a sample value"),
    ({"secret_key": "your-secret-key-goes-here-1234567890abc"}, "SECRET_KEY looks like a sample value"),
    ({"jwt_secret_key": STRONG["secret_key"]}, "JWT_SECRET_KEY is the same as SECRET_KEY"),
    ({"jwt_previous_secret_keys": "old"}, "JWT_PREVIOUS_SECRET_KEYS holds a weak key"),
    ({"secret_key_previous": "old"}, "SECRET_KEY_PREVIOUS holds a weak key"),
    ({"jwt_previous_secret_keys": STRONG["secret_key"]}, "JWT_PREVIOUS_SECRET_KEYS or SECRET_KEY_PREVIOUS holds"),
    ({"secret_key_previous": STRONG["jwt_secret_key"]}, "JWT_PREVIOUS_SECRET_KEYS or SECRET_KEY_PREVIOUS holds"),
    ({"api_key": "K" * 31 + "x"}, "API_KEY looks like a sample value"),
    ({"api_key": "short"}, "API_KEY is shorter than 32 bytes"),
    ({"api_key": "Ld8Sx2Gk5Zt9Bn3Wq7Vh4Mc6Rj1Fy0Pa8Ue3Io5Tl"}, "MASTER_SECRET is missing"),
    ({"master_secret": "change-me-change-me-change-me-change-me"}, "MASTER_SECRET looks like a sample value"),
    ({"master_secret": STRONG["jwt_secret_key"]}, "MASTER_SECRET is the same as another secret"),
    ({"master_secret_previous": "old"}, "MASTER_SECRET_PREVIOUS holds a weak key"),
    ({"api_key_previous": "old"}, "API_KEY_PREVIOUS holds a weak key"),
    ({"smtp_tls": "none"}, "SMTP_TLS=none sends codes in the clear"),
    ({"lockout_seconds": "5"}, "LOCKOUT_SECONDS is below 60"),
    ({"debug": "true"}, "DEBUG must be off"),
    ({"argon2_memory_kib": "1024"}, "ARGON2_MEMORY_KIB is too low"),
    ({"argon2_time_cost": "1"}, "ARGON2_MEMORY_KIB is too low"),
    ({"email_provider": "console", "allow_console_delivery": "false"}, "EMAIL_PROVIDER prints codes"),
    ({"allow_console_delivery": "false"}, "SMS_PROVIDER prints codes"),
    ({"smtp_server": ""}, "SMTP_SERVER is missing"),
    ({"sender_email": ""}, "SENDER_EMAIL is missing"),
    ({"database_url": "sqlite:///x.db"}, "DATABASE_URL names SQLite"),
    ({"database_url": "sqlite://", "allow_sqlite": "true"}, "DATABASE_URL names SQLite in memory"),
    ({"database_url": "sqlite:///:memory:", "allow_sqlite": "true"}, "DATABASE_URL names SQLite in memory"),
    ({"webhook_secret": STRONG["secret_key"]}, "WEBHOOK_SECRET is the same as another secret"),
    ({"webhook_secret": STRONG["jwt_secret_key"]}, "WEBHOOK_SECRET is the same as another secret"),
    *(
        ({"email_provider": "", "smtp_server": "", "sender_email": "", name: value}, f"EMAIL_PROVIDER prints codes, but a sender is meant by {name.upper()}")
        for name, value in {
            "smtp_server": "mail.example.com", "smtp_port": "2525", "smtp_username": "clinic", "smtp_password": "hunter22",
            "sendgrid_api_key": "SG.key", "resend_api_key": "re_key",
        }.items()
    ),
    *(
        ({name: value}, f"SMS_PROVIDER prints codes, but a sender is meant by {name.upper()}")
        for name, value in {
            "twilio_sid": "AC0000", "twilio_token": "a-token", "twilio_phone": "+15005550006", "msg91_auth_key": "a-key",
            "msg91_template_id": "65f0c0ffee", "gupshup_user_id": "2000000", "gupshup_password": "hunter22",
        }.items()
    ),
    ({"public_url": "http://auth.example.com"}, "PUBLIC_URL is not https"),
    ({"csp_report_uri": "http://reports.example.com"}, "CSP_REPORT_URI is not https"),
    *(
        ({name: "http://provider.example"}, f"{name.upper()} is not https")
        for name in Settings.model_fields
        if name.endswith("_base_url")
    ),
]  # fmt: skip


@pytest.mark.covers("attack A43", "attack A76", "asvs 11.2.3", "asvs 13.4.2", "asvs 15.2.3")
@pytest.mark.parametrize(("change", "line"), UNSAFE, ids=[line for _, line in UNSAFE])
def test_an_unsafe_production_value_stops_the_start_with_one_line(
    tmp_path: Path, change: dict[str, str], line: str
) -> None:
    with pytest.raises(SettingsError) as stopped:
        load(tmp_path, **(STRONG | change))
    lines = str(stopped.value).splitlines()
    assert len([found for found in lines if found.startswith(line)]) == 1, lines
    for value in change.values():
        assert len(value) < 6 or value not in str(stopped.value), "a refused value is never repeated"


WRONG = {
    "otp_ttl": ("601", "OTP_TTL"),
    "otp_ttl_sms": ("x", "OTP_TTL_SMS"),
    "otp_length": ("5", "OTP_LENGTH"),
    "otp_digits": ("5", "OTP_DIGITS"),
    "otp_interval": ("60", "OTP_INTERVAL"),
    "otp_window": ("2", "OTP_WINDOW"),
    "environment": ("prod", "ENVIRONMENT"),
    "smtp_tls": ("yes", "SMTP_TLS"),
    "database_url": ("oracle://x", "DATABASE_URL"),
    "trusted_proxies": ("-1", "TRUSTED_PROXIES"),
    "ratelimit": ("perhaps", "RATELIMIT"),
    "port": ("70000", "PORT"),
    "default_phone_region": ("india", "DEFAULT_PHONE_REGION"),
    "roles": ("doctor", "ROLES"),
    "mfa_policy": ("never", "MFA_POLICY"),
    "jwt_access_ttl": ("1e3", "JWT_ACCESS_TTL"),
    "email_provider": ("pigeon", "EMAIL_PROVIDER"),
    "sms_provider": (",", "SMS_PROVIDER"),
    "redis_url": ("foo", "REDIS_URL"),
    "sender_email": ("a..b@x.example", "SENDER_EMAIL"),
    "support_email": ("notanaddress", "SUPPORT_EMAIL"),
    "passkey_rp_id": ("https://example.com", "PASSKEY_RP_ID"),
    "metrics_port": ("70000", "METRICS_PORT"),
    "otel_exporter_otlp_endpoint": ("localhost:4318", "OTEL_EXPORTER_OTLP_ENDPOINT"),
    "sentry_dsn": ("https://sentry.example.com/no-key", "SENTRY_DSN"),
    "csp_report_uri": ("https://reports.example.com/;script-src", "CSP_REPORT_URI"),
    "passkey_origins": ("https://elsewhere.example.net", "PASSKEY_ORIGINS"),
}


ODD = [
    ("csp_report_uri", "https://["),
    ("csp_report_uri", "https://reports.example.com:99999/x"),
    ("otel_exporter_otlp_endpoint", "http://["),
    ("otel_exporter_otlp_endpoint", "http://:4318"),
    ("sentry_dsn", "https://a@[/1"),
    ("sentry_dsn", "https://a@sentry.example.com:99999/1"),
    ("sms_prices", "IN:nan,*:0.1"),
    ("sms_prices", "IN:0.1,*:sNaN"),
    ("sms_prices", "IN:inf,*:0.1"),
    ("argon2_memory_kib", "99999999999"),
    ("argon2_time_cost", "99999999999"),
    ("smtp_server", "smtp://mail.example.com"),
    ("smtp_server", "mail.example.com:587"),
    ("smtp_server", "mail..example.com"),
    ("smtp_server", "m" * 64 + ".example.com"),
    ("brand_name", "Acme\r\nClinic"),
    *(
        (name, "\udcff" * 40)
        for name in Settings.model_fields
        if name.removesuffix("_previous").removesuffix("s").removeprefix("jwt_previous_")
        in ("secret_key", "jwt_secret_key", "master_secret", "api_key", "webhook_secret")
    ),
    ("mfa_required_roles", "\udcff"),
    ("database_url", "mysql://h/db?connect_timeout=abc"),
]


@pytest.mark.parametrize(("name", "value"), ODD, ids=[f"{name}-{n}" for n, (name, _) in enumerate(ODD)])
def test_an_odd_value_stops_the_start_with_one_sentence(name: str, value: str) -> None:
    """In place of a traceback, or of a failure once it is used."""
    for environment in ("development", "production"):
        with pytest.raises(SettingsError, match=rf"^{name.upper()}: ") as stopped:
            start.load(None, **(STRONG | {"environment": environment, name: value}))
        assert len(str(stopped.value).splitlines()) == 1
        assert value not in str(stopped.value)


@pytest.mark.parametrize("host", ["::1", "mail_1.corp", "mail.example.com.", "m\u00fcller.example", "127.0.0.1"])
def test_a_mail_server_by_any_name_or_address_is_one(tmp_path: Path, host: str) -> None:
    assert load(tmp_path, **(STRONG | {"smtp_server": host})).smtp_server == host


def test_more_memory_for_a_hash_than_there_is_stops_the_start() -> None:
    words = f"ulimit -v 3000000; exec {sys.executable} -m flask check-config"
    done = run(shell=words, **SECRETS_OF_A_START, ARGON2_MEMORY_KIB="4194304")
    assert done.returncode == 1
    assert done.stderr == "Latchkey does not start:\nARGON2_MEMORY_KIB: a hash cannot have that much memory here\n"


@pytest.mark.parametrize("value", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_a_database_in_memory_stops_the_start_in_development_too(tmp_path: Path, value: str) -> None:
    with pytest.raises(SettingsError, match=r"^DATABASE_URL names SQLite in memory"):
        load(tmp_path, database_url=value)


@pytest.mark.parametrize("url", ["redis://[", "redis://cache:x/0", "rediss://cache:70000", "redis://[::1"])
def test_a_redis_url_of_which_no_host_and_port_can_be_told_stops_the_start(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingsError, match=r"^REDIS_URL: must be a Redis URL"):
        load(tmp_path, redis_url=url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://:6379/0",
        "redis://:pw%2Fx@host:6379/0",
        "rediss://u:p@ss@host",
        "redis://host?db=1&password=a@b",
        "redis://:pw@host:6379/0?client_name=clinic@host",
        "redis+unix:///run/redis@1.sock",
        "redis+unix://u:pw@/run/redis.sock?db=1",
        "redis+sentinel://host1:26379,host2:26379/mymaster",
        "redis+sentinel://u:p%40@host1:26379,[::1]:26379/mymaster",
        "redis+cluster://host1:7000,host2:7000",
        "redis+cluster://:pw@host1:7000, host2:7000",
    ],
)
def test_a_redis_url_of_each_form_is_taken_as_it_stands(tmp_path: Path, url: str) -> None:
    given = load(tmp_path, redis_url=url).redis_url
    assert given is not None
    assert given.get_secret_value() == url


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:pa/ss#?@h:5432/db",
        "postgresql://u@server:pw@h/db?sslmode=require",
        "postgresql:///db?host=/run/postgresql&user=u@server&password=a@b",
        "postgresql://u:pw@/db?host=a:1&host=b:2",
        "postgresql://u:pw@[::1]:5432/db?connect_timeout=5",
        "postgresql://u:pw@h/db?application_name=clinic@host&passfile=/run/x@y",
        "mysql://u:pw@h/db?unix_socket=/run/mysqld.sock&charset=utf8mb4",
        "mysql://h/db?charset=utf8",
        "postgresql://h/db?client_encoding=UTF-8",
        "sqlite:////var/lib/latchkey@1/x:y@z.db?timeout=5&cache=shared",
    ],
)
def test_a_database_url_of_each_form_is_taken(tmp_path: Path, url: str) -> None:
    assert load(tmp_path, database_url=url).db_url.database


MISTYPED = [
    ("REDIS_URL", "redis://:hunter2abc/def@redis:6379/0"),
    ("REDIS_URL", "redis://:12/hunter2@redis"),
    ("REDIS_URL", "redis+sentinel://:hunter2/x@a:1,b:2/mymaster"),
    ("REDIS_URL", "redis://:hunter2@redis?db=hunter2"),
    ("REDIS_URL", "redis+cluster://:hunter2@127.0.0.1:1"),  # no server of which can be asked
    ("DATABASE_URL", "postgresql://u:pa@ss:hunter2word@h/db"),
    ("DATABASE_URL", "postgresql://u:pa@hunter2@h/db"),
]


@pytest.mark.parametrize(("name", "url"), MISTYPED)
def test_a_mistyped_url_stops_the_start_and_no_part_of_it_is_shown(name: str, url: str) -> None:
    done = run("flask", "check-config", **SECRETS_OF_A_START, **{name: url})
    assert (done.returncode, done.stdout) == (1, "")
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["Latchkey does not start", name]
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize(
    ("name", "url"),
    [
        *(case for case in MISTYPED if case[1][-1] not in "12"),
        ("REDIS_URL", "redis://:hunter2abc#def@redis:6379/0"),
        ("REDIS_URL", "redis://:12?hunter2=x@redis"),
        ("REDIS_URL", "redis+unix://:hunter2/x@/run/redis.sock"),
        ("REDIS_URL", "redis+sentinel://:x@hunter2,y@a:1,b:2/mymaster"),
        ("REDIS_URL", "redis+sentinel://:hunter2@a:1,b:2"),
        ("REDIS_URL", "redis+cluster://:12/hunter2@a:1,b:2"),
        ("DATABASE_URL", "postgresql://u:pa@x/hunter2@h/db"),
        ("DATABASE_URL", "postgresql://u/12:hunter2@h/db"),
        ("DATABASE_URL", "mysql://u:pa@hunter2@h/db"),
        ("DATABASE_URL", "sqlite://u:hunter2@h/db"),
    ],
)
def test_what_a_url_needs_percent_encoded_is_said_without_any_of_it(tmp_path: Path, name: str, url: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{name}: .*percent-encoded") as stopped:
        load(tmp_path, **{name.lower(): f"'{url}'"})
    assert "hunter2" not in str(stopped.value)


UNTAKEN = "has an option .* that the driver does not take"
OTHERWISE_ENCODED = ".*UTF-8.* leave out charset and client_encoding"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql://h/db?connect_timeout=hunter2", UNTAKEN),
        ("mysql://h/db?hunter2=1", UNTAKEN),
        ("postgresql://h/db?hunter2=1", UNTAKEN),
        ("postgresql://u:pa@x?y=hunter2@h/db", UNTAKEN),
        ("sqlite:///x.db?timeout=hunter2", UNTAKEN),
        ("postgresql://h/db?client_encoding=latin1", OTHERWISE_ENCODED),
        ("postgresql://h/db?client_encoding=SQL_ASCII", OTHERWISE_ENCODED),
        ("mysql://h/db?charset=latin1", OTHERWISE_ENCODED),
        ("mysql://h/db?charset=ascii", OTHERWISE_ENCODED),
    ],
)
def test_an_option_that_no_connection_could_be_made_with_stops_the_start(tmp_path: Path, url: str, told: str) -> None:
    """Nor one by which it could not hold every text."""
    with pytest.raises(SettingsError, match=f"^DATABASE_URL: {told}$"):
        load(tmp_path, database_url=url)


def test_a_password_of_several_redis_servers_is_decoded_as_one_s_is() -> None:
    url = "redis+sentinel://u:a%2Fb%40@host1:26379,host2:26379/mymaster"
    [limiter] = create_app(Settings(_env_file=None, redis_url=url, **SECRETS)).extensions["limiter"]
    asked = limiter.storage.sentinel.sentinels[0].connection_pool.connection_kwargs
    assert (asked["username"], asked["password"]) == ("u", "a/b@")


@pytest.mark.covers("asvs 6.5.5", "nist N17")
@pytest.mark.parametrize("name", WRONG)
def test_a_value_that_does_not_parse_stops_the_start_and_is_named(tmp_path: Path, name: str) -> None:
    value, setting = WRONG[name]
    for environment in ("development", "production"):
        with pytest.raises(SettingsError, match=rf"^{setting}: ") as stopped:
            load(tmp_path, **(STRONG | {"environment": environment} | {name: value}))
        assert value in ("x", "prod", ",") or value not in str(stopped.value)


NO_ADDRESSES = ["https://auth.example.com:PORT", "https://auth.example.com:99999", "https://auth.example.com:0",
                "https://:8443", "https://[::1", "auth.example.org"]  # fmt: skip


@pytest.mark.parametrize("value", NO_ADDRESSES)
@pytest.mark.parametrize("name", ["public_url", *(n for n in Settings.model_fields if n.endswith("_base_url"))])
def test_an_address_that_nobody_could_call_stops_the_start(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{name.upper()}: must be an address such as") as stopped:
        load(tmp_path, **(STRONG | {name: value}))
    assert value not in str(stopped.value)
    assert load(tmp_path, **(STRONG | {name: "https://[2001:db8::1]:8443/base"}))


TEXTS = {
    name: STRONG.get(name, "x" * 40)
    for name, field in Settings.model_fields.items()
    if field.annotation in (str, SecretStr, SecretStr | None, Path | None) and name != "jwt_private_key"
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_begins_or_ends_with_what_nobody_sees_stops_the_start(name: str) -> None:
    """As a pasted value, a file made by `echo` or one of Windows has it. To take it away would change a key in use."""
    value = TEXTS[name]
    for given in (f"{value}\n", f"{value}\r", f" {value}", f"{value}\u00a0"):
        with pytest.raises(
            SettingsError, match=rf"(?m)^{name.upper()}: begins or ends with a space or line break"
        ) as no:
            start.load(None, **(STRONG | {name: given}))
        assert value not in str(no.value)


@pytest.mark.parametrize("name", ["public_url", "support_email", "brand_logo_url"])
def test_a_text_of_messages_that_is_not_utf_8_stops_the_start(name: str) -> None:
    """As a unit's file in Latin-1 hands it over. No message with it could be sent."""
    given = "help@caf\udce9.example.com" if name == "support_email" else "https://caf\udce9.example.com"
    with pytest.raises(SettingsError, match=rf"^{name.upper()}: holds bytes that are no UTF-8$"):
        start.load(None, **(STRONG | {name: given}))


@pytest.mark.parametrize("quote", ["'", '"'])
@pytest.mark.parametrize("name", [n for n in TEXTS if Settings.model_fields[n].annotation not in (str, Path | None)])
def test_a_secret_in_quotes_stops_the_start(name: str, quote: str) -> None:
    """As `docker run --env-file` leaves them. To take them away would change a key in use, which stays an earlier one."""
    value = f"{quote}{TEXTS[name]}{quote}"
    with pytest.raises(
        SettingsError, match=rf"(?m)^{name.upper()}: stands in quotes, which would be a part of it"
    ) as no:
        start.load(None, **(STRONG | {name: value}))
    assert value not in str(no.value)
    assert Settings(_env_file=None, secret_key_previous=value).secret_key_previous == (SecretStr(value),)
    assert Settings(_env_file=None, smtp_password=f"{value}x").smtp_password.get_secret_value() == f"{value}x"


def test_a_file_of_settings_from_windows_is_read_as_any_other(tmp_path: Path) -> None:
    lines = [*(f"{name.upper()}={value}" for name, value in STRONG.items()), "BRAND_NAME=Jane's  ", "JWT_ISSUER='x y'"]
    (tmp_path / ".env").write_bytes("\r\n".join([*lines, ""]).encode())
    settings = start.load(tmp_path / ".env")
    assert settings.secret_key.get_secret_value() == STRONG["secret_key"]
    assert (settings.brand_name, settings.jwt_issuer, settings.smtp_server) == ("Jane's", "x y", STRONG["smtp_server"])


def test_a_private_key_may_end_with_its_line() -> None:
    pem = "-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----\n"
    assert Settings(_env_file=None, jwt_private_key=pem).jwt_private_key.get_secret_value() == pem


@pytest.mark.parametrize("name", ["secret_key_previous", "master_secret_previous"])
def test_a_key_that_ended_with_a_line_break_is_still_known_once_it_is_an_earlier_one(name: str) -> None:
    """Earlier versions took it as it stood. An earlier key of a list is known without, as ever, and also with it."""
    old, older = SECRETS["secret_key"], SECRETS["master_secret"]
    for given, ring in (
        (f"{old}\n", [old, f"{old}\n"]),
        (f"{older}, {old}", [older, old]),
        (f"{older}, {old}\r\n", [older, old, f"{old}\r\n"]),
        (f" {old}", [old, f" {old}"]),
        (f"{older},\n", [older]),
        (" ", []),
    ):
        settings = Settings(_env_file=None, **{name: given})
        assert [key.get_secret_value() for key in getattr(settings, name)] == ring
    previous = Settings(_env_file=None, jwt_previous_public_keys=f"{old}\n").jwt_previous_public_keys
    assert [key.get_secret_value() for key in previous] == [old]


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="frozen"):
        load(tmp_path, **STRONG).otp_ttl = 1


def test_an_empty_value_is_no_value(tmp_path: Path) -> None:
    assert load(tmp_path, **STRONG, otp_ttl="", redis_url="").otp_ttl == 300


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("postgres://u:p@h/d", "postgresql+psycopg2"),
        ("postgresql://u:p@h/d", "postgresql+psycopg2"),
        ("mysql://u:p@h/d", "mysql+pymysql"),
        ("mariadb://u:p@h/d", "mysql+pymysql"),
        ("sqlite:///x.db", "sqlite"),
    ],
)
def test_the_urls_that_hosts_hand_out_are_understood(given: str, driver: str) -> None:
    assert Settings(_env_file=None, database_url=given).db_url.drivername == driver


@pytest.mark.covers("asvs 13.3.2")
def test_the_first_run_in_development_makes_secrets_once(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    first = start.load(env_file)
    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600
    second = start.load(env_file)
    assert first.secret_key == second.secret_key
    assert len(first.jwt_secret_key.get_secret_value()) >= 43
    assert len({first.secret_key, first.jwt_secret_key, first.master_secret}) == 3
    assert not first.api_key.get_secret_value(), "made by whoever wants one"
    assert production.weak(first.secret_key.get_secret_value()) is None


@pytest.mark.parametrize(
    ("files", "most"),
    [({"cpu.max": "50000 100000\n"}, 1), ({"cpu.max": "100000 100000\n"}, 1), ({"cpu.max": "max 100000\n"}, None),
     ({"cpu.max": "100000000 100000\n"}, None), ({"cpu.max": "nonsense"}, None), ({}, None),
     ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
     ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None)],
)  # fmt: skip
def test_a_container_uses_the_processors_that_it_was_given(
    tmp_path: Path, files: dict[str, str], most: int | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert start.processors(tmp_path) == (most or len(os.sched_getaffinity(0)))


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as systemd, Docker and Kubernetes mount secrets: a file for each."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    return folder


@pytest.mark.covers("asvs 13.3.1")
def test_secrets_come_from_files_of_a_folder(tmp_path: Path, credentials: Path) -> None:
    (credentials / "..data").symlink_to(credentials)  # so Kubernetes mounts them
    for name in ("secret_key", "jwt_secret_key"):
        (credentials / f"{name}.mounted").write_text(STRONG[name] + "\n")
        (credentials / name.upper()).symlink_to(Path("..data") / f"{name}.mounted")
    (credentials / "database_url").write_text("postgresql://u:p@elsewhere/x")  # as Docker's secrets are often named
    (credentials / "of_another_service").write_bytes(b"\xff")
    others = {name: value for name, value in STRONG.items() if "secret" not in name}
    settings = load(tmp_path, **others)
    assert settings.secret_key.get_secret_value() == STRONG["secret_key"]
    assert settings.jwt_secret_key.get_secret_value() == STRONG["jwt_secret_key"]
    assert settings.db_url.host == "db", "the environment wins"


@pytest.mark.parametrize("name", ["otp_ttl", "roles", "brand_name", "templates_dir", "jwt_algorithm", "sms_prices"])
def test_an_empty_file_is_no_value(tmp_path: Path, credentials: Path, name: str) -> None:
    """As Kubernetes mounts `NAME=`, which is none in the environment."""
    (credentials / name.upper()).write_text("\n")
    assert getattr(load(tmp_path, **STRONG), name) == getattr(Settings(_env_file=None, _secrets_dir=None), name)


def test_development_makes_no_secret_that_a_file_has(tmp_path: Path, credentials: Path) -> None:
    (credentials / "SECRET_KEY").write_text(STRONG["secret_key"])
    assert start.load(tmp_path / ".env").secret_key.get_secret_value() == STRONG["secret_key"]
    assert "\nSECRET_KEY=" not in (tmp_path / ".env").read_text()


@pytest.mark.parametrize("how", ["is missing", "is a file", "leads elsewhere", "is a folder", "is no text"])
def test_a_credential_out_of_reach_stops_the_start(
    tmp_path: Path, credentials: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    there = credentials / "SECRET_KEY"
    if how in ("is missing", "is a file"):
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(there))
    if how == "is a file":
        there.write_text("text")
    elif how == "leads elsewhere":
        there.symlink_to(ROOT / "README.md")
    elif how == "is a folder":
        there.mkdir()
    elif how == "is no text":
        there.write_bytes(b"\xff")
    with pytest.raises(SettingsError, match=re.escape(str(credentials))):
        load(tmp_path, **STRONG)


@pytest.mark.covers("asvs 13.3.2")
def test_a_kept_env_file_is_added_to_and_not_replaced(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("PORT=5055")
    env_file.chmod(0o644)  # as a copy of .env.example has it
    settings = start.load(env_file)
    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600
    assert settings.port == 5055
    assert settings.secret_key.get_secret_value()
    assert start.load(env_file).port == 5055


def test_an_env_file_from_windows_is_added_to_as_it_is(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    kept = b"# mine\r\nPORT=5055\r\nBRAND_NAME=Clinic\r\nOTP_TTL=120\r\nOTP_LENGTH=8"
    env_file.write_bytes(kept)
    made = start.load(env_file)
    text = env_file.read_bytes()
    assert text.startswith(kept + b"\n")
    assert re.sub(rb"=\S+", b"", text[len(kept) :]).split() == [b"SECRET_KEY", b"JWT_SECRET_KEY", b"MASTER_SECRET"]
    assert start.load(env_file) == made
    assert (made.port, made.otp_ttl, made.otp_length) == (5055, 120, 8)


def test_production_never_makes_secrets(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        load(tmp_path, environment="production")
    assert "SECRET_KEY=" not in (tmp_path / ".env").read_text()


def test_a_file_of_settings_that_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin").write_bytes(b"SMTP_PASSWORD=caf\xe9\n")
    with pytest.raises(SettingsError, match=r"latin cannot be read: save it as UTF-8$"):
        start.load(tmp_path / "latin")
    with pytest.raises(SettingsError, match=r"folder cannot keep the secrets made: IsADirectoryError$"):
        start.load(tmp_path / "folder")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "REDIS_URL counts them once"),
        ({"web_concurrency": "1"}, None),
        ({"redis_url": "redis://cache/0"}, None),
        ({"ratelimit": "false"}, "RATELIMIT=false: nothing limits"),
    ],
)
def test_what_may_not_be_meant_is_said_at_the_start_and_by_check_config(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, given: dict[str, str], said: str | None
) -> None:
    start.greet(load(tmp_path, **STRONG, **given))
    told = run("flask", "check-config", **{name.upper(): value for name, value in (STRONG | given).items()}).stderr
    for line in (caplog.text, told):
        assert ("REDIS_URL" in line or "RATELIMIT" in line) == bool(said), line
        assert (said or "") in line, line


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sms_provider": "twilio", **TWILIO, "public_url": "https://auth.example.com", "trusted_proxies": "1"}, []),
        ({"sms_provider": "twilio", **TWILIO, "public_url": "https://auth.example.com"}, ["TRUSTED_PROXIES=0 while"]),
        ({"sms_provider": "twilio", **TWILIO, "public_url": "http://localhost:8000"}, []),
        ({}, ["SMS_PROVIDER prints the codes of SMS"]),
        (
            {"email_provider": "", "smtp_server": ""},  # and a sender, which is nobody's account
            ["EMAIL_PROVIDER prints the codes of e-mails", "SMS_PROVIDER prints the codes of SMS"],
        ),
        ({"email_provider": "smtp,console", "sms_provider": "twilio", **TWILIO}, ["EMAIL_PROVIDER prints the codes"]),
        (
            {"sms_provider": "msg91,gupshup", **INDIAN},
            ["WEBHOOK_SECRET is missing: the delivery reports of msg91 and gupshup are not taken"],
        ),
        ({"sms_provider": "gupshup", **INDIAN, "webhook_secret": "Zp4Vz8Xn1Cm6Bk3Hj7Gf2Ds9Pa5Lo0Wy8Er4Uh6"}, []),
    ],
)
def test_of_production_what_may_not_be_meant_is_remarked(
    tmp_path: Path, given: dict[str, str], said: list[str]
) -> None:
    single = {"web_concurrency": "1", **given}
    lines = list(production.remarks(load(tmp_path, **(STRONG | single))))
    assert [line.startswith(start) for line, start in zip(lines, said, strict=True)] == [True] * len(said)
    assert list(production.remarks(load(tmp_path, **(STRONG | single | {"environment": "development"})))) == []


@pytest.mark.parametrize("segment", ["a/b", "a?b", "a#b", "a%b", "a b", "b\u00f6se"])
def test_a_webhook_secret_that_is_no_part_of_an_address_stops_the_start(tmp_path: Path, segment: str) -> None:
    secret = f"Zp4Vz8Xn1Cm6Bk3Hj7Gf2Ds9Pa5Lo0Wy8Er4{segment}"
    for environment in ("development", "production"):
        with pytest.raises(SettingsError, match=r"^WEBHOOK_SECRET: must be what a part of a path can be") as stopped:
            load(tmp_path, **(STRONG | {"environment": environment, "webhook_secret": f"'{secret}'"}))
        assert secret not in str(stopped.value)


def test_fresh_secrets_do_not_look_like_samples() -> None:
    """But for one in six million, by chance: so these are the same at each run."""
    dice = random.Random(8)
    fresh = (base64.urlsafe_b64encode(dice.randbytes(48)).decode() for _ in range(20_000))
    assert [secret for secret in fresh if production.weak(secret)] == []


DEFAULTS = ["postgres", "root", "guest", "changeme", "Change-Me!", "password", "Password1", "<password>", "your_password", "123456", "admin123",
            "redis", "foobared", "secret", "latchkey"]  # fmt: skip


@pytest.mark.covers("asvs 13.2.3", "attack A77")
@pytest.mark.parametrize("password", [*DEFAULTS, "jane.of.accounts"])
def test_a_default_password_of_another_system_stops_the_start_with_one_line(tmp_path: Path, password: str) -> None:
    coded, who = quote(password, safe=""), "jane.of.accounts"
    places = {
        "DATABASE_URL": {"database_url": f"postgresql://{who}:{coded}@db/x"},
        "REDIS_URL": {"redis_url": f"redis+sentinel://{who}:{coded}@a:26379,b:26379/main"},
        "SMTP_PASSWORD": {"smtp_username": who, "smtp_password": password},
    }
    for name, change in places.items():
        with pytest.raises(SettingsError) as stopped:
            load(tmp_path, **(STRONG | change))
        assert str(stopped.value).splitlines() == [
            f"{name} holds a default password or a sample value; give that account one of its own"
        ]
        assert load(tmp_path, **{"secret_key": STRONG["secret_key"], **change}), "in development it is whatever it is"


@pytest.mark.covers("asvs 13.2.3", "attack A77")
def test_the_samples_of_our_own_pages_are_defaults_and_real_passwords_are_none() -> None:
    pages = [ROOT / "README.md", ROOT / "deployment_guide.md", ROOT / "compose.yaml", *(ROOT / "docs").glob("*.md")]
    shown = {found for page in pages for found in re.findall(r"://(\w*:\w+)@", page.read_text())}
    assert shown
    for sample in shown:
        user, _, password = sample.partition(":")
        assert production.is_default(password, user), sample
    made = [secrets.token_urlsafe(12) for _ in range(20_000)] + [secrets.token_hex(8) for _ in range(20_000)]
    assert not any(production.is_default(each, "latchkey") for each in (*made, "", "apasswordthatislong", "hunter22"))


SECRET_TEXTS = [name for name, field in Settings.model_fields.items() if field.annotation is SecretStr]


@pytest.mark.covers("asvs 13.2.3", "attack A77")
@pytest.mark.parametrize("given", ["...", "<...>", "****************"])
def test_a_placeholder_of_dots_stops_the_start_with_one_line(tmp_path: Path, given: str) -> None:
    """As the README's own sample has it, for each secret and each name of an account, also of one that is not used."""
    account = {"sms_provider": "twilio", **TWILIO, "smtp_username": "clinic", "smtp_password": "k7Qx2mVp-k"}
    account["master_secret"] = "Wb6Nf9Jx3Qs8Cd1Hk5Zm2Vt7Lp0Gy4Ra8Eu6Io3Tw"
    for name in {"twilio_sid", "smtp_username", *SECRET_TEXTS} - {"jwt_private_key"}:
        with pytest.raises(SettingsError) as stopped:
            load(tmp_path, **(STRONG | account | {name: f"'{given}'"}))
        assert [line.split()[0].rstrip(":") for line in str(stopped.value).splitlines()] == [name.upper()]
        assert given not in str(stopped.value)
    assert load(tmp_path, twilio_token=given).twilio_token.get_secret_value() == given, (
        "in development it is whatever it is"
    )


def test_a_token_that_is_name_and_password_in_one_is_no_default() -> None:
    token = "8f1c2d3e-4b5a-4c6d-9e7f-0a1b2c3d4e5f"
    assert not production.is_default(token, token)
    assert production.is_default("jane.of.accounts", "jane.of.accounts")


def run(*command: str, shell: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """A command of ours, or what a shell is told."""
    clean = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **env}
    words = ["sh", "-c", shell] if shell else [sys.executable, "-m", *command]
    return subprocess.run(words, cwd=ROOT, env=clean, capture_output=True, text=True, timeout=60)


def test_check_config_shows_what_is_in_force_and_no_secret(tmp_path: Path) -> None:
    env = {k.upper(): v for k, v in STRONG.items()} | {"DATABASE_URL": "postgresql://u:hunter22@db/x"}
    done = run("flask", "check-config", **env)
    assert done.returncode == 0, done.stderr
    shown = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert set(shown) == set(Settings.names())
    assert shown["OTP_TTL"] == "300"
    assert shown["SECRET_KEY"] == shown["JWT_SECRET_KEY"] == "(set)"
    for secret in (STRONG["secret_key"], STRONG["jwt_secret_key"], "hunter22"):
        assert secret not in done.stdout


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("database_url", "postgresql://u@db/x?password=hunter22&sslmode=require", "db/x?password=***&sslmode=require"),
        ("database_url", "mysql://db/x?user=u&passwd=hunter22", "db/x?passwd=***&user=u"),
        ("database_url", "postgresql://u:hunter22@db/x?sslpassword=hunter22", "u:***@db/x?sslpassword=***"),
        (
            "otel_exporter_otlp_endpoint",
            "https://u:hunter22@traces.example.com/v1",
            "https://***@traces.example.com/v1",
        ),
        ("otel_exporter_otlp_endpoint", "https://hunter22@traces.example.com", "https://***@traces.example.com"),
        ("public_url", "https://auth.example.com/a", "https://auth.example.com/a"),
    ],
)
def test_a_secret_inside_another_value_is_masked(name: str, value: str, shown: str) -> None:
    told = Settings(_env_file=None, **{name: value}).masked()[name.upper()]
    assert told.endswith(shown), told
    assert "hunter22" not in told


@pytest.mark.parametrize("query", ["user=u&password=postgres", "user=jane&passwd=jane", "password=x&password=changeme"])
def test_a_default_password_in_a_query_stops_the_start_with_one_line(tmp_path: Path, query: str) -> None:
    for name, url in (("DATABASE_URL", f"mysql://db/x?{query}"), ("REDIS_URL", "redis://db?password=foobared")):
        with pytest.raises(SettingsError) as stopped:
            load(tmp_path, **(STRONG | {name.lower(): url}))
        assert str(stopped.value).splitlines() == [
            f"{name} holds a default password or a sample value; give that account one of its own"
        ]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"jwt_private_key": "anything"}, "JWT_PRIVATE_KEY signs nothing while JWT_ALGORITHM is HS256"),
        ({"jwt_private_key_file": "/nonexistent"}, "JWT_PRIVATE_KEY_FILE signs nothing while JWT_ALGORITHM is HS256"),
        ({"templates_dir": "/nonexistent"}, "TEMPLATES_DIR is no folder"),
        ({"templates_dir": "x" * 300}, "TEMPLATES_DIR is no folder"),
        (
            {**SMTP, "smtp_username": "clinic", "smtp_password": "hunter22\u00e4"},
            "SMTP_PASSWORD has letters beyond ASCII",
        ),
        ({**SMTP, "smtp_username": "j\u00e4ne", "smtp_password": "hunter22"}, "SMTP_USERNAME has letters beyond ASCII"),
        ({"sender_email": "notanaddress"}, "SENDER_EMAIL: must be one e-mail address"),
        ({"sms_provider": "msg91", "msg91_auth_key": "k"}, "MSG91_TEMPLATE_ID is missing, and so is DLT_FILE"),
        ({**SMTP, "smtp_username": "clinic"}, "SMTP_PASSWORD is missing; SMTP_USERNAME needs it"),
        ({**SMTP, "smtp_password": "hunter22"}, "SMTP_USERNAME is missing; SMTP_PASSWORD needs it"),
        ({"sms_allowed_countries": "IN,UK"}, "SMS_ALLOWED_COUNTRIES: must be countries by their ISO codes"),
        ({"default_phone_region": "UK"}, "DEFAULT_PHONE_REGION: must be a country by its ISO code"),
        ({"sms_prices": "UK:0.05,*:0.1"}, "SMS_PRICES: must look like"),
        ({"sms_provider": "console", "sms_routes": "UK:console"}, "SMS_ROUTES: must look like"),
    ],
)
def test_a_setting_that_would_do_nothing_stops_the_start(tmp_path: Path, change: dict[str, str], line: str) -> None:
    with pytest.raises(SettingsError) as stopped:
        load(tmp_path, **change)
    assert [each.startswith(line) for each in str(stopped.value).splitlines()] == [True]
    assert change.get("smtp_password", "hunter22") not in str(stopped.value)


def test_a_secret_with_a_comma_is_not_said_to_be_old(tmp_path: Path) -> None:
    """In a list it becomes two; whoever drops it loses what it sealed."""
    with pytest.raises(
        SettingsError, match=r"^SECRET_KEY_PREVIOUS holds .* unless it is a part of one secret with a comma"
    ):
        load(tmp_path, **(STRONG | {"secret_key_previous": "3mO9v2Yb7Qx1Lk8Zr5Nf6Ht4Wd0,Jc2Pg9Sa7Ue3Ri"}))


@pytest.mark.parametrize("role", ["r" * 33, "two words", "tab\tbed", "-r", "b\u00f6se", "a/b"])
def test_a_role_that_no_account_could_have_stops_the_start(tmp_path: Path, role: str) -> None:
    with pytest.raises(SettingsError, match=r"^ROLES: .*1 to 32 letters, digits"):
        load(tmp_path, roles=f"admin,user,{role}")
    assert load(tmp_path, roles=f"admin,user,{'r' * 32},Head-Nurse_2").roles[2:] == ("r" * 32, "Head-Nurse_2")


@pytest.mark.parametrize("command", [("flask", "check-config"), ("gunicorn", "-c", "gunicorn.conf.py"), ("app",)])
def test_an_unsafe_start_ends_at_once_with_its_lines(command: tuple[str, ...]) -> None:
    env = {k.upper(): v for k, v in STRONG.items()} | {"JWT_SECRET_KEY": "short"}
    done = run(*command, **env)
    assert done.returncode != 0
    assert "JWT_SECRET_KEY is shorter than 32 bytes; make one with: python3 -c" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_driver_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^DATABASE_URL: "):
        load(tmp_path, **(STRONG | {"database_url": "postgresql+asyncpg://u:p@h/d"}))


ACCOUNTS = {
    "smtp_server": "mail.example.com", "sender_email": "no-reply@example.com", "sendgrid_api_key": "SG.k", "resend_api_key": "re_k",
    "twilio_sid": "AC0", "twilio_token": "t", "twilio_phone": "+15005550006", "msg91_auth_key": "k", "gupshup_user_id": "1", "gupshup_password": "p",
}  # fmt: skip


@pytest.mark.parametrize(("setting", "name"), [(s, name) for s, names in PROVIDERS.items() for name in names])
def test_every_provider_that_a_setting_may_name_is_there(setting: str, name: str) -> None:
    channel = {"email_provider": "email", "sms_provider": "sms"}[setting]
    sender = registry.senders_of(Settings(_env_file=None, **(ACCOUNTS | {setting: name})))[channel]
    assert (sender.name, sender.channel) == (name, channel)


@pytest.mark.parametrize(
    "given", ["info@m\u00fcller.example", "\u00e9@x.example", "a..b@x.example", "a(b)@x.example", "a@x.example."]
)
def test_a_sender_that_no_mail_can_carry_stops_the_start(tmp_path: Path, given: str) -> None:
    with pytest.raises(
        SettingsError, match=r"^SENDER_EMAIL: must be an e-mail address that a header can hold"
    ) as stopped:
        load(tmp_path, **STRONG | {"sender_email": given})
    assert given not in str(stopped.value)


@pytest.mark.parametrize("given", ["info@xn--mller-kva.example", "No-Reply+x@mail.corp.local", "o'neil_@app.test"])
def test_a_sender_of_an_inner_network_is_one(tmp_path: Path, given: str) -> None:
    assert load(tmp_path, **STRONG | {"sender_email": given}).sender_email == given


def test_msg91_starts_with_either_kind_of_template(tmp_path: Path) -> None:
    given = {"sms_provider": "msg91", "msg91_auth_key": "k"}
    assert load(tmp_path, **given, msg91_template_id="65f0c0ffee").sms_provider == ("msg91",)
    assert load(tmp_path, **given, dlt_file="/etc/dlt.toml").sms_provider == ("msg91",)


@pytest.mark.parametrize("name", [n for names in PROVIDERS.values() for n in names if n != "console"])
def test_a_provider_without_its_account_does_not_start(tmp_path: Path, name: str) -> None:
    setting = next(s for s, names in PROVIDERS.items() if name in names)
    with pytest.raises(SettingsError, match=f"is missing; the provider {name} needs it"):
        load(tmp_path, **{setting: name})


def test_the_readme_s_production_settings_start(tmp_path: Path) -> None:
    [block] = re.findall(r"^```ini\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    given = dict(line.split("=", 1) for line in block.splitlines() if not line.startswith("#"))
    filled = {k: v.replace("...", f"k7Qx2mVp-{k}").replace(":password@", ":k7Qx2mVp@") for k, v in given.items()}
    env = filled | {k: STRONG[k.lower()] for k, v in given.items() if v == "..." and k.lower() in STRONG}
    done = run("flask", "check-config", **env)
    assert done.returncode == 0, done.stderr


def test_a_budget_in_money_needs_a_price_for_every_country(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"SMS_PRICES names no price for every other country"):
        load(tmp_path, sms_budget_per_day="5", sms_prices="IN:0.002")
    assert load(tmp_path, sms_budget_per_day="5", sms_prices="IN:0.002,*:0.1").sms_route("IN") == ("console",)


PARTIES: list[tuple[dict[str, str], str, tuple[str, ...]]] = [
    ({}, "localhost", ("http://localhost:5000",)),
    ({"port": "8000", "public_url": "http://127.0.0.1:8000"}, "localhost", ("http://localhost:8000",)),
    ({"public_url": "https://Auth.Example.com:443/x"}, "auth.example.com", ("https://auth.example.com",)),
    ({"public_url": "https://example.com:8443"}, "example.com", ("https://example.com:8443",)),
    (
        {"passkey_rp_id": "example.com", "public_url": "https://auth.example.com",
         "cors_origins": "https://app.example.com,https://example.org,http://app.example.com,https://badexample.com"},
        "example.com", ("https://auth.example.com", "https://app.example.com"),
    ),
    (
        {"passkey_rp_id": "example.com", "passkey_origins": "https://example.com,https://a.b.example.com:444"},
        "example.com", ("https://example.com", "https://a.b.example.com:444"),
    ),
    (
        {"passkey_rp_id": "example.com", "passkey_origins": "https://app.example.com:443,https://a.example.com:80"},
        "example.com", ("https://app.example.com", "https://a.example.com:80"),
    ),
    (STRONG, "", ()),
    (STRONG | {"public_url": "https://192.0.2.7"}, "", ()),
    (STRONG | {"public_url": "https://auth.example.com"}, "auth.example.com", ("https://auth.example.com",)),
]  # fmt: skip


@pytest.mark.parametrize(("given", "domain", "origins"), PARTIES, ids=[str(sorted(p[0].items())[-3:]) for p in PARTIES])
def test_passkeys_are_for_the_domain_and_the_secure_origins_below_it(
    tmp_path: Path, given: dict[str, str], domain: str, origins: tuple[str, ...]
) -> None:
    settings = load(tmp_path, **given)
    assert (settings.rp_id, settings.rp_origins) == (domain, origins)


@pytest.mark.parametrize(
    "origin",
    [
        "http://app.example.com",
        "https://example.org",
        "https://badexample.com",
        "https://app.example.com/",
        "*",
        "https://app.example.com:99999",
        "https://app.example.com:0",
        "https://app.example.com:0443",
    ],
)
def test_an_origin_that_may_not_use_passkeys_stops_the_start(tmp_path: Path, origin: str) -> None:
    with pytest.raises(SettingsError, match=r"^PASSKEY_ORIGINS: "):
        load(tmp_path, passkey_rp_id="example.com", passkey_origins=f"https://example.com,{origin}")


@pytest.mark.parametrize("port", ["99999", "65536", "0", "00", "0443", ""])
def test_an_origin_that_may_call_has_a_port_that_is_one(tmp_path: Path, port: str) -> None:
    with pytest.raises(SettingsError, match=r"^CORS_ORIGINS: "):
        load(tmp_path, cors_origins=f"https://app.example.com,https://app.example.com:{port}")
    assert load(tmp_path, cors_origins="https://app.example.com:65535").cors_origins == (
        "https://app.example.com:65535",
    )


@pytest.mark.parametrize("domain", ["com", "192.0.2.7", "Example.com", "example.com:443", "-a.example.com", ".com"])
def test_what_is_no_domain_of_ones_own_stops_the_start(tmp_path: Path, domain: str) -> None:
    with pytest.raises(SettingsError, match=r"^PASSKEY_RP_ID: "):
        load(tmp_path, passkey_rp_id=domain)


def test_a_domain_without_an_origin_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="PASSKEY_ORIGINS is missing"):
        load(tmp_path, **STRONG, passkey_rp_id="example.com")
