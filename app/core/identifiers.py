"""What a person types to say who they are: an e-mail address, a phone number or a username.

One normalisation for each kind, used by look-ups, budgets, limits and storage alike, so that two hundred
spellings of one address are one address everywhere. What cannot be one is refused with a field error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import phonenumbers
from email_validator import EmailNotValidError, validate_email

from app.core import throttles
from app.errors import ValidationFailed
from app.models import Signup, User

ENCODED_WORD = re.compile(r"=\?.*\?=")  # RFC 2047: none may stand in an address
LONGEST_EMAIL = 254  # RFC 5321, section 4.5.3.1.3 with its erratum
PHONE_SHAPE = re.compile(r"(?:\+|00)?\(?[0-9][0-9 ().\-/]{4,28}")
REACHED_BY_SMS = {
    phonenumbers.PhoneNumberType.MOBILE,
    phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE,
    phonenumbers.PhoneNumberType.VOIP,
    phonenumbers.PhoneNumberType.PERSONAL_NUMBER,
}
USERNAME_SHAPE = re.compile(r"(?=.*[a-z])[a-z0-9](?:[a-z0-9]|[._-](?=[a-z0-9])){1,30}[a-z0-9]")


class Kind(StrEnum):
    EMAIL = "email"
    PHONE = "phone"
    USERNAME = "username"


@dataclass(frozen=True, slots=True)
class Identifier:
    kind: Kind
    value: str  # normalised

    @property
    def masked(self) -> str:
        """What may be shown and logged: `j***@example.com`, `+91******3210`, `j***` (it may be a mistyped password)."""
        if self.kind is Kind.EMAIL:
            local, _, domain = self.value.partition("@")
            return f"{local[0]}***@{domain}"[:LONGEST_EMAIL]  # longer than a short local part is the mask
        if self.kind is Kind.PHONE:
            return f"+{_number(self.value).country_code}******{self.value[-4:]}"
        return f"{self.value[0]}***"

    @property
    def country(self) -> str | None:
        """Of a number: its country (ISO 3166), or `001` where it has none. None for what is not a number."""
        if self.kind is not Kind.PHONE or not self.value.startswith("+"):
            return None
        return phonenumbers.region_code_for_number(_number(self.value)) or "001"


@lru_cache(maxsize=256)
def _number(value: str) -> phonenumbers.PhoneNumber:
    return phonenumbers.parse(value)  # slow, and a request asks more than once


def stand_in(kind: Kind, typed: Identifier) -> Identifier:
    """An address that there is not, for the work that would be done for somebody's. It belongs to what was typed, which
    does not stand in it: it is stored, and whose it was could not be told when they are erased.
    """
    return Identifier(kind, f"nobody/{throttles.key(typed.kind, typed.value)}")


def of_user(user: User | Signup) -> list[Identifier]:
    """Every identifier of an account, the proven addresses first; or every one that a sign-up gave."""
    named = ((Kind.EMAIL, user.email), (Kind.PHONE, user.phone), (Kind.USERNAME, user.username))
    return [Identifier(kind, value) for kind, value in named if value]


def parse(text: str, region: str, field: str = "identifier") -> Identifier:
    """Tell the kind by its form, then normalise: an address has an @, a number is all digits and signs.

    Raises ValidationFailed for what cannot be any of the three.
    """
    text = text.strip(" ")
    if "@" in text:
        return email(text, field)
    if PHONE_SHAPE.fullmatch(text):
        return phone(text, region, field)
    return username(text, field)


def email(text: str, field: str = "email") -> Identifier:
    """An address in lower case with an ASCII (IDNA 2008) domain. Dots and +tags stay: they are other mailboxes.

    Raises ValidationFailed for lists, quoted or non-ASCII local parts, what would be read as another address in a
    mail's header, literals and names that cannot exist.
    """
    text = text.strip(" ")
    try:
        if len(text) > LONGEST_EMAIL or ENCODED_WORD.search(text):
            raise EmailNotValidError
        found = validate_email(text, check_deliverability=False, allow_smtputf8=False, strict=True)
    except EmailNotValidError:
        raise ValidationFailed.field(field, "invalid_email", "This is not an e-mail address.") from None
    return Identifier(Kind.EMAIL, str(found.ascii_email).lower())


def phone(text: str, region: str, field: str = "phone") -> Identifier:
    """A number as E.164. `region` (ISO 3166, may be empty) is the country of one typed without its prefix.

    Raises ValidationFailed for letters, extensions, digits of other scripts, numbers that no plan has and those
    that get no SMS: landlines, toll-free and premium numbers.
    """
    text = text.strip(" ")
    try:
        if not PHONE_SHAPE.fullmatch(text):
            raise phonenumbers.NumberParseException(0, "shape")
        if text.startswith("00"):
            text = "+" + text[2:]
        number = phonenumbers.parse(text, region or None)
    except phonenumbers.NumberParseException:
        number = None
    if number is None or not phonenumbers.is_valid_number(number):
        raise ValidationFailed.field(field, "invalid_phone", "This is not a phone number with its country code.")
    if phonenumbers.number_type(number) not in REACHED_BY_SMS:
        raise ValidationFailed.field(field, "no_sms", "This kind of number gets no SMS. Give a mobile number.")
    return Identifier(Kind.PHONE, phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))


def username(text: str, field: str = "username") -> Identifier:
    """A username in lower case: 3 to 32 of a-z, 0-9 and single . _ - inside, with at least one letter,
    so that it never looks like an address or a number. Raises ValidationFailed.
    """
    text = text.strip(" ").lower()
    if not USERNAME_SHAPE.fullmatch(text):
        message = "3 to 32 letters, digits and single . _ - between them, with at least one letter."
        raise ValidationFailed.field(field, "invalid_username", message)
    return Identifier(Kind.USERNAME, text)
