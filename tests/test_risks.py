"""docs/risks.md: where the costly and the dangerous calls of the code are, and which libraries are risky."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from importlib.metadata import PackageNotFoundError, distribution

import pytest

from app import SURFACES
from app.web.paging import Page
from tests.pages import named, table
from tests.test_architecture import calls, sources
from tests.test_docs import ROOT
from tests.test_peers import constants
from tools import supply

PAGE = (ROOT / "docs" / "risks.md").read_text()
DANGEROUS = re.compile(
    r"eval|exec|compile|__import__|import_module|globals|Markup|Template|TemplateFactory|Environment|SandboxedEnvironment"
    r"|from_string|get_template|\w+Loader|text|TextClause|literal_column|exec_driver_sql|open|read_text|read_bytes|write_text|write_bytes"
    r"|unlink|rmtree|iterdir|glob|rglob|send_file|send_from_directory|redirect|urlopen|fromstring"
    r"|(json|csv|tomllib|gzip|zlib|bz2|lzma|zipfile|tarfile|pickle|marshal|shelve|yaml|ctypes|subprocess|shutil|pty|xml)\.\w+"
    r"|os\.(open|fdopen|system|popen|exec\w+|spawn\w+|remove|unlink|rename|replace|chmod|fork|kill|putenv)"
)
# Of the same names, and harmless: what writes JSON and CSV, a page's own method, a session, and a name of a parameter.
HARMLESS = re.compile(r"jsons?\.dumps|csv\.writer|page\.text|self\.text|sessions\.open|re\.compile")


def dangerous(call: str) -> str | None:
    """A call by the short name under which the page has it, if it could be a hole."""
    if HARMLESS.fullmatch(call):
        return None
    whole = re.sub(r"^jsons\.", "json.", call)
    last = call.rpartition(".")[2]
    return whole if DANGEROUS.fullmatch(whole) else last if DANGEROUS.fullmatch(last) else None


@pytest.mark.covers("asvs 15.1.5")
def test_every_dangerous_call_is_on_the_page_and_no_more() -> None:
    listed: dict[str, set[str]] = defaultdict(set)
    for _, names, modules, why in table(PAGE, "Dangerous"):
        assert why
        for name in named(names):
            listed[name] |= set(named(modules))
    found: dict[str, set[str]] = defaultdict(set)
    for module in sources():
        for name in filter(None, map(dangerous, calls(module))):
            found[name].add(module.removeprefix("app."))
    assert found == listed


@pytest.mark.covers("asvs 15.1.5")
@pytest.mark.parametrize(
    ("call", "name"),
    [
        ("pickle.loads", "pickle.loads"), ("subprocess.run", "subprocess.run"), ("os.system", "os.system"), ("eval", "eval"),
        ("sa.text", "text"), ("db.connection.exec_driver_sql", "exec_driver_sql"), ("env.from_string", "from_string"),
    ],
)  # fmt: skip
def test_a_new_one_is_found(call: str, name: str) -> None:
    assert dangerous(call) == name


@pytest.mark.covers("asvs 15.1.3")
def test_costly_calls_are_made_where_the_page_says() -> None:
    rows = table(PAGE, "Costly")
    assert len(rows) >= 10
    for what, names, modules, guard in rows:
        ends = tuple(named(names))
        found = {module for module in sources() if any(mentioned(module, name) for name in ends)}
        assert found == {f"app.{module}" for module in named(modules)}, what
        assert guard, what


def mentioned(module: str, name: str) -> bool:
    """True if a module calls something, or hands it on to be called."""
    said = (ast.unparse(node) for node in ast.walk(sources()[module]) if isinstance(node, ast.Attribute | ast.Name))
    return any(words == name or words.endswith(f".{name}") for words in said)


@pytest.mark.covers("asvs 15.1.3")
def test_the_bounds_of_the_page_are_those_of_the_code() -> None:
    assert constants(PAGE) >= 9
    endpoints = [endpoint for surface in SURFACES for endpoint in surface.endpoints]
    limits = {
        endpoint.query.model_fields["limit"].metadata[1].le
        for endpoint in endpoints
        if endpoint.query and issubclass(endpoint.query, Page)
    }
    assert limits == {200}
    assert [endpoint.path for endpoint in endpoints if endpoint.streams] == ["/audit-logs"]


@pytest.mark.covers("asvs 15.1.4")
def test_every_library_with_compiled_code_is_named_and_each_that_is_named_is_locked() -> None:
    told = {name for row in table(PAGE, "Risky libraries") for name in re.findall(r"[a-z][a-z\d-]+", row[0])} - {
        "and",
        "with",
        "it",
    }
    locked = supply.locked()
    assert told <= {name.split("[")[0] for name in locked}
    assert {name for name in locked if is_compiled(name)} <= told


def is_compiled(name: str) -> bool:
    try:
        return any(str(file).endswith((".so", ".pyd")) for file in distribution(name).files or ())
    except PackageNotFoundError:  # for another system
        return False
