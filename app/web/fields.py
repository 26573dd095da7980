"""The types that request bodies are made of. They check shape; whether something is true, flows check."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from app.core import devices, identifiers
from app.core.identifiers import Identifier
from app.core.text import LONGEST_NAME, composed, is_printable
from app.errors import ValidationFailed
from app.framing import LONGEST_BODY
from app.web import hops
from app.work import Work

LONGEST_DEVICE_INFO = 2048
MOST_DEVICE_FACTS = 20
LONGEST_FACT_NAME, LONGEST_FACT = 64, 200
DEEPEST_CREDENTIAL = 16  # a browser's has five
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})")


def _printable(text: str) -> str:
    if not is_printable(text):
        raise PydanticCustomError("control_characters", "Control characters are not allowed.")
    return text


def _no_nul(text: str) -> str:
    if "\x00" in text:
        raise PydanticCustomError("control_characters", "NUL is not allowed.")
    return text


def _text(longest: int, shortest: int = 1) -> Any:
    return StringConstraints(strict=True, min_length=shortest, max_length=longest)


def _spelled(longest: int) -> AfterValidator:
    """In its one spelling, and measured once more: a few characters become three where they are composed."""

    def spell(text: str) -> str:
        if len(spelled := composed(text)) > longest:
            raise PydanticCustomError("string_too_long", f"At most {longest} characters.")
        return spelled

    return AfterValidator(spell)


def _small_and_flat(info: dict[str, Any]) -> dict[str, Any]:
    """Texts, numbers, flags and nulls under short names: enough to know a device by, and nothing to hide things in."""
    simple = all(_is_simple(key, value) for key, value in info.items())
    if not simple or len(info) > MOST_DEVICE_FACTS or len(json.dumps(info)) > LONGEST_DEVICE_INFO:
        raise PydanticCustomError("too_complex", "At most 20 short texts, numbers or flags, 2 KiB in all.")
    return info


def _is_simple(key: str, value: Any) -> bool:
    if len(key) > LONGEST_FACT_NAME or not is_printable(key):
        return False
    if isinstance(value, str):
        return len(value) <= LONGEST_FACT and is_printable(value)
    if isinstance(value, float):
        return math.isfinite(value)  # 1e999 is JSON, and more than a double holds
    return value is None or (isinstance(value, int) and abs(value) < 2**53)


def _shallow(credential: dict[str, Any]) -> dict[str, Any]:
    """Not so deep that reading or writing it would fail. Looked at level by level, for the same reason."""
    level: list[Any] = [credential]
    for _ in range(DEEPEST_CREDENTIAL):
        inner = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level = [value for values in inner for value in values]
    if any(isinstance(each, dict | list) for each in level):
        raise PydanticCustomError("too_complex", f"At most {DEEPEST_CREDENTIAL} objects and lists in each other.")
    return credential


def _device_id(text: str) -> str:
    if not devices.is_id(text):
        raise PydanticCustomError("invalid_id", "Printable, no slash, no blanks at its ends, neither . nor ..")
    return text


def _timed_code(given: Any) -> str | int:
    """Digits as text, or as a number that lost its leading zeros. True is a number to Python, and no code."""
    if isinstance(given, str) and re.fullmatch("[0-9]{6,8}", given):
        return given
    if type(given) is int and 0 <= given < 10**8:
        return given
    raise PydanticCustomError("invalid_format", "The code is 6 to 8 digits.")


def _rfc_3339(given: Any) -> Any:
    """A time with its offset, as text: neither a number nor one of the other forms that would be understood."""
    if isinstance(given, str) and TIME.fullmatch(given):
        return given
    raise PydanticCustomError("invalid_time", "A time such as 2026-11-21T10:00:00Z.")


def _in_utc(at: datetime) -> datetime:
    """A time without a zone is in UTC, a day is its first moment."""
    try:
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("invalid", "This is no time of ours.") from None


def _address(text: str) -> str:
    if (address := hops.read(text)) is None:
        raise PydanticCustomError("invalid", "This is not an IP address.")
    return address


Name = Annotated[
    str,
    StringConstraints(strict=True, strip_whitespace=True, min_length=1, max_length=LONGEST_NAME),
    AfterValidator(_printable),
    _spelled(LONGEST_NAME),
]
Typed = Annotated[str, _text(320), AfterValidator(_printable)]  # an identifier as typed
Password = Annotated[str, _text(256), AfterValidator(_no_nul)]
Code = Annotated[str, _text(64), AfterValidator(_printable)]
Token = Annotated[str, _text(512), AfterValidator(_printable)]
Presented = Annotated[str, _text(LONGEST_BODY, 0)]  # whatever a stranger handed to a backend as a token
Audience = Annotated[str, _text(64), AfterValidator(_printable)]
Channel = Literal["email", "sms"]
Wished = Literal["email", "sms", "totp", "passkey"]  # what a sign-in or step-up shall ask for
Method = Literal["email", "sms", "totp", "backup_code", "passkey"]
Language = Annotated[str, _text(16), AfterValidator(_printable)]
Flag = Annotated[bool, Field(strict=True)]
DeviceInfo = Annotated[
    Annotated[
        dict[Annotated[str, StringConstraints(strict=True)], Any],
        AfterValidator(_small_and_flat),
        WithJsonSchema(
            {
                "type": "object",
                "maxProperties": MOST_DEVICE_FACTS,
                "propertyNames": {"maxLength": LONGEST_FACT_NAME},
                "additionalProperties": {"type": ["string", "number", "boolean", "null"], "maxLength": LONGEST_FACT},
            }
        ),
    ]
    | None,
    Field(description="what the client says of itself; shown in the list of sessions"),
]
Credential = Annotated[
    dict[str, Any],
    AfterValidator(_shallow),
    PlainSerializer(json.dumps, when_used="json"),  # half a surrogate pair is none to pydantic, and no fault of ours
    Field(description="what the browser's `navigator.credentials` gave, as its `toJSON()` writes it"),
]
DeviceId = Annotated[
    str,
    _text(devices.LONGEST_ID),
    AfterValidator(devices.spelled),
    AfterValidator(_device_id),
    Field(description="your name for it: printable, no slash, no blanks at its ends"),
]
FreeText = Annotated[str, _text(255), AfterValidator(_printable), _spelled(255)]
TimedCode = Annotated[
    str | int,
    PlainValidator(_timed_code),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": "^[0-9]{6,8}$", "maxLength": 8},
                {"type": "integer", "minimum": 0, "maximum": 99_999_999},
            ],
            "description": "the digits; as an integer, leading zeros are restored",
        }
    ),
]
# A role, a provider. Blanks behind one make no difference to MariaDB, and to the other databases they do.
Word = Annotated[
    str, StringConstraints(strict=True, strip_whitespace=True, min_length=1, max_length=32), AfterValidator(_printable)
]
OURS: Any = {"ge": datetime(1970, 1, 1, tzinfo=UTC), "le": datetime(9999, 12, 30, tzinfo=UTC)}  # with room to reckon
Instant = Annotated[AwareDatetime, BeforeValidator(_rfc_3339), Field(description="RFC 3339", **OURS)]
Moment = Annotated[
    datetime, AfterValidator(_in_utc), Field(description="a time, or a day; in UTC unless it says otherwise", **OURS)
]
Address = Annotated[str, _text(45), AfterValidator(_printable), AfterValidator(_address)]
ChallengeId = Annotated[UUID, Field(description="from the answer that sent the code")]


class Body(BaseModel):
    """Unknown fields are ignored and go nowhere."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


SOME_ID = "01a1fc6a-56ed-7069-9126-f35c15146f3c"


def example(**values: Any) -> ConfigDict:
    """What the document's page fills in for somebody who tries an endpoint."""
    return ConfigDict(json_schema_extra={"examples": [values]})


class Answering(Body):
    """A body that answers a challenge by any method: a code, or what a passkey signed."""

    otp: Code | None = None
    credential: Credential | None = None
    method: Method | None = None

    def given(self) -> str | dict[str, Any]:
        """The one answer that was given, in the form of its method. Raises ValidationFailed for none or both."""
        by_passkey = self.credential is not None if self.method is None else self.method == "passkey"
        wanted, other = ("credential", "otp") if by_passkey else ("otp", "credential")
        value: str | dict[str, Any] | None = getattr(self, wanted)
        if value is None or getattr(self, other) is not None:
            raise ValidationFailed.field(wanted, "required", "Give the code, or the credential of a passkey.")
        return value

    def code(self) -> str:
        """The code, where no other answer can be one. Raises ValidationFailed."""
        given = self.given()
        if not isinstance(given, str):
            raise ValidationFailed.field("otp", "required", "Give the code.")
        return given


def _only_true(value: Any) -> Any:
    if value is not True:
        raise PydanticCustomError("invalid", "This must be agreed to: true.")
    return value


class ConsentBody(Body):
    model_config = example(terms=True, version="2026-11")

    terms: Annotated[Literal[True], BeforeValidator(_only_true)]
    privacy: Flag = False
    version: Annotated[str, _text(40, 0), AfterValidator(_printable)] = ""


Consent = Annotated[
    ConsentBody,
    BeforeValidator(
        lambda given: {"terms": True} if given is True else given, json_schema_input_type=Literal[True] | ConsentBody
    ),
    Field(description='`true` is short for `{"terms": true}`'),
]


class Identified(Body):
    """A body that names a person by `identifier`, or by one of its kinds."""

    identifier: Typed | None = None
    email: Typed | None = None
    phone: Typed | None = None

    def who(self, work: Work) -> Identifier:
        """The one identifier that was given. Raises ValidationFailed for none or several."""
        region = work.settings.default_phone_region
        given = {name: value for name in _READERS if (value := getattr(self, name, None)) is not None}
        if len(given) != 1:
            raise ValidationFailed.field("identifier", "required", "Give one identifier: e-mail, phone or username.")
        name, value = next(iter(given.items()))
        return _READERS[name](value, region)


_READERS: dict[str, Callable[[str, str], Identifier]] = {
    "identifier": identifiers.parse,
    "email": lambda text, _region: identifiers.email(text),
    "phone": identifiers.phone,
    "username": lambda text, _region: identifiers.username(text),
}
