"""Templates registered for Indian routes (TRAI's DLT rules): what is sent must equal what is registered.

`DLT_FILE` is TOML, one table a template:

    [[template]]
    provider = "gupshup"            # or msg91
    kind = "code.signin"            # or a notice; "code.*" for every code
    language = "en"
    text = "{#var#} is your Clinic code to sign in. Valid {#var#}. Do not share it."
    dlt_id = "1107160000000000001"  # of the template; entity_id and sender if the account has no default
    provider_id = "65f0c0ffee"      # MSG91's own id of the template, with
    variables = { OTP = "code", MIN = "minutes" }

At the start our own words are held against each text; one that differs stops it, because the operators would
drop it in silence. `{#var#}` stands for at most 30 characters: "3 minutes" above, for there is also "1 minute".
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from app.config import Settings, SettingsError
from app.core import challenges
from app.delivery import messages
from app.delivery.outbox import INVITE, Notice
from app.delivery.senders import Outgoing

LONGEST_VALUE = 30  # characters a variable may have
EVERY_CODE = "code.*"
CODES = tuple(f"code.{act}" for act in (*challenges.SENT, INVITE))
NOTICES = tuple(str(notice) for notice in Notice if notice is not Notice.SHIELD_CLOSED)  # that one goes by mail

# What messages say differently: the last minute is not 'minutes', and either address may be the one that changed.
CODE_SAMPLES: list[dict[str, Any]] = [{"facts": {}, "minutes": 3}, {"facts": {}, "minutes": 1}]
FACTS = {"at": "2026-01-01T00:00:00+00:00", "ip": "203.0.113.5", "client": "", "now": "+91******3210"}
NOTICE_SAMPLES: list[dict[str, Any]] = [
    {"facts": FACTS | {"changed": "sms", "type": "totp", "left": 9}},
    {"facts": FACTS | {"changed": "email", "type": "passkey", "left": 1}},
]


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
    def label(self) -> str:
        return f"{self.provider}, {self.kind}, {self.language}"

    @property
    def pattern(self) -> re.Pattern[str]:
        fixed = [re.escape(part) for part in self.text.split("{#var#}")]
        return re.compile(f".{{0,{LONGEST_VALUE}}}".join(fixed), re.DOTALL)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    template: list[Template] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Registered:
    templates: tuple[Template, ...]

    def of(self, message: Outgoing) -> Template | None:
        """The template of a message: of its own kind before the one of every code."""
        fitting = [t for t in self.templates if t.language == message.language and _covers(t, message.kind)]
        return min(fitting, key=lambda t: t.kind != message.kind, default=None)


def _covers(template: Template, kind: str) -> bool:
    return template.kind == kind or (template.kind == EVERY_CODE and kind in CODES)


def load(settings: Settings, provider: str) -> Registered:
    """The templates of a provider, each held against our words. Raises SettingsError, a line for each mistake."""
    if settings.dlt_file is None:
        return Registered(())
    try:
        found = _File.model_validate(tomllib.loads(settings.dlt_file.read_text("utf-8-sig"))).template
    except OSError as error:
        raise SettingsError(f"DLT_FILE: cannot read {settings.dlt_file}: {error.strerror}") from error
    except ValidationError as error:
        raise SettingsError("\n".join(map(_mistake, error.errors()))) from error
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError
        raise SettingsError(f"DLT_FILE: {settings.dlt_file} is not TOML in UTF-8: {error}") from error
    ours = {number: template for number, template in enumerate(found, 1) if template.provider == provider}
    wrong = [f"DLT_FILE: template {n} ({t.label}) {why}" for n, t in ours.items() for why in _objections(settings, t)]
    if wrong:
        raise SettingsError("\n".join(wrong))
    return Registered(tuple(ours.values()))


def _mistake(error: ErrorDetails) -> str:
    """A line such as `DLT_FILE: template 2, language: Field required`."""
    places = [f"template {part + 1}" if isinstance(part, int) else part for part in error["loc"]]
    return f"DLT_FILE: {', '.join(places[1:] or places)}: {error['msg']}"


def _objections(settings: Settings, template: Template) -> Iterator[str]:
    """What is wrong with a template that is well-formed, as the end of a sentence about it."""
    kinds = CODES if template.kind == EVERY_CODE else (template.kind,)
    if template.kind not in (EVERY_CODE, *CODES, *NOTICES):
        yield f"is of no kind that is sent; there are {', '.join((EVERY_CODE, *CODES, *NOTICES))}"
    elif template.language not in messages.languages(settings):
        yield f"is in no language that there is; there are {', '.join(messages.languages(settings))}"
    elif template.provider == "msg91" and not template.provider_id:
        yield "needs `provider_id`, MSG91's own id of it"
    elif template.provider == "msg91" and kinds[0] in CODES and "code" not in template.variables.values():
        yield 'needs `variables` with the name of one that is the "code"'
    else:
        yield from (why for kind in kinds for why in _differences(settings, template, kind))


def _differences(settings: Settings, template: Template, kind: str) -> Iterator[str]:
    code = "0" * settings.otp_length if kind in CODES else ""
    samples = CODE_SAMPLES if code else NOTICE_SAMPLES
    for sample in samples[:1] if template.provider == "msg91" else samples:  # MSG91 puts it together by itself
        try:
            words = messages.render(settings, kind, "sms", language=template.language, code=code, **sample)
        except (LookupError, messages.Unmade) as error:
            yield f"cannot be held against {kind}, which cannot be made: {error}"
            return
        if not template.pattern.fullmatch(words.text):
            yield f"has another text than {kind}: {words.text!r}; register that, or change it in TEMPLATES_DIR"
            return
