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

A message that has no template in its language goes out in one that has.
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
from app.delivery.outbox import CODES, Notice
from app.delivery.senders import Outgoing, Reason, SendFailed

LONGEST_VALUE = 30  # characters a variable may have
EVERY_CODE = "code.*"
PROVIDERS: tuple[str, ...] = ("msg91", "gupshup")
BY_MAIL = f"code.{challenges.Purpose.CHANGE_EMAIL}"  # never by SMS
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
    settings: Settings
    templates: tuple[Template, ...] = ()

    def of(self, message: Outgoing) -> Template | None:
        """The template of a message: in its language before the person's own, English and any other; of its own kind
        before the one of every code.
        """
        wanted = (message.language, message.own_language, messages.ENGLISH)

        def rank(template: Template) -> tuple[int, bool]:
            at = wanted.index(template.language) if template.language in wanted else len(wanted)
            return at, template.kind != message.kind

        return min((t for t in self.templates if _covers(t, message.kind)), key=rank, default=None)

    def words(self, message: Outgoing, template: Template) -> str:
        """What a message says in the language of its template. Raises SendFailed."""
        if template.language == message.language:
            return message.text
        said: dict[str, Any] = {"code": message.code, "minutes": message.minutes, "language": template.language}
        try:
            return messages.render(self.settings, message.kind, message.channel, dict(message.facts), **said).text
        except messages.Unmade as error:
            raise SendFailed(Reason.CONFIGURATION, f"{message.kind} cannot be made in {template.language}") from error


def _covers(template: Template, kind: str) -> bool:
    return template.kind == kind or (template.kind == EVERY_CODE and kind in CODES)


def load(settings: Settings, provider: str) -> Registered:
    """The templates of a provider, each held against our words. Raises SettingsError, a line for each mistake."""
    if settings.dlt_file is None:
        return Registered(settings)
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
    return Registered(settings, tuple(ours.values()))


def remarks(settings: Settings) -> Iterator[str]:
    """What a file leaves out, which may not be meant: a line each. Raises SettingsError."""
    for provider in PROVIDERS if settings.dlt_file else ():
        if provider in settings.sms_provider:
            yield from _gaps(settings, provider, load(settings, provider).templates)


def _gaps(settings: Settings, provider: str, templates: tuple[Template, ...]) -> Iterator[str]:
    said = {kind: {t.language for t in templates if _covers(t, kind)} for kind in CODES if kind != BY_MAIL}
    unsaid = ", ".join(kind for kind, known in said.items() if not known)
    if unsaid and not (provider == "msg91" and settings.msg91_template_id):
        yield f"DLT_FILE has no template of {provider} for {unsaid}: by it none of these goes to India."
    for language in messages.languages(settings):
        others = ", ".join(kind for kind, known in said.items() if known and language not in known)
        if others:
            yield f"DLT_FILE has no template of {provider} in {language} for {others}: these go in another language."


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
