"""The file of settings, `.env`: read as it stands, nothing in it replaced, and refused where a line of it is none."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values, find_dotenv
from dotenv.parser import Binding, parse_stream

from app.config import Settings, SettingsError

NO = ("", "0", "false", "no")  # as Flask reads FLASK_SKIP_DOTENV
REFERENCE = re.compile(r"\$\{\w+(:-[^}]*)?\}")  # as a whole value it is another variable, and would be a poor key


def read(path: Path) -> dict[str, str]:
    """The settings of a file by their fields, without those that are empty; none if there is no such file.

    Raises SettingsError, with the number of each line that is none and nothing of what stands in it.
    """
    bindings = list(parse_stream(StringIO(_text(path))))
    if problems := list(_problems(bindings)):
        raise SettingsError("\n".join(f"{path}: {problem}" for problem in problems))
    return {_field(each): each.value for each in bindings if each.value and _field(each)}


def forget_what_flask_read(path: Path) -> None:
    """`flask` has put what the nearest `.env` holds into the environment by itself, where it would win. Take it out.

    Raises SettingsError if that was not `path`: the server, which looks at no other, would have other settings.
    """
    if os.environ.get("FLASK_RUN_FROM_CLI") != "true" or os.environ.get("FLASK_SKIP_DOTENV", "").lower() not in NO:
        return
    found = find_dotenv(usecwd=True)
    if found and Path(found).resolve() != path.resolve():
        told = "is another project's, and flask has read it; call it with FLASK_SKIP_DOTENV=1"
        raise SettingsError(f"{found} {told}")
    for name, value in (dotenv_values(found, encoding="utf-8") if found else {}).items():
        if name.lower() in Settings.model_fields and os.environ.get(name) == value:
            del os.environ[name]


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8") if path.exists() and not path.is_dir() else ""
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {type(error).__name__}") from None
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:  # UTF-16 without its mark has one in each letter
        raise SettingsError(f"{path} cannot be read: save it as UTF-8")
    return text


def _problems(bindings: list[Binding]) -> Iterator[str]:
    found = set()
    for each in bindings:
        if each.error or (each.key and each.value is None):
            yield f"line {_line(each)} is no NAME=value, or a quote in it is not closed"
        elif each.value and _field(each) and REFERENCE.fullmatch(each.value):
            yield f"line {_line(each)} names another variable, and nothing is replaced here; write its value"
        elif each.value and (name := _field(each)):
            if name in found:
                yield f"line {_line(each)} sets {name.upper()} again; keep one of them"
            found.add(name)


def _field(binding: Binding) -> str:
    name = (binding.key or "").lower()
    return name if name in Settings.model_fields else ""


def _line(binding: Binding) -> int:
    """Where it begins, behind the blank lines that the parser counts to it."""
    whole = binding.original.string
    return binding.original.line + whole[: len(whole) - len(whole.lstrip())].count("\n")
