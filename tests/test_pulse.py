"""The pulse: who has one, who is asked, and when the circuit opens and closes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from psycopg2.extensions import make_dsn
from sqlalchemy.engine import make_url

from app import pulse
from app.db import Line
from app.pulse import Circuit
from tests.lanes import available

GONE = (socket.AF_INET, ("127.0.0.1", 1))


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silences of a moment."""
    monkeypatch.setattr(pulse, "PULSE_S", 0.2)
    monkeypatch.setattr(pulse, "SILENCE_S", 0.2)
    monkeypatch.setattr(pulse, "LOOK_S", 0.3)


class Stand:
    """A server that says `word` to each connection, or nothing."""

    def __init__(self, listening: socket.socket, word: bytes | None) -> None:
        self.listening, self.word, self.questions = listening, word, []
        self.address = (listening.family, listening.getsockname())
        self._kept: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                line, _ = self.listening.accept()
            except OSError:
                return
            self.questions.append(line.recv(8))
            self._kept.append(line)
            if self.word is not None:
                line.sendall(self.word)
                line.close()


@pytest.fixture(params=["IPv4", "IPv6", "Unix"])
def listening(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    monkeypatch.chdir(tmp_path)  # for the path of a Unix socket is short
    family, place = {
        "IPv4": (socket.AF_INET, ("127.0.0.1", 0)),
        "IPv6": (socket.AF_INET6, ("::1", 0)),
        "Unix": (socket.AF_UNIX, "s"),
    }[request.param]
    with socket.socket(family) as made:
        try:
            made.bind(place)
        except OSError:
            pytest.skip(f"no {request.param} here")
        made.listen()
        yield made


@pytest.mark.parametrize(("word", "beats"), [(b"N", True), (b"S", True), (b"", True), (None, False)])
def test_whoever_says_anything_has_a_pulse(listening: socket.socket, word: bytes | None, beats: bool) -> None:
    """PostgreSQL says N, or S if it has TLS; one who only hangs up is there, too."""
    stand = Stand(listening, word)
    began = time.monotonic()
    assert Circuit().beats(stand.address) is beats
    assert time.monotonic() - began < 0.5
    assert stand.questions == [bytes.fromhex("0000000804d2162f")]


def test_where_nobody_listens_there_is_none() -> None:
    assert not Circuit().beats(GONE)


def test_one_who_cannot_ask_knows_nothing(tmp_path: Path) -> None:
    """A folder that is elsewhere, no descriptor left: no reason to cut anybody."""
    assert Circuit().beats((socket.AF_UNIX, str(tmp_path / "s")))


def test_threads_ask_once_and_go_by_what_was_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stand, circuit = Stand(listening, b"N"), Circuit()
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(lambda _: circuit.beats(stand.address), range(64)))
        assert len(stand.questions) == 1
        assert not circuit.beats(GONE), "what was found of one server says nothing of another"


def test_the_circuit_opens_without_a_pulse_and_one_looks_at_a_time() -> None:
    circuit = Circuit()
    assert [circuit.lets_through() for _ in range(3)] == [True] * 3
    circuit.beats(GONE)
    assert [circuit.lets_through() for _ in range(3)] == [False] * 3
    time.sleep(0.35)
    assert [circuit.lets_through() for _ in range(3)] == [True, False, False]
    time.sleep(0.75)  # it never came back
    assert [circuit.lets_through() for _ in range(3)] == [True, False, False]
    circuit.answered()
    assert [circuit.lets_through() for _ in range(3)] == [True] * 3


@pytest.mark.parametrize("way", ["TCP", "Unix"])
def test_a_server_is_found_where_its_line_goes(way: str) -> None:
    """A Unix socket is named by folder and port."""
    url = available()["postgresql"]
    if url is None:
        pytest.skip("there is no PostgreSQL here")
    found, circuit = make_url(url), Circuit()
    given = {"user": found.username, "password": found.password, "dbname": found.database, "port": found.port}
    line = Line(make_dsn(host=found.host, **given), circuit=circuit)
    if way == "Unix":
        with line.cursor() as cursor:
            cursor.execute("SHOW unix_socket_directories")
            folder = cursor.fetchone()[0].split(",")[0]
        line.close()
        if not Path(folder, f".s.PGSQL.{found.port}").exists():
            pytest.skip("its socket is on another machine")
        line = Line(make_dsn(host=folder, **given), circuit=circuit)
    assert line.has_pulse()
    line.close()
    (family, _), beats, _ = circuit._found
    assert beats
    assert (family == socket.AF_UNIX) is (way == "Unix")
