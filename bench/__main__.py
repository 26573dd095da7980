"""`python -m bench NAME [--short] [--json FILE]`; without a name, what there is."""

from __future__ import annotations

import argparse
import ast
import json
import sys
from importlib import import_module
from pathlib import Path

from bench.report import as_json, show

PROGRAMS = (
    "sms_hang",
    "shield",
    "races",
    "import_users",
    "people",
    "last_admin",
    "revoked",
    "machines",
    "stats",
    "tokens",
    "kinds",
    "budget",
    "enumeration",
    "windows",
    "deploy",
    "restarts",
    "slow_clients",
    "memory",
    "rotation",
    "costs",
    "courier",
    "overload",
    "speed",
    "growth",
    "fuzz",
    "planted",
    "mutants",
    "faults",
)


def main(words: list[str]) -> int:
    """Run one program. Returns 0 if every bound was met, 1 if not, 2 if there is no such program."""
    name = words[0].replace("-", "_") if words else ""
    if name not in PROGRAMS:
        for each in PROGRAMS:
            source = Path(__file__).with_name(f"{each}.py").read_text(encoding="utf-8")  # to import all takes seconds
            print(f"{each:12} {(ast.get_docstring(ast.parse(source)) or '').splitlines()[0]}")
        return 2 if words else 0
    program = import_module(f"bench.{name}")
    parser = argparse.ArgumentParser(prog=f"python -m bench {name}", description=program.__doc__)
    parser.add_argument("--short", action="store_true", help="the short form")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    program.options(parser)
    options = parser.parse_args(words[1:])
    report = program.run(options)
    show(report)
    if options.json:
        options.json.write_text(json.dumps(as_json(name, options, report), indent=1, default=float) + "\n")
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
