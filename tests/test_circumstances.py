"""docs/access.md says by which circumstances a decision goes, from when on, and what happens then."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re

import pytest

from app.config import Settings
from app.work import Client
from tests.pages import named, table
from tests.test_architecture import APP
from tests.test_docs import ROOT
from tests.test_peers import constants

PAGE = (ROOT / "docs" / "access.md").read_text()
HEADING = "What else a decision goes by"
SECTION = PAGE.partition(f"## {HEADING}")[2].partition("\n## ")[0]
# What a unit of work knows of who calls; None: nothing is decided by it.
KNOWN = {
    "address": "the client's address",
    "user_agent": "program and network",
    "keeps_cookie": "browser apps",
    "request_id": None,
    "language": None,
}
# What Flask makes of a request, beside its headers: of these only the first four are a circumstance.
READ = {"remote_addr": "the connection", "environ": "the wait for a thread", "host": "the name that the service is called by",
        "mimetype": "what is no JSON", "accept_languages": "the language of messages", "cookies": "cookies"}  # fmt: skip
OF_THE_REQUEST = {"headers", "path", "method", "url_rule", "routing_exception", "content_length", "stream", "args",
                  "endpoint", "form", "query_string", "max_content_length", "accept_mimetypes",
                  "get_data"}  # fmt: skip


def trees() -> list[ast.Module]:
    return [ast.parse(path.read_text()) for path in sorted((APP / "web").rglob("*.py"))]


def headers() -> set[str]:
    """The names of all headers that the service reads by name."""
    found = set()
    for tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and re.fullmatch(r"request\.headers\.(get|getlist)", ast.unparse(node.func)):
                found.add(ast.literal_eval(node.args[0]))
            if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "request.headers":
                found.add(ast.literal_eval(node.slice))
    return found


def parts() -> set[str]:
    """What else of a request it looks at."""
    whole = (node for tree in trees() for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return {node.attr for node in whole if ast.unparse(node.value) == "request"}


@pytest.mark.covers("asvs 8.1.3")
def test_whatever_of_a_request_could_be_a_circumstance_is_on_the_page() -> None:
    shown = {name for name in named(SECTION) if re.fullmatch(r"[A-Z][a-z]*(-[A-Z]?[A-Za-z]+)*", name)}
    assert headers() == shown
    assert parts() <= OF_THE_REQUEST | set(READ), "say on the page what is decided by it"
    assert all(words in SECTION for words in READ.values())
    assert {field.name for field in dataclasses.fields(Client)} == set(KNOWN)
    assert all(words in SECTION for words in KNOWN.values() if words)


@pytest.mark.covers("asvs 8.1.3", "asvs 8.1.4")
def test_each_circumstance_has_its_threshold_and_what_happens_then() -> None:
    rows = table(PAGE, HEADING)
    assert len(rows) >= 12
    assert constants(SECTION) >= 7
    settings = re.findall(r"`([A-Z_]+)` = (\d+(?:\.\d+)?)", SECTION)
    assert len(settings) >= 8
    for name, value in settings:
        assert Settings.model_fields[name.lower()].default == float(value), name
    for circumstance, read_from, threshold, consequence, module, shown in rows:
        assert read_from, circumstance
        assert threshold, circumstance
        assert re.match(r"(allowed|denied|steps up)\b", consequence), circumstance
        for name in re.findall(r"`([A-Z]+_[A-Z_]+)`", read_from + threshold + consequence):
            assert name.lower() in Settings.model_fields, name
        importlib.import_module(f"app.{named(module)[0]}")
        assert (ROOT / "tests" / named(shown)[0]).exists(), circumstance
