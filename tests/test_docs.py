"""The documents say what the code does."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

import pytest

from app.config import Settings
from app.version import VERSION

ROOT = Path(__file__).resolve().parent.parent
LIMITS = (ROOT / "docs" / "limits.md").read_text()


@pytest.mark.covers("asvs 6.1.1", "asvs 2.1.3")
def test_the_limits_page_has_the_defaults_of_the_settings() -> None:
    named = re.findall(r"`([A-Z_]+)` = ([\d]+)", LIMITS)
    assert len(named) >= 12
    for name, value in named:
        assert Settings.model_fields[name.lower()].default == int(value), name


def test_the_limits_page_has_the_constants_of_the_code() -> None:
    named = re.findall(r"`((?:core|web)\.\w+)\.([A-Z_]+)` = ([\w :,]+?) \|", LIMITS)
    assert len(named) >= 6
    for module, name, value in named:
        assert str(getattr(importlib.import_module(f"app.{module}"), name)) == value, name


@pytest.mark.covers("asvs 6.1.1")
def test_every_setting_that_bounds_something_is_on_the_limits_page() -> None:
    bounding = (
        "otp_max",
        "otp_ttl",
        "otp_resend",
        "lockout",
        "sends_per",
        "sms_cap",
        "sms_budget",
        "jwt_access_ttl",
        "jwt_refresh_ttl",
        "session_max",
        "step_up",
    )
    for name in Settings.model_fields:
        if name.startswith(bounding):
            assert f"`{name.upper()}`" in LIMITS, name


def test_the_version_is_said_once() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION


def test_every_direct_dependency_has_its_reason() -> None:
    reasons = (ROOT / "docs" / "dependencies.md").read_text().lower()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    known_as = {"psycopg2-binary": "psycopg2", "pyjwt": "pyjwt", "types-pymysql": "pymysql"}
    for line in [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]:
        name = re.split(r"[><=;\s]", line)[0].lower()
        if name.startswith("types-") or name in ("ruff", "mypy"):
            continue
        assert known_as.get(name, name) in reasons, name


@pytest.mark.covers("asvs 15.2.4", "attack A79")
@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "requirements-servers.txt"])
def test_every_package_is_pinned_with_hashes_and_names_no_host(name: str) -> None:
    text = (ROOT / name).read_text()
    packages = re.split(r"\n(?=\S)", text.strip())
    for package in packages:
        if not package.startswith("#"):
            assert re.match(r"[\w.-]+(\[\w+\])?==[\w.]+", package), package[:80]
            assert "--hash=sha256:" in package, package[:80]
    assert "://" not in text
    assert "index-url" not in text
