"""What `bench faults` is made of: that its failpoints end a process where they say, and that its stand-ins misbehave so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.models import OutboxMessage, Signup
from bench import failpoints, faults
from bench.journal import Act
from bench.report import Report
from bench.struck import FAULTS
from bench.struck.delivery import Greylist, Picky
from bench.struck.fault import Felt
from tests import lanes
from tests.lanes import CHEAP, SECRETS
from tests.service import ROOT

SIGN_UP = """
from bench.failpoints import service
app = service()
body = {"email": "jane@example.com", "password": "correct horse 7"}
print(app.test_client().post("/api/auth/signup", json=body).status_code, flush=True)
app.extensions["courier"].round("email")
"""


@pytest.fixture
def ends(tmp_path: Path) -> Callable[[str, float], tuple[int, str, list[str], list[str]]]:
    """Sign somebody up and send their code in a process that may end at a place: how it ended, what it printed, the
    states of the messages, and the places that are noted.
    """

    def act(place: str, likely: float) -> tuple[int, str, list[str], list[str]]:
        with lanes.database("sqlite", "failpoints") as url:
            lanes.migrate(url)
            armed, ended = tmp_path / "armed", tmp_path / "ended"
            armed.write_text(f"{place}\n{likely}")
            ended.write_text("")
            given = {**SECRETS, **CHEAP, "database_url": url, "failpoint": armed, "failpoint_ended": ended}
            given |= {"pythonpath": ROOT, "path": os.environ["PATH"]}
            environment = {name.upper(): str(value) for name, value in given.items()}
            done = subprocess.run(
                [sys.executable, "-c", SIGN_UP], env=environment, cwd=tmp_path, capture_output=True, text=True
            )
            engine = lanes.engine(url)
            with engine.connect() as connection:
                states = list(connection.scalars(sa.select(OutboxMessage.state)))
                assert len(states) == connection.scalar(sa.select(sa.func.count(Signup.id)))
            engine.dispose()
            return done.returncode, done.stdout, states, ended.read_text().splitlines()

    return act


@pytest.mark.parametrize(
    ("place", "answered", "sent", "states"),
    [
        (failpoints.BEFORE_COMMIT, False, False, []),
        (failpoints.AFTER_COMMIT, False, False, ["queued"]),
        (failpoints.BEFORE_SEND, True, False, ["sending"]),
        (failpoints.BEFORE_MARK, True, True, ["sending"]),
    ],
)
def test_a_process_ends_where_it_is_told_to(
    ends: Callable[[str, float], tuple[int, str, list[str], list[str]]],
    place: str,
    answered: bool,
    sent: bool,
    states: list[str],
) -> None:
    status, printed, found, noted = ends(place, 1)
    assert (status, noted) == (-signal.SIGKILL, [place])
    assert ("201" in printed, "OTP for" in printed, found) == (answered, sent, states)


def test_a_process_that_is_not_told_to_goes_on(
    ends: Callable[[str, float], tuple[int, str, list[str], list[str]]],
) -> None:
    for place, likely in ((failpoints.BEFORE_COMMIT, 0), ("nowhere", 1)):
        status, printed, states, noted = ends(place, likely)
        assert (status, states, noted) == (0, ["sent"], [])
        assert "OTP for" in printed


def test_a_greylist_turns_a_recipient_away_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("bench.struck.delivery.time.monotonic", lambda: now[0])
    judge = Greylist()
    assert judge("DATA", "jane@example.com") is None
    assert (judge("RCPT", "jane@example.com") or "").startswith("451 ")
    now[0] = 2.0
    assert judge("RCPT", "jane@example.com") is None
    assert (judge("RCPT", "john@example.com") or "").startswith("451 ")


def test_a_picky_server_refuses_the_same_recipients_every_time() -> None:
    judge = Picky("RCPT", "550 no")
    people = [f"{number}@example.com" for number in range(6)]
    first = [judge("RCPT", each) for each in people]
    assert first == ["550 no", None, None] * 2 == [judge("RCPT", each) for each in people]
    assert judge("DATA", people[0]) is None


NOW = 1000.0
ASKED = [Act("POST /api/auth/login", NOW + at / 10, 0.01, 200) for at in range(10)]
TOLD = [*ASKED, Act("POST /api/auth/refresh", NOW, 0.01, 200)]
FAILED = [*TOLD, Act("POST /api/auth/login", NOW, 0.01, 503, "unavailable", 2)]


def missed(name: str, acts: list[Act], *, ready: float = 0.1, held: int = 1, whole: bool = False) -> list[str]:
    """The checks of a fault of a second that were not met."""
    report = Report()
    seen = faults.Seen(acts, NOW + 1, ready, held)
    faults._tell(report, FAULTS[name], seen, {}, {}, timed=whole, whole=whole)
    return [check.what.removeprefix(f"{name}: ") for check in report.checks if not check.ok]


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_nobody_met_or_that_never_ends_is_told(name: str) -> None:
    fault = FAULTS[name]
    good = FAILED if fault.fails else TOLD
    assert missed(name, good, whole=True) == missed(name, good) == []
    assert missed(name, good, ready=float("inf")) == ["all was well after s"]
    assert "asked" in missed(name, [])
    unfelt = ["failed while it lasted"] if fault.fails and fault.felt is not Felt.PERHAPS else []
    assert missed(name, TOLD, whole=True) == unfelt
    assert missed(name, TOLD) == (unfelt if fault.felt is Felt.AT_ONCE else [])
    assert missed(name, good, held=0, whole=True) == (["messages held"] if fault.holds else [])


def test_some_faults_of_the_short_form_must_be_felt() -> None:
    assert sum(FAULTS[name].felt is Felt.AT_ONCE for name in faults.SHORT) >= 3


def test_each_fault_is_of_a_database_that_can_be_had_and_has_a_name_of_its_own() -> None:
    assert {fault.database for fault in FAULTS.values()} == {"sqlite", "postgresql", "mariadb"}
    assert all(fault.name == name for name, fault in FAULTS.items())
    for name in FAULTS:
        if name.endswith(" (MariaDB)"):
            assert FAULTS[name].database == "mariadb"
            assert FAULTS[name.removesuffix(" (MariaDB)")].database == "postgresql"
