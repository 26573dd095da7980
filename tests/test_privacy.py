"""docs/privacy.md names every table and every column, with a class."""

from __future__ import annotations

import re

import pytest

from app import models
from app.core import retention
from app.db import Base
from tests.test_docs import ROOT

PAGE = (ROOT / "docs" / "privacy.md").read_text()
SECTIONS = {
    name: re.findall(r"^\| (`.+?) \| .+ \| (\w+) \|$", text, re.MULTILINE)
    for name, text in re.findall(r"^## `(\w+)`(.+?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
}
TABLES = {table.name: table for table in Base.metadata.sorted_tables}


@pytest.mark.covers("asvs 14.1.1")
def test_every_table_has_its_section() -> None:
    assert models.User.__tablename__ in TABLES
    assert SECTIONS.keys() == TABLES.keys()


@pytest.mark.covers("asvs 14.1.1")
@pytest.mark.parametrize("name", TABLES)
def test_every_column_is_named_once_and_has_a_class(name: str) -> None:
    named = [column for columns, _ in SECTIONS[name] for column in re.findall(r"`(\w+)`", columns)]
    assert sorted(named) == sorted(column.name for column in TABLES[name].columns)
    assert {kind for _, kind in SECTIONS[name]} <= {"personal", "secret", "none"}


@pytest.mark.covers("asvs 14.2.7")
def test_a_table_that_is_purged_says_for_how_long_it_is_kept() -> None:
    for kind in retention.KINDS:
        [title] = re.findall(rf"^## `{kind.model.__tablename__}`: (.+)$", PAGE, re.MULTILINE)
        assert re.search(r"RETAIN_|day|week|as long as", title), title
