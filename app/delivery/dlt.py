"""Templates registered for Indian routes (TRAI's DLT rules): what is sent must equal what is registered.

`DLT_FILE` is TOML, one table a template:

    [[template]]
    provider = "gupshup"            # or msg91
    kind = "code.signin"            # or a notice; "code.*" for every code
    language = "en"
    text = "{#var#} is your Clinic code to sign in. Valid {#var#} minutes. Do not share it."
    dlt_id = "1107160000000000001"  # of the template; entity_id and sender if the account has no default
    provider_id = "65f0c0ffee"      # MSG91's own id of the template, with
    variables = { OTP = "code", MIN = "minutes" }

At the start our own words are held against each text; one that differs stops it, because the operators would
drop it in silence.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from app.config import Settings, SettingsError
from app.core import challenges
from app.delivery import messages
from app.delivery.senders import Outgoing

LONGEST_VALUE = 30  # characters a variable may have
SAMPLE = {
    "at": "2026-01-01T00:00:00+00:00",
    "ip": "203.0.113.5",
    "client": "",
    "changed": "sms",
    "now": "+91******3210",
}


class Template(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    provider: Literal["msg91", "gupshup"]
    kind: str
    language: str
    text: str
    dlt_id: str = ""
    entity_id: str = ""
    sender: str = ""
    provider_id: str = ""
    variables: dict[str, Literal["code", "minutes", "brand"]] = {}

    def values(self, message: Outgoing) -> dict[str, str]:
        """MSG91's variables of a message."""
        known = {"code": message.code, "minutes": str(message.minutes), "brand": message.brand}
        return {name: known[what][:LONGEST_VALUE] for name, what in self.variables.items()}

    def registration(self) -> dict[str, str]:
        """Gupshup's parameters that name the registered template."""
        given = {"principalEntityId": self.entity_id, "dltTemplateId": self.dlt_id, "mask": self.sender}
        return {name: value for name, value in given.items() if value}

    @property
    def pattern(self) -> re.Pattern[str]:
        fixed = [re.escape(part) for part in self.text.split("{#var#}")]
        return re.compile(f".{{0,{LONGEST_VALUE}}}".join(fixed), re.DOTALL)


@dataclass(frozen=True, slots=True)
class Registered:
    templates: tuple[Template, ...]

    def of(self, message: Outgoing) -> Template | None:
        """The template of a message: of its own kind before the one of every code."""
        fitting = [t for t in self.templates if t.language == message.language and _covers(t, message.kind)]
        return min(fitting, key=lambda t: t.kind != message.kind, default=None)


def _covers(template: Template, kind: str) -> bool:
    return template.kind == kind or (template.kind == "code.*" and kind.startswith("code."))


def load(settings: Settings, provider: str) -> Registered:
    """The templates of a provider, each held against our words. Raises SettingsError."""
    if settings.dlt_file is None:
        return Registered(())
    try:
        tables = tomllib.loads(settings.dlt_file.read_text()).get("template", [])
        templates = tuple(Template(**table) for table in tables)
    except (OSError, tomllib.TOMLDecodeError, ValidationError, TypeError) as error:
        raise SettingsError(f"DLT_FILE: {settings.dlt_file} cannot be read ({type(error).__name__})") from error
    ours = tuple(template for template in templates if template.provider == provider)
    for template in ours:
        _check(settings, template)
    return Registered(ours)


def _check(settings: Settings, template: Template) -> None:
    kinds = [f"code.{p}" for p in challenges.SENT] if template.kind == "code.*" else [template.kind]
    for kind in kinds:
        facts: dict[str, Any] = {} if kind.startswith("code.") else SAMPLE
        code = "0" * settings.otp_length if kind.startswith("code.") else ""
        try:
            words = messages.render(settings, kind, "sms", facts, language=template.language, code=code, minutes=3)
        except (LookupError, messages.NoTemplate) as error:
            raise SettingsError(f"DLT_FILE: there is no message {kind} in {template.language}") from error
        if not template.pattern.fullmatch(words.text):
            raise SettingsError(
                f"DLT_FILE: the text registered for {template.kind} in {template.language} is not what would be sent: "
                f"{words.text!r}; register that, or change it in TEMPLATES_DIR"
            )
