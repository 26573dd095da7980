"""setup.bat and run.bat in Wine's cmd: each step runs, each failure stops, and what failed before does not count.

Python is a program here that notes how it was called and fails when it is told to, in a folder with a space. Needs
Wine and a C compiler for Windows (Debian: `wine`, `gcc-mingw-w64-x86-64-win32`), which is not
Windows; nothing is installed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.report import Report

ROOT = Path(__file__).resolve().parent.parent
COMPILER = "x86_64-w64-mingw32-gcc"
PYTHON = r"""
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
int main(int argc, char **argv) {
    FILE *log = fopen(getenv("CALLS"), "a");
    char line[4096] = "", *fails = getenv("FAILS");
    for (int i = 1; i < argc; i++) { strcat(line, i > 1 ? " " : ""); strcat(line, argv[i]); }
    fprintf(log, "%s %s\n", strstr(argv[0], "Scripts") ? "venv" : "python", line);
    fclose(log);
    return strstr(line, fails) ? 3 : 0;
}
"""
NEVER = "nothing"
PIP = "venv -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt"
UPGRADE, SERVE = "venv -m flask db upgrade", "venv -m app"


@dataclass
class Case:
    what: str
    file: str
    fails: str  # the call that fails: what its words contain
    venv: bool  # there is an environment already
    before: str  # what ran in the same window before
    code: int
    last: str  # the last call, as it begins


CASES = [
    Case("no Python that is new enough", "setup.bat", "version_info", False, "", 1, "python -c import sys"),
    Case("no environment can be made", "setup.bat", "-m venv", False, "", 1, "python -m venv --clear .venv"),
    Case("the environment is half made", "setup.bat", "import pip", True, "", 0, UPGRADE),
    Case("and cannot be made anew", "setup.bat", "venv", True, "", 1, "python -m venv --clear .venv"),
    Case("the packages do not install", "setup.bat", "pip install", True, "", 1, PIP),
    Case("the database does not upgrade", "setup.bat", "db upgrade", True, "", 1, UPGRADE),
    Case("all goes well", "setup.bat", NEVER, True, "", 0, UPGRADE),
    Case("all goes well, after a failure before", "run.bat", NEVER, True, "cmd /c exit 3", 0, SERVE),
    Case("the packages changed", "run.bat", "filecmp", True, "", 0, SERVE),
    Case("the environment is half made", "run.bat", "import pip", True, "", 0, SERVE),
    Case("the first run without a Python", "run.bat", "version_info", False, "", 1, "python -c import sys"),
    Case("the database does not upgrade", "run.bat", "db upgrade", True, "", 1, UPGRADE),
    Case("the service ends with an error", "run.bat", "-m app", True, "", 1, SERVE),  # Wine makes 1 of any error
]


def options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(wine=shutil.which("wine"), compiler=shutil.which(COMPILER))


def run(given: argparse.Namespace) -> Report:
    report = Report()
    if not given.wine or not given.compiler:
        report.check("Wine and a C compiler for Windows", "missing", "there", False)
        return report
    with tempfile.TemporaryDirectory(prefix="latchkey-wine-") as home:
        folder = _folder(Path(home))
        rows = [_try(case, Path(home), folder) for case in CASES]
        subprocess.run(["wineserver", "-k"], check=False, env=_environment(Path(home)), capture_output=True)
    report.tables["what the batch files end with, and their last call"] = rows
    wrong = [row["case"] for row in rows if not row["right"]]
    report.check(f"cases of {len(rows)} that went another way", len(wrong), "0", not wrong)
    return report


def _folder(home: Path) -> Path:
    folder = home / "a folder"
    (folder / "tools").mkdir(parents=True)
    (home / "python.c").write_text(PYTHON)
    subprocess.run([COMPILER, "-o", str(folder / "tools" / "python.exe"), str(home / "python.c")], check=True)
    for name in ("setup.bat", "run.bat", "requirements.txt"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def _environment(home: Path) -> dict[str, str]:
    tools = "Z:" + str(home / "a folder" / "tools").replace("/", "\\")
    wine = {
        "WINEPREFIX": str(home / "prefix"),
        "WINEDEBUG": "-all",
        "WINEDLLOVERRIDES": "mscoree,mshtml=",
        "WINEPATH": tools,
    }
    return {"PATH": os.environ["PATH"], "HOME": str(home), **wine}


def _try(case: Case, home: Path, folder: Path) -> dict[str, object]:
    calls, scripts = folder / "calls.txt", folder / ".venv" / "Scripts"
    calls.write_text("")
    shutil.rmtree(folder / ".venv", ignore_errors=True)
    if case.venv:
        scripts.mkdir(parents=True)
        shutil.copy(folder / "tools" / "python.exe", scripts / "python.exe")
    outer = f"@echo off\r\n{case.before}\r\ncall {case.file}\r\nexit %errorlevel%\r\n"
    (folder / "outer.bat").write_text(outer, newline="")
    done = subprocess.run(
        ["wine", "cmd", "/c", "outer.bat"], check=False, cwd=folder, capture_output=True, stdin=subprocess.DEVNULL,
        timeout=300, env={**_environment(home), "CALLS": "calls.txt", "FAILS": case.fails},
    )  # fmt: skip
    last = ([*calls.read_text().splitlines()] or [""])[-1]
    right = done.returncode == case.code and last.startswith(case.last)
    return {"file": case.file, "case": case.what, "ends with": done.returncode, "last call": last[:40], "right": right}
