"""The settings of delivery: who carries messages, what they may cost, how they look. A part of `config.Settings`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from email.errors import HeaderParseError
from email.headerregistry import Address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import phonenumbers
from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PROVIDERS = {
    "email_provider": ("console", "smtp", "sendgrid", "resend"),
    "sms_provider": ("console", "twilio", "msg91", "gupshup"),
}
ANYWHERE = "*"  # every country that is not named
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
ADDRESS = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?")


def _is_address(text: str) -> bool:
    return bool(ADDRESS.fullmatch(text) and names_a_host(text))


def names_a_host(url: str) -> bool:
    """True if a URL has a host, and a port that is one, if any."""
    try:
        found = urlsplit(url)
        return bool(found.hostname) and found.port != 0
    except ValueError:  # of a port that is none, or a bracket
        return False


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _split_secrets(value: Any) -> Any:
    return [SecretStr(part) if isinstance(part, str) else part for part in _split(value)]


def _split_roots(value: Any) -> Any:
    """As any list of secrets, and the last one also as it stands: earlier versions took a key with a line break at its
    end for another one than without, and made things with it.
    """
    if not isinstance(value, str):
        return value
    _, comma, last = value.rpartition(",")
    last = last.lstrip() if comma else last
    return _split_secrets(value) + ([SecretStr(last)] if last.strip() not in ("", last) else [])


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Secrets = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split_secrets)]
Roots = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split_roots)]


def _split_routes(value: Any) -> Any:
    """`IN:msg91,gupshup;*:twilio` as country -> providers in order."""
    if not isinstance(value, str):
        return value
    routes = [part.partition(":") for part in value.split(";") if part.strip()]
    found = {country.strip(): tuple(_split(names)) for country, _, names in routes}
    if len(found) != len(routes) or not all(map(_is_place, found)) or not all(found.values()):
        raise ValueError("must look like IN:msg91,gupshup;*:twilio")
    return found


def _split_prices(value: Any) -> Any:
    """`IN:0.002,US:0.0079,*:0.05` as country -> price of one message."""
    if not isinstance(value, str):
        return value
    prices = [part.partition(":") for part in _split(value)]
    try:
        found = {country.strip(): Decimal(price.strip()) for country, _, price in prices}
        fits = all(map(_is_place, found)) and all(0 <= price < 1000 for price in found.values())
    except InvalidOperation:  # of what is no number; of NaN when it is compared
        found, fits = {}, False
    if len(found) != len(prices) or not fits:
        raise ValueError("must look like IN:0.002,US:0.0079,*:0.05")
    return found


def _is_place(text: str) -> bool:
    return text == ANYWHERE or is_country(text)


def is_country(text: str) -> bool:
    """True for an ISO 3166 code of two letters that has telephone numbers: GB, not UK."""
    return text in phonenumbers.SUPPORTED_REGIONS


def shown_map(value: dict[str, Any]) -> str:
    """Routes or prices as they stand in the environment."""
    if all(isinstance(v, tuple) for v in value.values()):
        return ";".join(f"{k}:{','.join(v)}" for k, v in value.items())
    return ",".join(f"{k}:{v}" for k, v in value.items())


def route_of(routes: Mapping[str, tuple[str, ...]], country: str) -> tuple[str, ...]:
    """The providers of a country's own route, else of the one for every other country; none if there is neither."""
    return routes.get(country) or routes.get(ANYWHERE) or ()


Routes = Annotated[dict[str, tuple[str, ...]], NoDecode, BeforeValidator(_split_routes)]
Prices = Annotated[dict[str, Decimal], NoDecode, BeforeValidator(_split_prices)]
SECRET = SecretStr("")
TEXTS = (str, SecretStr, SecretStr | None, Path | None)
MAY_END_WITH_A_LINE = "jwt_private_key"  # in base64 too: a key that is read, not a text that is compared
PEM = "-----BEGIN "  # ends with a line; a setting that takes no key says so itself


class DeliverySettings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True)

    public_url: str = Field(
        "", description="where providers and browsers reach this service: `https://auth.example.com`"
    )
    email_provider: Names = Field(
        ("console",),
        description="`console` (prints codes), `smtp`, `sendgrid`, `resend`, or a list: the next when one fails",
    )
    smtp_server: str = Field("", description="host of the mail server")
    smtp_port: int = Field(587, ge=1, le=65_535, description="its port")
    smtp_username: str = Field("", description="mail account, if the server asks for one")
    smtp_password: SecretStr = Field(SECRET, description="its password")
    smtp_tls: Literal["starttls", "ssl", "none"] = Field("starttls", description="how the connection is protected")
    sender_email: str = Field("", description="the From address")
    sendgrid_api_key: SecretStr = Field(SECRET, description="mail over HTTP, for hosts that block SMTP")
    sendgrid_base_url: str = Field("https://api.sendgrid.com", description="for a proxy or tests")
    resend_api_key: SecretStr = Field(SECRET, description="mail over HTTP, for hosts that block SMTP")
    resend_base_url: str = Field("https://api.resend.com", description="for a proxy or tests")

    sms_provider: Names = Field(
        ("console",),
        description="`console` (prints codes), `twilio`, `msg91`, `gupshup`, or a list: the next when one fails",
    )
    sms_routes: Routes = Field({}, description="providers by country: `IN:msg91,gupshup;*:twilio`; else `SMS_PROVIDER`")
    twilio_sid: str = Field("", description="account")
    twilio_token: SecretStr = Field(SECRET, description="auth token; signs the status callbacks too")
    twilio_phone: str = Field("", description="sender: number, name, or messaging service (`MG...`)")
    twilio_base_url: str = Field("https://api.twilio.com", description="for a proxy or tests")
    msg91_auth_key: SecretStr = Field(SECRET, description="auth key")
    msg91_template_id: str = Field("", description="Flow template for every code, if `DLT_FILE` names none")
    msg91_base_url: str = Field("https://control.msg91.com", description="for a proxy or tests")
    gupshup_user_id: str = Field("", description="enterprise gateway account")
    gupshup_password: SecretStr = Field(SECRET, description="its password")
    gupshup_base_url: str = Field("https://enterprise.smsgupshup.com", description="for a proxy or tests")
    webhook_secret: SecretStr = Field(
        SECRET, description="last path segment of the MSG91 and Gupshup report URLs, without `/ ? # %`"
    )
    dlt_file: Path | None = Field(None, description="TOML file with the templates registered for Indian routes")

    sms_allowed_countries: Names = Field((), description="the only countries that get SMS, such as `IN,NP`; empty: all")
    sms_prices: Prices = Field({}, description="price of one message by country: `IN:0.002,*:0.05`")
    sms_budget_per_day: Decimal = Field(
        Decimal(0), ge=0, le=100_000, description="money a day for SMS, by `SMS_PRICES`; 0: no bound"
    )
    sms_cap_per_prefix: int = Field(
        30, ge=0, description="SMS a day to numbers that differ in their last 3 digits; 0: no bound"
    )
    sms_cap_per_country: int = Field(0, ge=0, description="SMS a day to one country; 0: no bound")
    sms_cap_per_day: int = Field(0, ge=0, description="SMS a day in all; 0: no bound")
    sms_shield: Literal["on", "shadow", "off"] = Field(
        "on", description="stop SMS pumping; `shadow` only reports it, `off` does neither"
    )

    templates_dir: Path | None = Field(None, description="folder whose message templates win over the shipped ones")
    brand_name: str = Field("Latchkey", min_length=1, max_length=60, description="the name in messages")
    brand_logo_url: str = Field("", description="picture over the mails, at an https address")
    brand_color: str = Field(
        "#1b1f24", pattern="^#[0-9a-fA-F]{6}$", description="colour of the name and the code in mails"
    )
    support_email: str = Field("", description="whom a message tells people to write to")
    android_app_hash: str = Field(
        "", pattern=r"^([A-Za-z0-9+/]{11})?$", description="lets your Android app read its SMS code"
    )

    def sms_route(self, country: str) -> tuple[str, ...]:
        """The providers for a country, in their order."""
        return route_of(self.sms_routes, country) or self.sms_provider

    @model_validator(mode="before")
    @classmethod
    def _an_empty_one_is_none(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Also as a file of CREDENTIALS_DIRECTORY."""
        return {name: value for name, value in given.items() if value != ""}

    @field_validator("*", mode="before")
    @classmethod
    def _no_blank_ends(cls, value: Any, info: ValidationInfo) -> Any:
        """Refused, for nobody sees them; not taken away, for that would change a key in use."""
        name = info.field_name or ""
        checked = cls.model_fields[name].annotation in TEXTS and name != MAY_END_WITH_A_LINE
        if checked and isinstance(value, str) and value != value.strip() and PEM not in value:
            raise ValueError("begins or ends with a space or line break")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _no_quotes(cls, value: Any, info: ValidationInfo) -> Any:
        """Likewise of secrets: `docker run --env-file` leaves them, and `.env` does not."""
        secret = cls.model_fields[info.field_name or ""].annotation in (SecretStr, SecretStr | None)
        if secret and isinstance(value, str) and re.fullmatch(r"'.*'|\".*\"", value, re.DOTALL):
            raise ValueError("stands in quotes, which would be a part of it; take them away")
        return value

    @field_validator(
        "public_url", "sendgrid_base_url", "resend_base_url", "twilio_base_url", "msg91_base_url", "gupshup_base_url"
    )
    @classmethod
    def _an_origin(cls, value: str) -> str:
        if value and not _is_address(value):
            raise ValueError("must be an address such as https://auth.example.com or https://auth.example.com:8443")
        return value.rstrip("/")

    @field_validator("smtp_server")
    @classmethod
    def _a_host(cls, value: str) -> str:
        try:
            value.encode("idna")  # as it is looked up
            fits = not re.search(r"[\x00-\x20\x7f\s/@?#]", value) and value.count(":") != 1
        except UnicodeError:
            fits = False
        if not fits:
            raise ValueError("must be a host such as mail.example.com; its port is SMTP_PORT")
        return value

    @field_validator("brand_name")
    @classmethod
    def _one_line(cls, value: str) -> str:
        if CONTROLS.search(value):
            raise ValueError("must be one line without control characters")
        return value

    @field_validator("brand_logo_url")
    @classmethod
    def _a_picture(cls, value: str) -> str:
        if value and not re.fullmatch(r"https://[^\s\"'<>]+", value):
            raise ValueError("must be an https address")
        return value

    @field_validator("sender_email", "support_email")
    @classmethod
    def _an_address(cls, value: str) -> str:
        if value and not re.fullmatch(r"[^@\s<>,;]+@[^@\s<>,;]+\.[^@\s<>,;]+", value):
            raise ValueError("must be one e-mail address")
        return value

    @field_validator("sender_email")
    @classmethod
    def _an_address_in_a_header(cls, value: str) -> str:
        """Read as the senders write it."""
        try:
            fits = not value or (value.isascii() and Address(addr_spec=value).addr_spec == value)
        except (ValueError, HeaderParseError):
            fits = False
        if not fits:
            raise ValueError("must be an e-mail address that a header can hold; a domain of other letters as xn--...")
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _a_segment(cls, value: SecretStr) -> SecretStr:
        if not re.fullmatch(r"[A-Za-z0-9._~!$&'()*+,;=:@-]*", value.get_secret_value()):
            raise ValueError("must be what a part of a path can be: no / ? # % or blank, and ASCII")
        return value

    @field_validator("email_provider", "sms_provider")
    @classmethod
    def _known_providers(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        known = PROVIDERS[info.field_name or ""]
        if not value or len(set(value)) != len(value) or not all(n in known or DOTTED.fullmatch(n) for n in value):
            raise ValueError(f"must name some of {', '.join(known)}, or classes of yours by dotted path, each once")
        return value

    @field_validator("sms_routes")
    @classmethod
    def _known_routes(cls, value: dict[str, tuple[str, ...]], info: ValidationInfo) -> dict[str, tuple[str, ...]]:
        named = {name for names in value.values() for name in names}
        if strange := named - set(info.data.get("sms_provider", ())):
            raise ValueError(f"names {', '.join(sorted(strange))}, which SMS_PROVIDER does not")
        return value

    @field_validator("sms_allowed_countries")
    @classmethod
    def _known_countries(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(map(is_country, value)):
            raise ValueError("must be countries by their ISO codes, such as IN,NP,GB")
        return value
