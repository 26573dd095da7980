"""The figures of many worker processes: each keeps its own in files of one folder, and whoever is asked adds them up.

The folder is PROMETHEUS_MULTIPROC_DIR, which `gunicorn.conf.py` makes. What a worker counted must outlive it, or sums
would fall; but its files must not, or they would pile up. So its counters go into files that belong to nobody.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import REGISTRY

if sys.platform != "win32":  # there the service is one process
    import fcntl

LASTING = ("counter", "histogram")  # figures that only rise


def folder() -> Path | None:
    """Where the workers' files are; None in a process that is alone."""
    given = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(given) if given else None


def exposition() -> bytes:
    """What all workers counted, in Prometheus' text format."""
    place = folder()
    if place is None:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(place))  # type: ignore[no-untyped-call]  # the library left it without types
    with _locked(place, exclusive=False):
        return generate_latest(registry)


def forget(pid: int) -> None:
    """Keep what a worker that has ended counted, and remove its files. Raises OSError, RuntimeError for a file that
    cannot be read.
    """
    place = folder()
    if place is None:
        return
    with _locked(place, exclusive=True):
        mark_process_dead(pid, str(place))  # type: ignore[no-untyped-call]  # as above
        for kind in LASTING:
            left = place / f"{kind}_{pid}.db"
            if left.exists():
                _add(left, place / f"{kind}_ended.db")
                left.unlink()


def _add(left: Path, total: Path) -> None:
    kept = MmapedDict(str(total))  # type: ignore[no-untyped-call]  # as above
    try:
        for key, value, _, _ in MmapedDict.read_all_values_from_file(str(left)):  # type: ignore[no-untyped-call]  # as above
            before, _ = kept.read_value(key)  # type: ignore[no-untyped-call]  # as above
            kept.write_value(key, before + value, 0.0)  # type: ignore[no-untyped-call]  # as above
    finally:
        kept.close()  # type: ignore[no-untyped-call]  # as above


@contextmanager
def _locked(place: Path, *, exclusive: bool) -> Iterator[None]:
    """Whoever adds up waits for whoever moves, so that nothing is seen twice or not at all."""
    with (place / "lock").open("a") as file:
        if sys.platform != "win32":
            fcntl.flock(file, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)  # closing the file lets go
        yield
