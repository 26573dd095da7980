"""Which passwords are refused, and why."""

from __future__ import annotations

import unicodedata
from types import SimpleNamespace
from typing import Any

import pytest

from app.config import Settings
from app.core import passwords
from app.errors import ValidationFailed

WORK: Any = SimpleNamespace(settings=Settings(_env_file=None))
ABOUT = ("jane.doe@example.com", "+919876543210", "janed", "Jane Alexandra Doe")


def why(password: str, about: tuple[str | None, ...] = ()) -> str | None:
    try:
        passwords.accept(WORK, password, about)
    except ValidationFailed as refused:
        return refused.extra["errors"][0]["code"]
    return None


@pytest.mark.covers("asvs 6.2.4", "nist N09", "asvs 6.1.2")
def test_every_listed_password_is_refused_in_any_case() -> None:
    listed = sorted(passwords.common())
    assert len(listed) >= 3000
    assert {why(word) for word in listed} == {"too_common"}
    assert {why(word.upper()) for word in listed[:500]} == {"too_common"}


@pytest.mark.covers("asvs 6.2.11")
@pytest.mark.parametrize("word", ["latchkey", "Latchkey1", "LATCHKEY2026", "doctor1234", "admin0001"])
def test_the_product_and_its_roles_are_refused_with_digits_behind(word: str) -> None:
    assert why(word) == "too_common"


@pytest.mark.covers("asvs 6.2.11")
@pytest.mark.parametrize(
    "password",
    ["jane.doe@example.com", "JANE.DOE@EXAMPLE.COM", "jane.doe", "jane.doe1", "jane.doe2026", "919876543210",
     "+919876543210", "alexandra", "Alexandra12", "Jane Alexandra Doe", "JaneAlexandraDoe99", "janed123"],
)  # fmt: skip
def test_what_is_known_of_the_person_is_refused(password: str) -> None:
    assert why(password, ABOUT) == "contains_identifier"


@pytest.mark.covers("nist N09")
@pytest.mark.parametrize(
    "password",
    ["jane.doe likes green tea", "my latchkey is under the mat", "password of the third kind", "correct horse 7",
     "Password123!", "aaaaaaaaaaaaaaaaaaaaaaa1", "\U0001f511" * 8, "        x       "],
)  # fmt: skip
def test_a_long_phrase_that_contains_a_listed_word_is_accepted(password: str) -> None:
    assert why(password, ABOUT) is None


@pytest.mark.covers("nist N03")
def test_length_is_counted_in_code_points() -> None:
    assert why("\U0001f511" * 7) == "too_short"
    assert why("\U0001f511" * 8) is None
    assert why("\U0001f511" * 256) is None
    assert why("\U0001f511" * 257) == "too_long"


def test_the_shortest_is_measured_as_it_is_hashed_and_the_longest_in_its_longest_spelling() -> None:
    """Else a keyboard that takes letters apart has three syllables pass, or cannot give what another one has set."""
    assert why(unicodedata.normalize("NFD", "\ud55c\uae00\uc554" * 2)) == "too_short"
    assert why(unicodedata.normalize("NFD", "\ud55c\uae00\uc554" * 3)) is None
    assert why("\u00e9" * 128) is None
    assert why("\u00e9" * 129) == "too_long"


def test_equal_in_nfc_is_equal_and_nothing_else() -> None:
    assert passwords.bytes_of("caf\u00e9") == passwords.bytes_of("cafe\u0301")
    assert passwords.bytes_of("\ufb01") != passwords.bytes_of("fi")
    assert passwords.bytes_of(" x ") == b" x "


@pytest.mark.covers("asvs 6.1.2")
def test_a_missing_list_stops_the_use_of_passwords(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    passwords.common.cache_clear()
    monkeypatch.setattr(passwords, "LIST", tmp_path / "none.gz")
    try:
        with pytest.raises(FileNotFoundError):
            passwords.common()
    finally:
        passwords.common.cache_clear()
