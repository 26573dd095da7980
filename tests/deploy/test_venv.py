"""tools/venv.sh: an environment with the packages of the lock, whatever state the one that is there is in."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deploy.checkout import ROOT

pytestmark = pytest.mark.slow

NOTHING = "requirements-none.txt"  # to be installed: pip takes no network for it


def ensure(folder: Path) -> str:
    """What run.sh does before it starts the service; what it said."""
    shutil.copytree(ROOT / "tools", folder / "tools", dirs_exist_ok=True)
    (folder / NOTHING).touch()
    words = f"set -eu; . ./tools/venv.sh; ensure_venv {NOTHING}; .venv/bin/python -m pip --version"
    path = f"{Path(sys.executable).resolve().parent}:/usr/bin:/bin"
    done = subprocess.run(
        ["sh", "-c", words], cwd=folder, env={"PATH": path}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def has_no_pip(venv: Path) -> None:
    """As on Debian without python3-venv, or when somebody lost patience."""
    for found in venv.glob("lib/python3*/site-packages/pip*"):
        shutil.rmtree(found)


def lost_its_interpreter(venv: Path) -> None:
    (venv / "bin" / "python").unlink()
    (venv / "bin" / "python").symlink_to("/nonexistent/python3")


def has_a_newer_interpreter(venv: Path) -> None:
    """Which looks for its packages in another folder."""
    [packages] = venv.glob("lib/python3*")
    packages.rename(packages.with_name("python3.5"))


@pytest.mark.parametrize("harm", [has_no_pip, lost_its_interpreter, has_a_newer_interpreter])
def test_an_environment_that_does_not_work_is_made_anew(harm: Callable[[Path], None], tmp_path: Path) -> None:
    assert f"Installing {NOTHING}" in ensure(tmp_path)
    (tmp_path / ".venv" / "mine").touch()
    assert "Installing" not in ensure(tmp_path)
    harm(tmp_path / ".venv")
    assert f"Installing {NOTHING}" in ensure(tmp_path)
    assert not (tmp_path / ".venv" / "mine").exists(), "nothing of it is left"
    assert "Installing" not in ensure(tmp_path)


def test_what_was_installed_for_another_python_is_installed_again(tmp_path: Path) -> None:
    """As where somebody makes it anew by hand, over the old one."""
    ensure(tmp_path)
    [stamp] = (tmp_path / ".venv").glob(f"installed-*{NOTHING}")
    ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
    stamp.rename(stamp.with_name(stamp.name.replace(ours, "3.5")))
    assert f"Installing {NOTHING}" in ensure(tmp_path)


@pytest.mark.parametrize("link", [True, False])
def test_an_environment_that_somebody_else_made_is_not_emptied(link: bool, tmp_path: Path) -> None:
    """A link to a shared one, or one of uv, which has no pip: its packages are its owner's."""
    theirs = tmp_path / "theirs" if link else tmp_path / ".venv"
    theirs.mkdir()
    (theirs / "precious").touch()
    if link:
        (tmp_path / ".venv").symlink_to(theirs)
    else:
        (theirs / "pyvenv.cfg").write_text("home = /usr/bin\nuv = 0.9.0\n")
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    words = ["sh", "-c", f"set -eu; . ./tools/venv.sh; ensure_venv {NOTHING}"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, (theirs / "precious").exists()) == (1, True)
    assert "was not made here" in done.stderr
