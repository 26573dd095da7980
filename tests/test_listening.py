"""How the service listens: slow clients hold nobody up, and a stop loses no request."""

from __future__ import annotations

import argparse
import json
import logging
import select
import shutil
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.client import HTTPResponse
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import psutil
import pytest
import requests
from gunicorn import http
from gunicorn.config import Config
from gunicorn.http.errors import InvalidResponseHeader

from app import create_app
from app.config import Settings
from app.core import audit, identifiers
from app.flows import administration
from app.flows.administration import NewUser
from app.framing import LONGEST_BODY
from app.listening import Gathered, PatientWorker
from app.work import run
from bench import restarts
from bench.load import until
from bench.slow_clients import KINDS, crowd
from tests import lanes
from tests.lanes import CHEAP, SECRETS
from tests.people import PASSWORD, Answer, check_rules
from tests.service import Service, running
from tests.test_where_requests_end import BODY, CHUNKED, HEAD, SIZED

CROWD = 24
FLOOD = 600
PATIENCE_S = 15  # longer than a request may take to arrive


@pytest.mark.parametrize(("length", "kept"), [(len(BODY), True), (len(BODY) + 1, False)])
def test_where_a_body_is_not_whole_for_the_parser_no_other_request_is_looked_for(length: int, kept: bool) -> None:
    """Should it ever read a length otherwise than we do."""
    parser = http.get_parser(Config(), (), ("127.0.0.1", 1))
    parser.unreader = Gathered()
    parser.unreader.unread(HEAD + b"Content-Length: %d\r\n\r\n" % length + BODY)
    next(parser)
    worker = PatientWorker.__new__(PatientWorker)
    assert worker._keepalive_after(SimpleNamespace(parser=parser), True) is kept


@pytest.fixture(scope="module")
def service(worker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One worker with two threads."""
    with lanes.database("sqlite", f"listening_{worker}") as url:
        lanes.migrate(url)
        folder = tmp_path_factory.mktemp("listening")
        with running(url, folder, web_concurrency=1, web_threads=2, docs="false") as started:
            yield started


def line(service: Service) -> socket.socket:
    there = urlsplit(service.base)
    return socket.create_connection((there.hostname or "", there.port or 0), timeout=30)


def answers(client: socket.socket, *statuses: int) -> None:
    """The statuses of the answers that come, in order."""
    got, file = [], client.makefile("rb")
    for _ in statuses:
        got.append(int(file.readline().split()[1]))
        length = 0
        while (row := file.readline().strip()) != b"":
            length = int(row.split()[1]) if row.lower().startswith(b"content-length") else length
        file.read(length)
    assert got == list(statuses)


def refresh(service: Service) -> None:
    """A request that may not use the threads which only reading has."""
    told = requests.post(f"{service.base}/api/auth/refresh", json={"refresh_token": "none"}, timeout=PATIENCE_S)
    assert told.status_code == 401


@pytest.mark.slow
@pytest.mark.covers("fault F30")
@pytest.mark.parametrize("kind", KINDS)
def test_slow_clients_hold_nobody_up(service: Service, kind: str) -> None:
    """Twelve for each thread."""
    over, came = threading.Event(), Counter[str]()
    port = urlsplit(service.base).port or 0
    dripping = threading.Thread(target=crowd, args=(kind, CROWD, port, over, came))
    dripping.start()
    try:
        until(lambda: came["came"] >= CROWD)
        for _ in range(5):
            refresh(service)
            assert requests.get(f"{service.base}/api/auth/me", timeout=PATIENCE_S).status_code == 401
    finally:
        over.set()
        dripping.join()


@pytest.mark.slow
@pytest.mark.covers("fault F29", "fault F39")
@pytest.mark.skipif(shutil.which("prlimit") is None, reason="no prlimit")
def test_more_connections_than_there_are_files_for_shut_nobody_out(tmp_path: Path, worker: str) -> None:
    """128 fit, of which most say nothing: who asks is answered, and no process ends."""
    with lanes.database("sqlite", f"files_{worker}") as url:
        lanes.migrate(url)
        with running(url, tmp_path, under=["prlimit", "--nofile=256:256"], web_concurrency=1, docs="false") as few:
            before, crowd = few.workers(), []
            for number in range(FLOOD):
                crowd.append(line(few))
                crowd[-1].sendall(HEAD if number % 2 else b"")
                if number % 100 == 0:
                    assert requests.get(f"{few.base}/api/auth/me", timeout=30).status_code == 401
            held = few.workers()[0].num_fds()
            for client in crowd:
                client.close()
            assert requests.get(f"{few.base}/api/auth/me", timeout=30).status_code == 401
            assert few.workers() == before
            assert len(few.log.read_text().splitlines()) < FLOOD
    assert held < 256


@pytest.mark.slow
@pytest.mark.parametrize("request_", [SIZED, CHUNKED], ids=["sized", "chunked"])
def test_a_request_in_pieces_is_answered(service: Service, request_: bytes) -> None:
    with line(service) as client:
        for at in range(0, len(request_), 40):
            client.sendall(request_[at : at + 40])
        answers(client, 401)
        client.sendall(request_ + request_)  # the connection is kept, and takes two at once
        answers(client, 401, 401)


@pytest.mark.slow
@pytest.mark.parametrize(
    "rest", [b"0\r\nTrailer: x\r\n\r\n", b"no size\r\n", b"-1\r\n\r\n", b"5\r\nabc\r\n\r\n0\r\n\r\n"]
)
def test_a_body_whose_chunks_are_none_is_the_clients_fault(service: Service, rest: bytes) -> None:
    with line(service) as client:
        client.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n" + rest)
        answers(client, 400)


@pytest.mark.slow
@pytest.mark.covers("asvs 15.4.4", "fault F28")
def test_reading_does_not_wait_behind_sign_ins(tmp_path: Path, worker: str) -> None:
    """Both threads, and the hash slot, are held for seconds; more sign-ins wait for a thread."""
    with lanes.database("sqlite", f"reading_{worker}") as url:
        lanes.migrate(url)
        with running(
            url, tmp_path, web_concurrency=1, web_threads=2, argon2_memory_kib=65_536, argon2_time_cost=20
        ) as slow:
            for process in (psutil.Process(slow.process.pid), *slow.workers()):
                process.cpu_affinity([0])  # and there is no other processor
            body = json.dumps({"identifier": "nobody@example.com", "password": "wrong horse 7"}).encode()
            head = b"POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            crowd = [line(slow) for _ in range(6)]
            for client in crowd:
                client.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            for _ in range(3):
                assert requests.get(f"{slow.base}/api/auth/me", timeout=30).status_code == 401
            waiting = [client for client in crowd if not select.select([client], [], [], 0)[0]]
            for client in crowd:
                client.close()
    assert len(waiting) >= 4  # of the first two one may be refused: it waits for its slot no longer than a second


@pytest.mark.slow
def test_a_client_that_waits_for_leave_to_send_its_body_gets_it(service: Service) -> None:
    head, _, body = SIZED.partition(b"\r\n\r\n")
    with line(service) as client:
        client.sendall(head + b"\r\nExpect: 100-continue\r\n\r\n")
        answers(client, 100)
        client.sendall(body)
        answers(client, 100, 401)  # gunicorn says it too


@pytest.mark.slow
def test_whoever_asks_for_leave_and_resets_harms_nobody(service: Service) -> None:
    """The worker finds the request and the reset at once; what it says then nobody hears."""
    before = service.workers()
    for _ in range(3):
        before[0].suspend()
        try:
            client = line(service)
            client.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        finally:
            before[0].resume()
        for _ in range(3):
            assert requests.get(f"{service.base}/api/auth/me", timeout=30).status_code == 401
    assert service.workers() == before


@pytest.mark.slow
def test_a_head_that_comes_behind_another_request_gets_leave_for_its_body(service: Service) -> None:
    head, _, body = SIZED.partition(b"\r\n\r\n")
    with line(service) as client:
        client.sendall(CHUNKED + head + b"\r\nExpect: 100-continue\r\n\r\n")
        answers(client, 401, 100)
        client.sendall(body)
        answers(client, 100, 401)


@pytest.mark.slow
def test_a_client_of_http_1_0_is_not_told_to_go_on(service: Service) -> None:
    head, _, body = SIZED.replace(b"HTTP/1.1", b"HTTP/1.0").partition(b"\r\n\r\n")
    with line(service) as client:
        client.sendall(head + b"\r\nExpect: 100-continue\r\n\r\n")
        time.sleep(0.5)
        client.sendall(body)
        answers(client, 401)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_an_export_that_breaks_off_can_be_told_from_a_whole_one(tmp_path: Path, worker: str, version: str) -> None:
    """Its rows end where others follow. By HTTP/1.0, as nginx asks unless told otherwise, nothing says where a body ends."""
    with lanes.database("sqlite", f"export_{worker}") as url:
        lanes.migrate(url)
        kit = create_app(Settings(_env_file=None, database_url=url, **SECRETS, **CHEAP)).extensions["courier"].kit
        ada = NewUser([identifiers.email("ada@example.com")], role="admin", password=PASSWORD)
        run(kit, lambda work: administration.create(work, ada))
        for _ in range(12):  # a thousand rows are half a megabyte: more than lies between the two
            rows: dict[UUID, dict[str, Any]] = {uuid4(): {} for _ in range(1000)}
            run(kit, partial(audit.record_each, event=audit.Event.ACCOUNT_IMPORTED, about=rows))
        kit.writes.kw["bind"].dispose()
        settings = {"web_concurrency": 1, "docs": "false", "mfa_policy": "optional", "mfa_required_roles": ""}
        with running(url, tmp_path, **settings) as busy, socket.socket() as client:
            api, there = busy.api(), urlsplit(busy.base)
            tokens = api.post("/api/auth/login", {"identifier": "ada@example.com", "password": PASSWORD}).ok()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(30)
            client.connect((there.hostname, there.port))
            asked = f"GET /api/admin/audit-logs?format=ndjson HTTP/{version}\r\nHost: x\r\n"
            client.sendall(f"{asked}Authorization: Bearer {tokens['access_token']}\r\n\r\n".encode())
            assert client.recv(1000).startswith(f"HTTP/{version} 200".encode())
            time.sleep(1)  # what can be sent ahead is sent
            api.post("/api/auth/logout", token=tokens["access_token"]).ok()
            reply = client.makefile("rb")
            if version == "1.0":
                with pytest.raises(ConnectionResetError):
                    reply.read()
            else:
                assert not reply.read().endswith(b"0\r\n\r\n")
            assert requests.get(f"{busy.base}/api/auth/me", timeout=PATIENCE_S).status_code == 401, "it goes on"


@pytest.mark.slow
@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 9999999\r\n\r\n{",
        b"Content-Length: 0000000009999999\r\n\r\n{",
        b"Transfer-Encoding: chunked\r\n\r\n20000\r\n{",
        b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 70_000 + b"0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n" + b"8000\r\n%b\r\n" % (b" " * 0x8000) * 3 + b"0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"x" * LONGEST_BODY * 3,
    ],
    ids=["length", "zeros", "one chunk", "many chunks", "chunks", "trailers"],
)
def test_a_body_that_is_too_long_is_refused_unread(service: Service, rest: bytes) -> None:
    """And what follows is no request."""
    with line(service) as client:
        client.sendall(HEAD + rest + b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        answers(client, 413)
        assert client.recv(1) == b""


@pytest.mark.slow
@pytest.mark.parametrize("end", [b"", b"\r\n"])
def test_a_head_that_is_too_long_is_refused_with_or_without_its_end(service: Service, end: bytes) -> None:
    with line(service) as client:
        client.sendall(HEAD + b"".join(b"X-%d: %b\r\n" % (n, b"a" * 4000) for n in range(12)) + end)
        answers(client, 431)
        assert client.recv(1) == b""


@pytest.mark.slow
@pytest.mark.covers("fault F30")
def test_a_request_that_never_ends_is_let_go(service: Service) -> None:
    with line(service) as client, line(service) as silent:
        client.sendall(HEAD)
        answers(client, 408)
        assert (client.recv(1), silent.recv(1)) == (b"", b"")


UNREAD = {
    "late": (408, HEAD),
    "no request": (400, b"GET <script> /%s HTTP/1.1\r\n\r\n"),
    "no header": (400, HEAD + b"<script>: 1\r\n\r\n"),
    "unknown coding": (501, HEAD + b"Transfer-Encoding: <script>, chunked\r\n\r\n0\r\n\r\n"),
    "long line": (414, b"GET /<script>" + b"a" * 8000 + b" HTTP/1.1\r\n\r\n"),
    "long header": (431, HEAD + b"X: <script>" + b"a" * 9000 + b"\r\n\r\n"),
    "long head": (431, HEAD + b"X: <script>\r\n" * 4000 + b"\r\n"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("status", "request_"), UNREAD.values(), ids=[*UNREAD])
def test_what_never_becomes_a_request_is_refused_as_any_other(service: Service, status: int, request_: bytes) -> None:
    """By a problem document with an id, which stands in the log as well, and nothing of what was sent."""
    with line(service) as client:
        client.sendall(request_)
        told = HTTPResponse(client)
        told.begin()
        text = told.read().decode()
        assert client.recv(1) == b""
    answer = Answer(told.status, json.loads(text or "{}"), dict(told.getheaders()))
    assert (answer.status, answer.headers["Connection"]) == (status, "close")
    check_rules(answer)
    assert answer.code
    assert answer.body.keys() == {"type", "title", "status", "detail", "code", "request_id"}
    assert "script" not in text
    if status != 408:
        [row] = [row for row in service.log.read_text().splitlines() if answer["request_id"] in row]
        assert "script" not in row


@pytest.mark.parametrize("error", [ZeroDivisionError("a secret"), InvalidResponseHeader("a secret")])
def test_a_fault_below_the_application_is_ours_and_tells_nothing(error: Exception, caplog: Any) -> None:
    worker, (ours, theirs) = PatientWorker.__new__(PatientWorker), socket.socketpair()
    worker.log = logging.getLogger("gunicorn.error")
    with ours, theirs:
        worker.handle_error(None, ours, "", error)
        told = HTTPResponse(theirs)
        told.begin()
        text = told.read().decode()
    assert (told.status, json.loads(text)["code"]) == (500, "internal_error")
    assert "secret" not in text
    [row] = caplog.records
    assert (row.levelname, row.exc_info[1], row.fields["request_id"]) == (
        "ERROR",
        error,
        told.getheader("X-Request-ID"),
    )
    worker.handle_error(None, ours, ("192.0.2.1", 1), error)  # to nobody: the socket is closed


@pytest.mark.slow
@pytest.mark.covers("fault F20")
@pytest.mark.parametrize("way", ["socket", "balanced"])
def test_no_request_fails_while_the_service_restarts(way: str) -> None:
    """The short form of `python -m bench restarts`: fewer requests, two restarts."""
    given = argparse.Namespace(
        short=True, restarts=2, way=way, database="sqlite", new=True, rate=25, workers=1, minutes=5
    )
    report = restarts.run(given)
    [table] = report.tables.values()
    assert not table[0]["without"], table
    assert set(table[0]["answers"]) <= {200, 503}
    assert report.checks[0].ok, (report.checks, table)
