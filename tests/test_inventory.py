"""The inventory of what is written down: docs/monitoring.md has every sink and every field of a line, docs/audit.md every
event and every fact.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from app.core import retention
from app.core.audit import Event
from tests.pages import named, table
from tests.test_architecture import calls, sources
from tests.test_docs import ROOT

AUDIT = (ROOT / "docs" / "audit.md").read_text()
MONITORING = (ROOT / "docs" / "monitoring.md").read_text()
# Whatever puts words somewhere: handlers of logs, files, terminals. Rows of the audit log are made by one function.
WRITES = re.compile(
    r"print|open|os\.(open|write|fdopen)|(?!sessions\.).*\.open|.*\.(write_text|write_bytes|echo)|sys\.std(out|err)\.write"
    r"|(?!.*addHandler)\S*Handler|syslog\S*|sentry_sdk\.init|OTLPSpanExporter"
)


@pytest.mark.covers("asvs 16.1.1", "asvs 16.2.3")
def test_whatever_writes_anything_anywhere_is_on_the_page() -> None:
    listed = {f"app.{name}" for row in table(MONITORING, "What is written where") for name in named(row[2])}
    found = {module for module, tree in sources().items() if any(map(WRITES.fullmatch, calls(module))) or audits(tree)}
    assert found == listed


def audits(tree: ast.AST) -> bool:
    """Whether a module puts in rows of the audit log itself."""
    made = [each for each in ast.walk(tree) if isinstance(each, ast.Call) and each.args]
    return any(ast.unparse(each.func).endswith("insert") and ast.unparse(each.args[0]) == "AuditLog" for each in made)


@pytest.mark.covers("asvs 16.1.1")
def test_every_sink_says_who_reads_it() -> None:
    rows = table(MONITORING, "What is written where")
    assert all(len(row) >= 4 and row[3].strip() for row in rows)
    assert "audit_logs" not in {kind.model.__tablename__ for kind in retention.KINDS}, (
        "the page says: until audit-purge"
    )


@pytest.mark.covers("asvs 16.1.1")
def test_every_fact_of_an_event_is_told() -> None:
    rows = [row for row in table(AUDIT, "What is written") if row[0].startswith("`")]
    assert {name for row in rows for name in named(row[0])} == set().union(*(event.facts for event in Event))
    assert all(row[1] for row in rows)


@pytest.mark.covers("asvs 16.1.1")
def test_every_field_that_the_code_gives_to_a_line_is_on_the_page() -> None:
    listed = {name for row in table(MONITORING, "Logs") for name in named(row[0])}
    found = set(fields())
    assert {"head", "trace_id", "provider", "request_id", "message_id", "ms", "cause"} <= found, "the search finds them"
    assert found <= listed


def fields() -> Iterator[str]:
    """The names that code gives to fields of lines: by `logs.start`, `add`, `about`, `work.tell` and `extra`."""
    for module, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and re.fullmatch(
                r"logs\.(start|add|about)|work\.tell", ast.unparse(node.func)
            ):
                yield from (given.arg for given in node.keywords if given.arg)
            if isinstance(node, ast.Dict) and [ast.unparse(key) for key in node.keys if key] == ["'fields'"]:
                yield from _keys(node.values[0])
            if isinstance(node, ast.Assign) and module == "app.web.headers":
                yield from _assigned(node.targets[0], node.value)


def _assigned(target: ast.expr, value: ast.expr) -> Iterator[str]:
    """`fields = {...}` and `fields[...] = ...`."""
    if isinstance(target, ast.Name) and target.id == "fields":
        yield from _keys(value)
    if isinstance(target, ast.Subscript) and ast.unparse(target.value) == "fields":
        yield str(ast.literal_eval(target.slice))


def _keys(given: ast.expr) -> Iterator[str]:
    if isinstance(given, ast.Dict):
        yield from (str(ast.literal_eval(key)) for key in given.keys if isinstance(key, ast.Constant))
