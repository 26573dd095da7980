"""What the service is made of: its licences, its bill of materials, and what is known against it.

python -m tools.supply licences          lists the licence of each locked package; ends with 1 if one is not allowed
python -m tools.supply sbom FILE         writes a CycloneDX bill of materials of requirements.txt, with licences
python -m tools.supply audit             asks for known vulnerabilities, of what is optional too; ends with 1 if there
                                         are some, and with 3 if a package could not be checked, which is no good news

The last two need what requirements-dev.txt brings.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.txt"
EXTRAS = ROOT / "requirements-extras.txt"  # the same, and what is optional
FOUND, NOT_CHECKED = 1, 3
# Licences that ask for no more than their text to be kept; and two that ask more of who changes the library itself,
# which nobody here does: MPL-2.0 (certifi) and the LGPL with its exception for applications (psycopg2).
ALLOWED = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSD", "ISC", "LGPL with exceptions", "MIT", "MIT-0",
    "MPL-2.0", "PSF-2.0", "Unlicense", "ZPL-2.1",
}  # fmt: skip
# How packages without a licence expression write theirs.
WRITTEN = {
    "Apache 2": "Apache-2.0", "Apache 2.0": "Apache-2.0", "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0", "BSD License": "BSD", "MIT License": "MIT", "ZPL 2.1": "ZPL-2.1",
    "Python Software Foundation License": "PSF-2.0",
}  # fmt: skip
NO_SPDX = {"BSD", "LGPL with exceptions"}


def locked(file: Path = LOCK) -> dict[str, str]:
    """The packages of a lock with their versions."""
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", file.read_text(), re.MULTILINE))


def licence(found: Distribution) -> str:
    """The licence that a package declares, as an SPDX expression where it has one."""
    said = found.metadata
    classified = [c.rpartition(" :: ")[2] for c in said.get_all("Classifier", []) if c.startswith("License :: ")]
    text = said.get("License-Expression") or (said.get("License") or "").strip().split("\n")[0]
    text = text or (classified[0] if len(classified) == 1 else "")
    return WRITTEN.get(text, text) or "none"


def allowed(expression: str) -> bool:
    """True if every part of an `AND`, or one of an `OR`, is on the list."""
    if expression in ALLOWED:
        return True
    if " OR " in expression:
        return any(map(allowed, expression.split(" OR ")))
    return " AND " in expression and all(map(allowed, expression.split(" AND ")))


def licences() -> tuple[dict[str, str], list[str]]:
    """The licence of each locked package that is installed, and those that are not, as for another system."""
    found, missing = {}, []
    for name in locked():
        try:
            found[name] = licence(distribution(name))
        except PackageNotFoundError:
            missing.append(name)
    return found, missing


def is_there(module: str, package: str) -> bool:
    """Whether a tool is installed; if not, it is said where it is to be had."""
    if find_spec(module):
        return True
    print(f"{package} is not installed here: it is in requirements-dev.txt", file=sys.stderr)
    return False


def sbom() -> dict[str, Any]:
    """A CycloneDX bill of materials: every locked package with its hashes, and its licence where it is installed."""
    command = ["cyclonedx_py", "requirements", str(LOCK), "--pyproject", str(ROOT / "pyproject.toml")]
    words = [
        "--mc-type",
        "application",
        "--output-reproducible",
        "--no-validate",
        "--sv",
        "1.6",
        "--of",
        "JSON",
        "-o",
        "-",
    ]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", *command, *words], capture_output=True, text=True, check=True
    )
    bill: dict[str, Any] = json.loads(done.stdout)
    known, _ = licences()
    for part in bill["components"]:
        if text := known.get(part["name"]):
            one = {"license": {"name": text}} if text in NO_SPDX else {"expression": text}
            part["licenses"] = [one]
        part.pop("description", None)  # the lines of the lock, which say the same again
    return bill


def judged(report: dict[str, Any], expected: int) -> tuple[int, list[str]]:
    """What a report of pip-audit comes to: how to end, and the lines to print. Its own end is 0 also when it could
    check nothing, so what it skipped is counted, and so is what it does not mention.
    """
    parts = report.get("dependencies", [])
    bad = [(p["name"], p["version"], v["id"]) for p in parts for v in p.get("vulns", ())]
    checked = sum(1 for part in parts if "skip_reason" not in part)
    lines = [f"{name} {version}: {known}" for name, version, known in bad]
    if checked < expected:
        lines.append(
            f"*** NOT CHECKED for known vulnerabilities: {expected - checked} of {expected} packages. "
            "The service that knows them was not reached. ***"
        )
    else:
        lines.append(f"{checked} packages checked for known vulnerabilities, {len(bad)} found.")
    return FOUND if bad else NOT_CHECKED if checked < expected else 0, lines


def audit() -> int:
    if not is_there("pip_audit", "pip-audit"):
        return NOT_CHECKED
    words = ["--disable-pip", "--require-hashes", "--progress-spinner", "off", "--timeout", "10", "-f", "json"]
    command = [sys.executable, "-m", "pip_audit", "-r", str(EXTRAS), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    report = json.loads(done.stdout) if done.stdout.startswith("{") else {}
    code, lines = judged(report, len(locked(EXTRAS)))
    print("\n".join(lines), file=sys.stderr if code else sys.stdout)
    return code


def _licences() -> int:
    found, missing = licences()
    for name, text in sorted(found.items()):
        print(f"{name:24} {text}{'' if allowed(text) else '   *** NOT ALLOWED ***'}")
    for name in missing:
        print(f"{name:24} not installed here, so not looked at")
    return 0 if all(map(allowed, found.values())) else FOUND


def main(words: list[str]) -> int:
    if words == ["licences"]:
        return _licences()
    if words == ["audit"]:
        return audit()
    if len(words) == 2 and words[0] == "sbom":
        if not is_there("cyclonedx_py", "cyclonedx-bom"):
            return 1
        Path(words[1]).write_text(json.dumps(sbom(), indent=1) + "\n")
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
