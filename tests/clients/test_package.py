"""The package as others install it: small, typed, and free of what they do not use."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.backends import ROOT
from tests.clients.mint import AUDIENCE, ISSUER, KEY, NOW, shared
from tests.clients.test_guide import GUIDE, PACKAGE_PAGE

PACKAGE = ROOT / "clients" / "python" / "latchkey_client"
SOURCES = sorted(PACKAGE.glob("*.py"))
PROJECT = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]


def test_it_installs_by_the_line_of_its_page_with_its_types(tmp_path: Path) -> None:
    [line] = re.findall(r"^```sh\n(.*?)\n```", PACKAGE_PAGE, re.MULTILINE | re.DOTALL)
    # What pip would fetch is here already. PIP_NO_BUILD_ISOLATION=0 switches isolation off.
    given = {"PIP_TARGET": str(tmp_path), "PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}
    path = f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", line], cwd=ROOT, env={**os.environ, **given, "PATH": path}, capture_output=True, timeout=120
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    installed = {path.name for path in (tmp_path / "latchkey_client").iterdir()}
    assert installed - {"__pycache__"} == {path.name for path in SOURCES} | {"py.typed"}


def test_with_shared_secrets_it_needs_pyjwt_alone_and_imports_no_framework() -> None:
    assert [re.split(r"[><=]", each)[0] for each in PROJECT["dependencies"]] == ["pyjwt"]
    program = (
        "import sys\n"
        "sys.modules['cryptography'] = None\n"
        f"sys.path.insert(0, {str(PACKAGE.parent)!r})\n"
        "from latchkey_client import Verifier\n"
        f"made = Verifier(issuer={ISSUER!r}, audience={AUDIENCE!r}, secrets=[{KEY!r}], clock=lambda: {NOW})\n"
        f"print(made.verify({shared(KEY).token()!r}).role)\n"
        "print(sorted({'fastapi', 'flask', 'django', 'starlette'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "user\n[]\n", done.stderr


def test_what_the_pages_tell_to_install_is_what_the_example_installs() -> None:
    [line] = re.findall(r"^pip install '(.+?)\[(\w+)\]' (.+)$", GUIDE, re.MULTILINE)
    folder, extra, others = line
    assert (ROOT / folder).samefile(PACKAGE.parent)
    assert extra in PROJECT["optional-dependencies"]
    assert f"{folder}[{extra}]" in PACKAGE_PAGE
    wanted = (ROOT / "examples" / "fastapi" / "requirements.txt").read_text().split()
    assert [re.split(r"[><=]", each)[0] for each in wanted] == [
        f"../../{folder.removeprefix('./')}[{extra}]",
        *others.split(),
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_it_keeps_to_the_house(path: Path) -> None:
    tree, text = ast.parse(path.read_text()), path.read_text()
    assert len(text.splitlines()) <= 300
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    assert [f.name for f in functions if (f.end_lineno or 0) - f.lineno + 1 > 40] == []
    inside = [n for f in functions for n in ast.walk(f) if isinstance(n, (ast.Import, ast.ImportFrom))]
    assert inside == []
    for line in text.splitlines():
        assert not re.search(r"#\s*(noqa|type: *ignore)", line) or re.search(r"(\]|\d)[^\w]+[a-z]+(\W+\w+)+$", line), (
            line
        )


@pytest.mark.covers("asvs 15.2.4", "attack A79")
def test_the_lock_of_the_express_example_has_hashes_and_names_no_registry() -> None:
    folder = ROOT / "examples" / "node"
    lock = json.loads((folder / "package-lock.json").read_text())
    wanted = json.loads((folder / "package.json").read_text())["dependencies"]
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert {f"node_modules/{name}" for name in wanted} <= packages.keys()
    for name, package in packages.items():
        assert package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, name
        assert not package.get("hasInstallScript"), name
