"""Servers such as gunicorn fork: a child has neither its parent's threads nor a lock that can be relied on."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable


def after_fork(act: Callable[[], None]) -> None:
    """Call a bound method in every child that is forked while its object lives."""
    which = weakref.WeakMethod(act)

    def call() -> None:
        if (alive := which()) is not None:
            alive()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=call)
