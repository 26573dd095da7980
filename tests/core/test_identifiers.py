"""One normalisation for each kind of identifier."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core import identifiers, lockout
from app.core.identifiers import Identifier, Kind
from app.errors import ValidationFailed

PHONES = [
    "+919876543210", "00919876543210", "+91 98765 43210", "+91-98765-43210", "+91 (98765) 43210", "+91.98765.43210",
    "0091 98765 43210", "0091-9876543210", " +919876543210 ", "+91 9876 543 210", "98765 43210", "098765 43210",
    "(0)98765 43210", "9876543210", "98765-43210", "+91 98765-43210", "00 91 98765 43210", "+91  98765  43210",
    "+91/98765/43210", "98765.43210",
]  # fmt: skip


@pytest.mark.covers("attack A06")
@pytest.mark.parametrize("text", PHONES)
def test_one_number_in_twenty_spellings_is_one(text: str) -> None:
    assert identifiers.phone(text, "IN") == Identifier(Kind.PHONE, "+919876543210")
    assert identifiers.parse(text, "IN") == Identifier(Kind.PHONE, "+919876543210")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Jane@Example.COM", "jane@example.com"),
        (" jane@example.com ", "jane@example.com"),
        ("jane+tag@example.com", "jane+tag@example.com"),
        ("j.a.n.e@example.com", "j.a.n.e@example.com"),
        ("jane@ex\u00e4mple.com", "jane@xn--exmple-cua.com"),
        ("jane@exa\u0308mple.com", "jane@xn--exmple-cua.com"),
        ("jane@XN--EXMPLE-CUA.com", "jane@xn--exmple-cua.com"),
    ],
)
def test_an_address_is_lower_case_with_an_ascii_domain(text: str, value: str) -> None:
    assert identifiers.email(text) == Identifier(Kind.EMAIL, value)
    assert identifiers.parse(text, "") == Identifier(Kind.EMAIL, value)


@pytest.mark.covers("attack A28")
@pytest.mark.parametrize("twin", ["\u0131", "\u212a", "\u017f", "\u0430", "\uff4a"])
def test_a_unicode_twin_in_the_local_part_is_refused(twin: str) -> None:
    with pytest.raises(ValidationFailed):
        identifiers.email(f"{twin}ane@example.com")


@pytest.mark.covers("asvs 14.2.6")
@pytest.mark.parametrize(
    ("identifier", "masked"),
    [
        (Identifier(Kind.EMAIL, "jane@example.com"), "j***@example.com"),
        (Identifier(Kind.EMAIL, "j@example.com"), "j***@example.com"),
        (Identifier(Kind.PHONE, "+919876543210"), "+91******3210"),
        (Identifier(Kind.PHONE, "+12025550123"), "+1******0123"),
        (Identifier(Kind.USERNAME, "jane"), "j***"),
    ],
)
def test_masks_tell_little_and_nothing_of_the_length(identifier: Identifier, masked: str) -> None:
    assert identifier.masked == masked


def test_kinds_never_share_a_budget() -> None:
    kinds = [lockout.key(Identifier(kind, "same")) for kind in Kind]
    assert len(set(kinds)) == 3


@given(st.text(max_size=60))
def test_any_text_is_an_identifier_or_a_field_error(text: str) -> None:
    try:
        found = identifiers.parse(text, "IN")
    except ValidationFailed as refused:
        assert refused.extra["errors"][0]["field"] == "identifier"
        return
    assert identifiers.parse(found.value, "IN") == found, "normalising again changes nothing"
    assert found.value.isascii()


@given(st.from_regex(r"[a-z0-9._-]{3,32}", fullmatch=True))
def test_a_username_is_never_read_as_another_kind(text: str) -> None:
    try:
        found = identifiers.username(text)
    except ValidationFailed:
        return
    assert identifiers.parse(found.value, "IN").kind is Kind.USERNAME


@pytest.mark.covers("attack A67")
@pytest.mark.parametrize("text", ["a" * 320, "@" * 320, "a@" + "a." * 150, "1" * 320, "(" * 320, "a-" * 160, "." * 320])
def test_hostile_text_is_refused(text: str) -> None:
    with pytest.raises(ValidationFailed):
        identifiers.parse(text, "IN")
