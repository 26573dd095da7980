"""Requests that schemathesis makes from the OpenAPI document, one by one and in the chains it finds, for `fuzz`."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from bench.fuzz_people import GONE, Cast, Tally

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "unsupported_method",
    "allow_header_conformance",
    "missing_required_header",
    "ignored_auth",
    "use_after_free",
]
# `GET /api/v1/devices/register` is the device of that name.
NO_FAULTS = {("POST /api/v1/devices/register", "Allow header mismatch")}
# Every keyword of each schema; examples by Hypothesis; chains of operations, one's answer being the next one's input.
PHASES = ("coverage", "fuzzing", "stateful", "fuzzing")
EACH = {"coverage": 40, "fuzzing": 3}  # requests that an operation needs about
FEWEST = 5  # operations
A_DAY = 24 * 3600  # while it has time, it begins anew when it is through; the budget of requests ends it


class Fuzzer:
    """schemathesis over a running service, until a budget of requests is used up."""

    def __init__(self, base: str, cast: Cast, tally: Tally, seed: int) -> None:
        self._base, self._cast, self._tally, self._seed = base, cast, tally, seed

    def attack(self, count: int, number: int) -> Counter[str]:
        """Send so many requests; how many each phase sent. Each round has its phase; those that go one by one take as
        many operations as they can do justice to, others each time. Chains have what such a phase leaves over.
        """
        phase = PHASES[number % len(PHASES)]
        sent = Counter({phase: self._phase(phase, count, number)})
        if sent[phase] < count and not self._tally.over:
            sent["stateful"] += self._phase("stateful", count - sent[phase], number)
        return sent

    def _phase(self, phase: str, count: int, number: int) -> int:
        schema = self._schema(phase, count, number)
        sent = 0

        @schema.hook
        def after_call(_context: Any, case: Any, response: Any) -> None:
            nonlocal sent
            sent += 1
            accepted = response.status_code < 300
            self._tally.count(str(response.status_code), accepted=accepted and case.method != "GET")
            self._again(response)

        stream = from_schema(schema).execute()
        for event in stream:
            self._note(event)
            if sent >= count or self._tally.over:
                stream.stop()
        return sent

    def _schema(self, phase: str, count: int, number: int) -> Any:
        config = SchemathesisConfig(seed=self._seed + number, max_time=A_DAY)
        schema = schemathesis.openapi.from_url(f"{self._base}/openapi.json", config=config)
        most = count
        if each := EACH.get(phase):
            names = sorted(found.ok().label for found in schema.get_all_operations())
            random.Random(self._seed + number).shuffle(names)
            ours = set(names[: max(FEWEST, count // each)])
            most = max(each, count // len(ours))
            schema = schema.include(lambda found: found.operation.label in ours)
        schema.config.update(base_url=self._base, workers=1, continue_on_failure=True)
        schema.config.phases.update(phases=[phase])
        schema.config.generation.update(max_examples=most, no_shrink=True, database="none")
        schema.config.checks.update(included_check_names=CHECKS)
        schema.config.checks.not_a_server_error.expected_statuses = ["2xx", "3xx", "4xx", "503"]
        self._speaks_for_people(schema)
        return schema

    def _speaks_for_people(self, schema: Any) -> None:
        cast = self._cast

        @schema.auth(refresh_interval=None)
        class Somebody:
            def get(self, _case: Any, context: Any) -> dict[str, str]:
                operation = context.operation
                return cast.headers(operation.definition.raw, operation.path)[1]

            def set(self, case: Any, data: dict[str, str], _context: Any) -> None:
                case.headers = {**(case.headers or {}), **data}

    def _again(self, response: Any) -> None:
        """Somebody new, if the answer says that a session is over."""
        if response.status_code not in (401, 423):
            return
        said = [str(response.request.headers.get(name, "")) for name in ("Authorization", "Cookie")]
        if response.json().get("code") in GONE:
            for role in ("user", "admin", "browser"):
                self._cast.renew(role, *said)

    def _note(self, event: Any) -> None:
        if isinstance(event, events.NonFatalError | events.FatalError):
            error = event.exception if isinstance(event, events.FatalError) else event.value
            self._tally.fault(f"schemathesis: {type(error).__name__}", str(error))
        if isinstance(event, events.ScenarioFinished):
            for kind, sent in _failures(event):
                self._tally.fault(kind, sent)


def _failures(event: Any) -> Iterator[tuple[str, str]]:
    for nodes in event.recorder.checks.values():
        for node in nodes:
            if node.failure_info:
                failure = node.failure_info.failure
                if (failure.operation, failure.title) in NO_FAULTS:
                    continue
                yield f"{failure.operation}: {failure.title}", f"{failure.message} | {node.failure_info.code_sample}"
