"""Runs the lines of a Dockerfile without an engine: each stage is a folder, COPY and RUN work in it as its root, and the last
one runs as its user on a read-only file system. Needs root and mount namespaces.

Of the base image there is what this machine has: its Python stands at /usr/local, as in the official image, its programs at /usr.
"""

from __future__ import annotations

import fnmatch
import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

LENT = "/lent"  # the packages of this environment, in each stage
FORMS = ("ARG", "CMD", "COPY", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "RUN", "USER", "WORKDIR")


def possible() -> bool:
    """True where this process may mount."""
    if not shutil.which("unshare") or os.geteuid() != 0:
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0


def lines(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile: name and rest."""
    joined = text.replace("\\\n", " ")
    found = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    assert {word for word, _ in found} <= set(FORMS)
    return [(word, rest.strip()) for word, rest in found]


def context(source: Path, target: Path) -> None:
    """What an engine would be sent: the files that .dockerignore lets through."""
    rules = [r for r in (source / ".dockerignore").read_text().splitlines() if r and not r.startswith("#")]
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        name = path.relative_to(source)
        if not _ignored(name, rules):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target / name)


def _ignored(name: Path, rules: list[str]) -> bool:
    every = [str(part) for part in (name, *name.parents)][:-1]
    ignored = False
    for rule in rules:
        pattern = rule.removeprefix("!").removeprefix("**/")
        anywhere = rule.startswith("**/")
        if any(fnmatch.fnmatch(Path(p).name if anywhere else p, pattern) and (anywhere or "/" in pattern or "/" not in p)
               for p in every):  # fmt: skip
            ignored = not rule.startswith("!")
    return ignored


@dataclass
class Stage:
    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "0:0"
    command: list[str] = field(default_factory=list)
    check: list[str] = field(default_factory=list)

    def words(self, command: list[str], *, read_only: bool, given: dict[str, str]) -> list[str]:
        """The command line that runs something with this stage as its root."""
        inside = {"PATH": "/usr/local/bin:/usr/bin:/bin", **self.arguments, **self.environment, **given}
        user, _, group = self.user.partition(":")
        script = "\n".join([*self._mounts(read_only=read_only), f"cd {self.root}", 'exec "$@"'])
        env = ["env", "-i", *(f"{name}={value}" for name, value in inside.items())]
        drop = [
            "setpriv",
            f"--reuid={user}",
            f"--regid={group}",
            "--clear-groups",
            "--no-new-privs",
            "--bounding-set=-all",
        ]
        into = ["chroot", str(self.root), *(drop if read_only else [])]
        at = ["sh", "-c", 'cd "$0" && exec "$@"', self.folder]
        return [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-euc",
            script,
            "sh",
            *into,
            *env,
            *at,
            *command,
        ]

    def _mounts(self, *, read_only: bool) -> list[str]:
        """The base image, and the things that an engine provides."""
        r = self.root
        bound = ["/usr", "/dev", *(p for p in ("/opt/pypi", "/opt/pypi-more", "/opt/wheels") if not read_only)]
        made = [f"mount --bind {r} {r}", f"mkdir -p {r}/proc {r}/tmp {r}/etc"]
        for path in bound:
            made += [f"[ ! -e {path} ] || {{ mkdir -p {r}{path} && mount --rbind {path} {r}{path}; }}"]
        for link in ("bin", "lib", "lib64", "sbin"):
            made += [f"[ -e {r}/{link} ] || [ ! -e /{link} ] || ln -s usr/{link} {r}/{link}"]
        made += [f"mount --bind {sys.base_prefix} {r}/usr/local", f"mount -t proc proc {r}/proc"]
        made += [f"mkdir -p {r}{LENT}", f"mount --bind {sysconfig.get_path('purelib')} {r}{LENT}"]
        made += [f"echo /usr/local/lib > {r}/etc/ld.so.conf", f"chroot {r} /sbin/ldconfig"]
        made += [f"mount -t tmpfs -o mode=1777 tmpfs {r}/tmp"]
        return [*made, f"mount -o remount,bind,ro {r}"] if read_only else made


def build(text: str, sent: Path, root: Path, lend: object = None) -> Stage:
    """Make the stages one after the other; the last one. `lend(venv)` is called for each virtual environment made."""
    stages: dict[str, Stage] = {}
    stage = Stage(root)
    for word, rest in lines(text):
        if word == "FROM":
            stage = Stage(root / str(len(stages)))
            stage.root.mkdir(parents=True)
            stages[rest.partition(" AS ")[2] or "last"] = stage
        elif word == "ARG":
            name, _, value = rest.partition("=")
            stage.arguments[name] = value
        elif word == "ENV":
            stage.environment |= dict(pair.split("=", 1) for pair in shlex.split(rest))
        elif word == "COPY":
            _copy(rest, stage, stages, sent)
        elif word == "RUN":
            done = subprocess.run(
                stage.words(["sh", "-c", rest], read_only=False, given={}), capture_output=True, text=True
            )
            assert done.returncode == 0, f"RUN {rest}\n{done.stdout}\n{done.stderr}"
            if callable(lend) and "-m venv" in rest:
                lend(stage.root / rest.split()[-1].lstrip("/"))
        else:
            _note(word, rest, stage)
    return stage


def _note(word: str, rest: str, stage: Stage) -> None:
    if word == "WORKDIR":
        stage.folder = rest
        (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
    elif word == "USER":
        stage.user = rest
    elif word == "CMD":
        stage.command = json.loads(rest)
    elif word == "HEALTHCHECK":
        stage.check = json.loads(rest.partition("CMD ")[2])


def _copy(rest: str, stage: Stage, stages: dict[str, Stage], sent: Path) -> None:
    *words, target = rest.split()
    source = stages[words.pop(0).partition("=")[2]].root if words[0].startswith("--from=") else sent
    end = stage.root / os.path.join(stage.folder, target).lstrip("/")
    for word in words:
        path = source / word.lstrip("/")
        assert path.exists(), f"COPY {word}: there is no such file in what is sent"
        if path.is_dir():
            shutil.copytree(path, end, symlinks=True, dirs_exist_ok=True)
        else:
            end.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, end / path.name)
