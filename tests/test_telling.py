"""The arithmetic with which `bench enumeration` judges: it must find a difference where there is one, and only there."""

from __future__ import annotations

import argparse
import random

import pytest

from bench import enumeration
from bench.report import Report
from bench.stories import ROUTES, Line, Seen
from bench.telling import by_classifier, by_pairs, by_rank


def test_ranks_of_known_samples() -> None:
    assert by_rank([3, 4], [1, 2]).auc == 1
    assert by_rank([1, 2], [3, 4]).auc == 0
    assert by_rank([1, 1], [1, 1]).auc == 0.5
    assert by_rank([1, 3, 5], [2, 4]).auc == pytest.approx(3 / 6)  # 3>2, 5>2, 5>4 of six
    assert by_rank([1, 2, 2], [2, 3]).auc == pytest.approx(1 / 6)  # two ties, each a half
    assert by_pairs([(2, 1), (3, 1), (1, 1), (0, 1)]).auc == pytest.approx(2.5 / 4)


def test_chance_is_called_chance_and_a_shift_is_found() -> None:
    dice = random.Random(7)
    noise = [[dice.gauss(10, 1) for _ in range(2000)] for _ in range(2)]
    told = by_rank(*noise)
    assert told.low < 0.5 < told.high
    assert by_rank([value + 0.2 for value in noise[0]], noise[1]).low > 0.52


def test_the_classifier_sees_what_ranks_cannot() -> None:
    """Two humps against one between them: no side is slower, and yet they are told apart."""
    dice = random.Random(7)
    humps = [dice.choice((8.0, 12.0)) + dice.gauss(0, 0.5) for _ in range(1000)]
    middle = [10 + dice.gauss(0, 0.5) for _ in range(1000)]
    assert by_rank(humps, middle).apart < 0.55
    assert by_classifier([{"time": value} for value in humps], [{"time": value} for value in middle]).auc > 0.95


def test_the_classifier_learns_nothing_from_what_both_share() -> None:
    same = [{"status": 200, "body": n % 7, "time": float(n)} for n in range(500)]
    assert by_classifier(same, same).auc == 0.5
    told = by_classifier([{"header": "a"}] * 100, [{"header": "b"}] * 100)
    assert (told.auc, told.apart) == (1, 1)


def answered(*statuses: int) -> Line:
    """A line over which these answers came."""
    line = Line(lambda *_: (0, [], b""), lambda _: None)
    line.seen += [Seen(status, [], b"{}", 0.1) for status in statuses]
    return line


@pytest.mark.parametrize("route", ROUTES)
def test_errors_that_are_all_alike_are_no_sign_that_nothing_tells(route: str) -> None:
    right = enumeration.ANSWERED[route]
    for statuses in (right, (503,) * len(right), (404,) * len(right)):
        report = Report()
        found = [{known: answered(*statuses) for known in (True, False)} for _ in range(20)]
        enumeration._judged(report, route, "idle", found, argparse.Namespace(short=True))
        assert report.ok == (statuses == right)
