"""What the service is made of: licences, bill of materials, and an audit that never calls silence good news."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from email.message import Message
from importlib.metadata import Distribution
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.deploy.checkout import ROOT
from tools import supply

CLEAN = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-2026-1"}]}
SKIPPED = {"name": "c", "skip_reason": "Dependency not found on PyPI and could not be audited: c (3)"}


def test_every_package_that_runs_has_a_licence_that_is_allowed() -> None:
    found, missing = supply.licences()
    assert {name: text for name, text in found.items() if not supply.allowed(text)} == {}
    assert len(found) > 50
    assert set(missing) <= {"async-timeout", "colorama", "tzdata", "waitress"}, "these are for other systems"


@pytest.mark.parametrize(
    ("expression", "fine"),
    [("MIT", True), ("Apache-2.0 OR BSD-3-Clause", True), ("GPL-3.0-only OR MIT", True), ("Apache-2.0 AND MIT", True),
     ("MIT AND GPL-3.0-only", False), ("GPL-3.0-or-later", False), ("AGPL-3.0-only", False), ("none", False)],
)  # fmt: skip
def test_a_licence_is_allowed_by_name(expression: str, fine: bool) -> None:
    assert supply.allowed(expression) is fine


@pytest.mark.parametrize("written", ["Apache 2", "Apache 2.0", "Apache-2.0"])
def test_a_licence_is_known_as_its_package_writes_it(written: str) -> None:
    said = Message()
    said["License"] = written
    assert supply.licence(cast(Distribution, SimpleNamespace(metadata=said))) == "Apache-2.0"


@pytest.mark.parametrize(
    ("words", "code", "package"), [(["audit"], 3, "pip-audit"), (["sbom", "sbom.json"], 1, "cyclonedx-bom")]
)
def test_in_an_environment_that_only_runs_the_service_it_says_what_is_missing(
    words: list[str], code: int, package: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supply, "find_spec", lambda _: None)
    assert supply.main(words) == code
    told = capsys.readouterr().err
    assert told == f"{package} is not installed here: it is in requirements-dev.txt\n"
    assert f"{package}==" in (ROOT / "requirements-dev.txt").read_text()


@pytest.mark.covers("asvs 15.1.2")
def test_the_bill_of_materials_names_every_locked_package_with_hash_and_licence(tmp_path: Path) -> None:
    target = tmp_path / "sbom.json"
    assert supply.main(["sbom", str(target)]) == 0
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(target.read_text()) is None
    bill = json.loads(target.read_text())
    assert {part["name"]: part["version"] for part in bill["components"]} == supply.locked()
    for part in bill["components"]:
        assert part["externalReferences"][0]["hashes"], part["name"]
    known, _ = supply.licences()
    assert {part["name"] for part in bill["components"] if part.get("licenses")} == set(known)
    assert bill["metadata"]["component"]["name"] == "latchkey"


@pytest.mark.parametrize(
    ("parts", "code", "said"),
    [([CLEAN], 0, "1 packages checked"), ([CLEAN, BAD], 1, "b 2: PYSEC-2026-1"), ([SKIPPED], 3, "*** NOT CHECKED"),
     ([CLEAN, SKIPPED], 3, "1 of 2 packages"), ([], 3, "*** NOT CHECKED"), ([BAD, SKIPPED], 1, "*** NOT CHECKED")],
)  # fmt: skip
def test_what_was_not_checked_is_never_good_news(parts: list[dict[str, Any]], code: int, said: str) -> None:
    ended, lines = supply.judged({"dependencies": parts}, max(1, len(parts)))
    assert ended == code
    assert said in "\n".join(lines)


def test_an_audit_that_reaches_nobody_says_so() -> None:
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1", "HOME": "/nowhere"}
    done = subprocess.run(
        [sys.executable, "-m", "tools.supply", "audit"], cwd=ROOT, env={"PATH": os.environ["PATH"], **nowhere},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 3, done.stdout + done.stderr
    every = supply.locked(supply.EXTRAS)
    assert every.items() > supply.locked().items()
    assert f"*** NOT CHECKED for known vulnerabilities: {len(every)} of {len(every)}" in done.stderr


def test_ci_asks_for_the_audit_and_fails_on_what_it_finds() -> None:
    last = (ROOT / ".ci" / "run").read_text().splitlines()[-1]
    for code in (0, 1, 3):
        script = f"set -e; {last.replace('.venv/bin/python -m tools.supply audit', f'(exit {code})')}"
        assert subprocess.run(["bash", "-c", script]).returncode == (0 if code in (0, 3) else 1)
    assert "tools.supply audit" in last
