"""Whether this machine has a Node.js that the examples run on."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache

OLDEST = (20, 9)


@cache
def missing() -> bool:
    """True on a machine that has no Node.js with npm, or too old a one."""
    if not all(shutil.which(name) for name in ("node", "npm")):
        return True
    told = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=30).stdout
    return tuple(int(part) for part in re.findall(r"\d+", told)[:2]) < OLDEST
