"""Keeps true what the house rules say: who may import whom, who may commit, how long things are."""

from __future__ import annotations

import ast
import re
import statistics
from functools import cache
from pathlib import Path

import pytest

from app import SURFACES, create_app, errors
from app.config import Settings
from app.core.audit import Event
from app.errors import Refusal
from app.web import problems
from app.web.openapi import OPERATIONS, WEBHOOKS, document
from tests.lanes import CHEAP, SECRETS
from tools import generate

ROOT = Path(__file__).resolve().parent.parent
APP = ROOT / "app"
LEAVES = {
    "answers",
    "clock",
    "config",
    "delivery_config",
    "origins",
    "store_config",
    "token_config",
    "production",
    "settings_file",
    "sqlite_file",
    "start",
    "errors",
    "work",
    "db",
    "pulse",
    "logs",
    "figures",
    "framing",
    "workers",
    "version",
}
# Who may import what, beside the leaves and their own layer.
LAYERS = {
    "crypto": {"errors"},
    "models": {"db"},
    "core": {"crypto", "models"},
    "delivery": {"core", "crypto", "models"},
    "flows": {"core", "delivery", "models"},
    "web": {"flows", "core", "delivery", "models", "crypto"},
}
ENTRANCES = {"__init__", "__main__", "cli", "listening", "stopping", "wsgi"}
FLOWS_OPEN_TO_FLOWS = {"app.flows.asking", "app.flows.proof", "app.flows.door", "app.flows.signin"}


@cache
def sources() -> dict[str, ast.Module]:
    """Every module of the application by its dotted name."""
    found = {}
    for path in sorted(APP.rglob("*.py")):
        dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[dotted.removesuffix(".__init__")] = ast.parse(path.read_text(), str(path))
    return found


def part(module: str) -> str:
    """The room of a module: a layer, or the name of a leaf or entrance."""
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 else "__init__"


def imports(module: str, *, everywhere: bool = True) -> set[str]:
    """The modules that a module imports at run time, as dotted names of ours or top-level names of others'."""
    tree, found = sources()[module], set()
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in sources() else node.module)
    return found


def ours(module: str) -> set[str]:
    return {name for name in imports(module, everywhere=False) if name == "app" or name.startswith("app.")}


@pytest.mark.parametrize("module", sources())
def test_imports_go_down_only(module: str) -> None:
    room = part(module)
    if room in ENTRANCES:
        return
    for target in ours(module):
        other = part(target)
        allowed = LAYERS.get(room, set()) | {room} | (LEAVES if room != "crypto" else set())
        assert other in allowed, f"{module} imports {target}"


@pytest.mark.parametrize("module", [m for m in sources() if part(m) == "flows"])
def test_a_flow_imports_no_other_flow_but_the_common_ones(module: str) -> None:
    flows = {name for name in ours(module) if name.startswith("app.flows.")}
    assert flows <= FLOWS_OPEN_TO_FLOWS | {module}


def test_there_is_no_import_cycle() -> None:
    graph = {module: ours(module) & sources().keys() for module in sources()}
    done: set[str] = set()

    def walk(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"a cycle: {' -> '.join([*path[path.index(module) :], module])}"
        if module not in done:
            for target in graph[module] - {module}:
                walk(target, (*path, module))
            done.add(module)

    for module in graph:
        walk(module, ())


@pytest.mark.parametrize("module", sources())
def test_nothing_is_imported_inside_a_function(module: str) -> None:
    for function in functions(module):
        inside = [n for n in ast.walk(function) if isinstance(n, (ast.Import, ast.ImportFrom))]
        assert not inside or part(module) in ENTRANCES, f"{module}:{function.name}"


def test_flask_is_known_to_web_and_the_entrances_only() -> None:
    knowing = {m for m in sources() if any(name.split(".")[0] in ("flask", "werkzeug") for name in imports(m))}
    assert {part(m) for m in knowing} <= {"web", *ENTRANCES}


def calls(module: str) -> list[str]:
    """Every call in a module, as it is written: `work.db.commit`."""
    return [ast.unparse(node.func) for node in ast.walk(sources()[module]) if isinstance(node, ast.Call)]


def test_only_work_commits() -> None:
    for module in sources():
        ending = [c for c in calls(module) if c.split(".")[-1] in ("commit", "rollback", "begin", "begin_nested")]
        assert not ending or module == "app.work", (module, ending)


def test_flows_speak_no_sql() -> None:
    for module in sources():
        if part(module) == "flows":
            assert "work.db" not in ast.unparse(sources()[module]), module
            assert not any(name.startswith("sqlalchemy") for name in imports(module)), module


def test_below_web_there_is_no_clock_no_environment_and_no_current_app() -> None:
    clocks = re.compile(r"(datetime\.(now|utcnow|today)|time\.(time|time_ns)|date\.today|os\.(environ|getenv)).*")
    for module in sources():
        if part(module) in ("core", "flows", "crypto", "models", "delivery"):
            text = ast.unparse(sources()[module])
            assert "current_app" not in text, module
            assert "os.environ" not in text, module
            assert not [c for c in calls(module) if clocks.fullmatch(c)], module


def callers(name: str) -> list[str]:
    return [module for module in sources() for call in calls(module) if call == name]


def test_there_is_one_door() -> None:
    """`door.finish` alone opens sessions; whoever else signs somebody in goes through it."""
    assert callers("sessions.open") == ["app.flows.door"]
    tree = sources()["app.flows.door"]
    opening = [f.name for f in functions("app.flows.door") if "sessions.open(" in ast.unparse(f)]
    assert opening == ["finish"]
    assert "next_step" in ast.unparse(next(f for f in tree.body if getattr(f, "name", "") == "finish"))


def test_codes_are_answered_in_one_place() -> None:
    assert set(callers("challenges.answer")) == {"app.flows.proof"}
    assert set(callers("challenges.is_right")) == {"app.flows.proof"}


def test_a_view_never_calls_a_view_and_is_short() -> None:
    views = {endpoint.name for surface in SURFACES for endpoint in surface.endpoints}
    for module in sources():
        if not module.startswith("app.web.") or module == "app.web.endpoint":
            continue
        for function in functions(module):
            if any("add(" in ast.unparse(d) for d in function.decorator_list):
                body = [
                    n for n in function.body if not isinstance(n, ast.Expr) or not isinstance(n.value, ast.Constant)
                ]
                assert len(body) <= 5, f"{module}:{function.name}"
                called = {ast.unparse(n.func) for n in ast.walk(function) if isinstance(n, ast.Call)}
                assert not called & views, f"{module}:{function.name}"


def functions(module: str) -> list[ast.FunctionDef]:
    return [n for n in ast.walk(sources()[module]) if isinstance(n, ast.FunctionDef)]


def lines(function: ast.FunctionDef) -> int:
    return (function.end_lineno or 0) - function.lineno + 1


def test_functions_and_files_are_short() -> None:
    every = [(lines(f), f"{m}:{f.name}") for m in sources() for f in functions(m)]
    assert statistics.median(n for n, _ in every) <= 8
    assert [name for n, name in every if n > 40] == []
    files = [len((APP.parent / f"{m.replace('.', '/')}.py").read_text().splitlines()) for m in sources() if _file(m)]
    assert statistics.median(files) <= 100
    assert max(files) <= 300


def _file(module: str) -> bool:
    return (ROOT / f"{module.replace('.', '/')}.py").exists()


def test_public_functions_of_the_domain_say_what_they_promise() -> None:
    silent = [
        f"{module}:{node.name}"
        for module, tree in sources().items()
        if part(module) in ("crypto", "core", "flows")
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
        if not ast.get_docstring(node) and lines(node) > 4
    ]
    assert silent == []


def test_no_name_is_a_drawer() -> None:
    banned = re.compile(r".*_(service|manager|helper|util|utils)$|^(utils|helpers|common|misc)$")
    assert [m for m in sources() if banned.match(m.split(".")[-1])] == []


def all_refusals() -> list[type[Refusal]]:
    return [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, Refusal) and c is not Refusal]


def test_every_refusal_has_a_status_and_a_code_of_its_own() -> None:
    assert set(problems.STATUS) == set(all_refusals())
    assert len({refused.code for refused in all_refusals()}) == len(all_refusals())
    assert set(problems.STATUS.values()) <= set(problems.TITLES)


def test_every_route_is_declared() -> None:
    app = create_app(Settings(_env_file=None, **SECRETS, **CHEAP))
    declared = {
        (e.method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", s.prefix + e.path)) for s in SURFACES for e in s.endpoints
    } | {(method.upper(), path) for path, operations in WEBHOOKS.items() for method in operations}
    routed = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        if not rule.endpoint.startswith(("ops.", "dev."))
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    documented = {
        (method.upper(), path) for path, operations in document(SURFACES)["paths"].items() for method in operations
    }
    pages = {"/docs", "/redoc", "/openapi.json", "/docs/static/{name}", "/metrics"}
    operations = {
        ("GET", re.sub(r"<(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith("ops.")
    }
    assert routed == declared == {(m, p) for m, p in documented if p not in OPERATIONS}
    assert {p for _, p in operations} - pages == OPERATIONS.keys() - pages


def test_each_schema_of_the_document_stands_for_one_body() -> None:
    bodies = {endpoint.body for surface in SURFACES for endpoint in surface.endpoints if endpoint.body}
    names = [body.__name__ for body in bodies]
    assert [name for name in names if names.count(name) > 1] == []


def test_administration_is_closed_unless_its_endpoint_says_to_whom_it_opens() -> None:
    [admin] = [surface for surface in SURFACES if surface.name == "admin"]
    assert [e.name for e in admin.endpoints if e.guard.permission is None] == []
    assert [e.name for e in admin.endpoints if e.method != "GET" and not e.guard.recent] == []
    assert [e.name for e in admin.endpoints if e.method != "GET" and e.guard.scope] == []
    elsewhere = [e.name for s in SURFACES if s is not admin for e in s.endpoints if e.guard.permission]
    assert elsewhere == []


def test_what_a_role_may_do_is_said_in_one_place() -> None:
    words = re.compile(r"role\b.{0,12}(==|!=| in ).{0,4}'(admin|doctor)'")
    assert [m for m in sources() if words.search(ast.unparse(sources()[m])) and m != "app.core.roles"] == []


def test_every_event_is_written_somewhere() -> None:
    text = "".join(ast.unparse(tree) for tree in sources().values())
    assert [event.name for event in Event if f"Event.{event.name}" not in text] == []


@pytest.mark.parametrize("name", generate.TARGETS)
def test_what_is_derived_from_the_code_is_up_to_date(name: str) -> None:
    assert (ROOT / name).read_text() == generate.TARGETS[name](), "run: python -m tools.generate"


def test_each_exception_to_a_check_has_a_reason() -> None:
    exception = re.compile(r"# *(noqa|type: *ignore)")
    reasoned = re.compile(r"# (noqa: [A-Z]+\d+|type: ignore\[[a-z-]+\])[^\w]+[a-z]+(\W+\w+)+")
    lines = [(path, line) for path in APP.rglob("*.py") for line in path.read_text().splitlines()]
    assert [(path.name, line) for path, line in lines if exception.search(line) and not reasoned.search(line)] == []


def test_the_common_words_of_unfinished_work_are_absent() -> None:
    pattern = re.compile(r"TODO|FIXME|XXX|NotImplementedError|pragma: no cover")
    for path in APP.rglob("*.py"):
        assert not pattern.search(path.read_text()), path
