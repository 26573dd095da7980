"""The documents say what the code does."""

from __future__ import annotations

import importlib
import re
import shlex
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest

from app import create_app
from app.config import Settings
from app.version import VERSION
from tests.lanes import CHEAP, SECRETS

ROOT = Path(__file__).resolve().parent.parent
PINNED = ("requirements.txt", "requirements-extras.txt", "requirements-dev.txt")
SETTINGS = Settings(_env_file=None, database_url="sqlite:///never-opened.db", **SECRETS, **CHEAP)
LIMITS = (ROOT / "docs" / "limits.md").read_text()


@pytest.mark.covers("asvs 6.1.1", "asvs 2.1.3")
def test_the_limits_page_has_the_defaults_of_the_settings() -> None:
    named = re.findall(r"`([A-Z_]+)` = (\d+(?:\.\d+)?)", LIMITS)
    assert len(named) >= 12
    for name, value in named:
        assert Settings.model_fields[name.lower()].default == float(value), name


@pytest.mark.covers("asvs 7.1.1")
def test_the_limits_page_says_why_sessions_last_longer_than_nist_has_it_and_how_to_shorten_them() -> None:
    longest = {"session_max_age": 24 * 3600, "jwt_refresh_ttl": 3600}
    exceeded = [name for name, most in longest.items() if Settings.model_fields[name].default > most]
    reason = LIMITS.partition("**How long a session lasts.**")[2].partition("\n\n")[0]
    assert "for apps are to stay signed in" in reason.replace("\n", " ")
    assert [name for name in exceeded if f"`{name.upper()}`" not in reason] == []


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
    extras = [line for lines in project["project"]["optional-dependencies"].values() for line in lines]
    for line in [*project["project"]["dependencies"], *extras, *project["dependency-groups"]["dev"]]:
        name = re.split(r"[><=;\s]", line)[0].lower()
        if name.startswith("types-") or name in ("ruff", "mypy"):
            continue
        assert known_as.get(name, name) in reasons, name


@pytest.mark.covers("asvs 15.2.4", "attack A79")
@pytest.mark.parametrize("name", [*PINNED, "requirements-servers.txt"])
def test_every_package_is_pinned_with_hashes_and_names_no_host(name: str) -> None:
    text = (ROOT / name).read_text()
    packages = re.split(r"\n(?=\S)", text.strip())
    for package in packages:
        if not package.startswith("#"):
            assert re.match(r"[\w.-]+(\[\w+\])?==[\w.]+", package), package[:80]
            assert "--hash=sha256:" in package, package[:80]
    assert "://" not in text
    assert "index-url" not in text


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 200


def test_the_start_page_leads_to_every_page() -> None:
    start = (ROOT / "docs" / "README.md").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs").as_posix()
        assert name == "README.md" or f"]({name})" in start, name


PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "bench").glob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_link_of_a_page_leads_nowhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_the_extras_come_with_the_same_versions_as_without_them() -> None:
    pins = {name: dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / name).read_text(), re.MULTILINE)) for name in PINNED}
    usual, extras, dev = (pins[name] for name in PINNED)
    assert usual.items() <= extras.items() <= dev.items()
    assert {"sentry-sdk", "opentelemetry-sdk"} <= extras.keys() - usual.keys()


def commands() -> list[tuple[str, list[str]]]:
    """Every `flask ...` line of the pages, in words; what follows a pipe or a comment is not ours."""
    found = []
    for page in PAGES:
        for block in re.findall(r"^ *```(?:sh|console)\n(.*?)^ *```", page.read_text(), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if said := re.search(r"\bflask ([^|;>#]+)", line):
                    found.append((page.relative_to(ROOT).as_posix(), shlex.split(said[1].partition("&&")[0])))
    return found


@cache
def flask() -> click.Group:
    return create_app(SETTINGS).cli


@pytest.mark.parametrize(
    ("page", "words"), commands(), ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_every_flask_command_of_a_page_is_one(page: str, words: list[str]) -> None:
    command: Any = flask()
    context = click.Context(command, info_name="flask")
    while isinstance(command, click.Group):
        name, words = words[0], words[1:]
        command = command.get_command(context, name)
        assert command, (page, name)
        context = click.Context(command, info_name=name, parent=context)
    parser = command.make_parser(context)
    parser.parse_args(list(words))  # an option that there is not is a usage error


def test_the_pages_name_many_commands() -> None:
    assert len(commands()) > 20


def test_every_program_of_a_page_is_there() -> None:
    for page in PAGES:
        for name in re.findall(r"python -m bench (\w+)", page.read_text()):
            assert (ROOT / "bench" / f"{name}.py").exists(), (page.name, name)


def units(page: str) -> list[dict[str, list[tuple[str, str]]]]:
    """The systemd units that a page shows: the settings of each section, in their order."""
    found = []
    for block in re.findall(r"^```ini\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL):
        unit: dict[str, list[tuple[str, str]]] = {}
        for line in block.splitlines():
            if line.startswith("["):
                section = unit.setdefault(line.strip("[]"), [])
            elif "=" in line and not line.startswith("#"):
                name, _, value = line.partition("=")
                section.append((name, value))
        found.append(unit)
    return found


def test_the_socket_of_systemd_is_the_one_that_the_unit_binds_and_takes_nothing_of_the_unit_away() -> None:
    [bound] = re.findall(r"--bind (127\.0\.0\.1:\d+)$", (ROOT / "deploy/latchkey.service").read_text(), re.MULTILINE)
    shown = units("docs/upgrading.md")
    assert [value for unit in shown for name, value in unit.get("Socket", []) if name == "ListenStream"] == [bound]
    assert all("EnvironmentFile" in dict(unit["Service"]) for unit in shown if "Service" in unit)
    assert {"Requires", "After"} <= {name for unit in shown for name, _ in unit.get("Unit", [])}


def test_the_settings_for_production_name_the_proxies_that_an_https_address_means() -> None:
    [block] = re.findall(r"^```ini\n(ENVIRONMENT=production\n.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    given = dict(line.split("=", 1) for line in block.splitlines() if not line.startswith("#"))
    assert given["PUBLIC_URL"].startswith("https://")
    assert given["TRUSTED_PROXIES"] == "1"
    assert given.keys() <= {name.upper() for name in Settings.model_fields}
    assert " #" not in block, "neither systemd nor docker takes a comment behind a value"
