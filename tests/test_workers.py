"""The files of many workers' figures."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from app import workers
from tests.figures import Scrape

ASKED = mmap_key("latchkey_requests_total", "latchkey_requests_total", ["route"], ["/a"], "Requests")
TOOK = [mmap_key("latchkey_s", "latchkey_s_bucket", ["le"], [bound], "Time") for bound in ("1.0", "+Inf")]
SUM = mmap_key("latchkey_s", "latchkey_s_sum", [], [], "Time")
USED = mmap_key("latchkey_used", "latchkey_used", [], [], "In use")


def worker(folder: Path, pid: int, asked: float) -> None:
    """The files that a worker leaves: it has answered so often, half of it within a second."""
    given = {
        "counter": {ASKED: asked},
        "histogram": {TOOK[0]: asked / 2, TOOK[1]: asked / 2, SUM: asked},
        "gauge_livesum": {USED: 1.0},
    }
    for kind, values in given.items():
        file = MmapedDict(str(folder / f"{kind}_{pid}.db"))
        for key, value in values.items():
            file.write_value(key, value, 0.0)
        file.close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    return tmp_path


def told() -> dict[str, float]:
    scrape = Scrape(workers.exposition().decode())
    return {
        "asked": scrape.value("latchkey_requests_total", route="/a"),
        "fast": scrape.value("latchkey_s_bucket", le="1.0"),
        "all": scrape.value("latchkey_s_bucket", le="+Inf"),
        "count": scrape.value("latchkey_s_count"),
        "sum": scrape.value("latchkey_s_sum"),
        "used": scrape.value("latchkey_used"),
    }


def test_what_ended_workers_counted_stays_and_their_files_go(folder: Path) -> None:
    for pid, asked in ((1, 10.0), (2, 4.0), (3, 6.0)):
        worker(folder, pid, asked)
    before = told()
    assert before == {"asked": 20.0, "fast": 10.0, "all": 20.0, "count": 20.0, "sum": 20.0, "used": 3.0}
    for gone, pid in enumerate((2, 1), start=1):
        workers.forget(pid)
        assert told() == before | {"used": 3.0 - gone}
        assert not list(folder.glob(f"*_{pid}.db"))
    workers.forget(2)
    worker(folder, 2, 5.0)
    assert told()["asked"] == 25.0, "a new worker with the number of one before"
    assert {path.name for path in folder.glob("*_ended.db")} == {"counter_ended.db", "histogram_ended.db"}


def test_a_process_that_is_alone_has_nothing_to_forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    workers.forget(1)
    assert "latchkey_hash_wait_seconds" in Scrape(workers.exposition().decode()).names()
