"""How well two groups of answers can be told apart: rank tests and a classifier, with their confidence.

All figures are areas under the ROC curve (AUC): how often a guess is right which of two answers is of which group. 0.5
is chance, 1 is certainty; below 0.5 counts like above, because an attacker may turn the guess round.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

FOLDS = 5
BINS = 20
Z = 1.96  # of a 95 % interval

Features = dict[str, Hashable]


@dataclass(frozen=True)
class Told:
    """An AUC and its 95 % interval."""

    auc: float
    low: float
    high: float

    @property
    def apart(self) -> float:
        """As far from chance as an attacker can use it."""
        return max(self.auc, 1 - self.auc)

    def __str__(self) -> str:
        return f"{self.auc:.3f} ({self.low:.3f} to {self.high:.3f})"


def by_rank(known: Sequence[float], unknown: Sequence[float]) -> Told:
    """The Mann-Whitney U statistic as an AUC, ties shared: how often a known one has the larger value. The interval is
    that of Hanley and McNeil (1982).
    """
    merged = sorted([(value, 1) for value in known] + [(value, 0) for value in unknown])
    total, start = 0.0, 0
    while start < len(merged):
        end = start
        while end < len(merged) and merged[end][0] == merged[start][0]:
            end += 1
        middle = (start + end + 1) / 2  # ranks from 1; equal values share theirs
        total += middle * sum(group for _, group in merged[start:end])
        start = end
    n, m = len(known), len(unknown)
    return _told((total - n * (n + 1) / 2) / (n * m), n, m)


def _told(auc: float, n: int, m: int) -> Told:
    q1, q2 = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    variance = (auc * (1 - auc) + (n - 1) * (q1 - auc * auc) + (m - 1) * (q2 - auc * auc)) / (n * m)
    spread = Z * math.sqrt(max(variance, 0))
    return Told(auc, max(0.0, auc - spread), min(1.0, auc + spread))


def by_pairs(pairs: Sequence[tuple[float, float]]) -> Told:
    """How often the known one of a pair, asked right before or after the other, has the larger value: what drifts over
    a run cancels out.
    """
    wins = sum(1.0 if known > unknown else 0.5 if known == unknown else 0.0 for known, unknown in pairs)
    share = wins / len(pairs)
    spread = Z * math.sqrt(share * (1 - share) / len(pairs))
    return Told(share, max(0.0, share - spread), min(1.0, share + spread))


def by_classifier(known: Sequence[Features], unknown: Sequence[Features], seed: int = 1) -> Told:
    """A naive Bayes classifier over every feature, judged on answers that it has not seen (5-fold cross-validation; a
    pair of one index stays together).

    Numbers are put in bins of equal share, everything else counts as it is; so no form of a difference in time is
    assumed, and two groups of one feature may overlap as they like.
    """
    pairs = list(zip(known, unknown, strict=True))
    random.Random(seed).shuffle(pairs)
    scores: dict[int, list[float]] = {1: [], 0: []}
    for fold in range(FOLDS):
        train = [pair for n, pair in enumerate(pairs) if n % FOLDS != fold]
        model = _trained([(features, group) for pair in train for features, group in zip(pair, (1, 0), strict=True)])
        for pair in pairs[fold::FOLDS]:
            scores[1].append(_score(model, pair[0]))
            scores[0].append(_score(model, pair[1]))
    return by_rank(scores[1], scores[0])


Weights = dict[str, tuple[list[float], dict[Hashable, float]]]


def _trained(rows: Sequence[tuple[Features, int]]) -> Weights:
    """For each feature its bins' edges and the log odds of each value, smoothed (Laplace)."""
    groups = Counter(group for _, group in rows)
    model: Weights = {}
    for name in dict.fromkeys(name for features, _ in rows for name in features):
        values = [features.get(name) for features, _ in rows]
        numbers = sorted(value for value in values if isinstance(value, float))
        edges = [numbers[len(numbers) * n // BINS] for n in range(1, BINS)] if numbers else []
        counts: dict[Hashable, list[int]] = defaultdict(lambda: [0, 0])
        for (_, group), value in zip(rows, values, strict=True):
            counts[_bin(value, edges)][group] += 1
        model[name] = (
            edges,
            {
                at: math.log((seen[1] + 1) / (groups[1] + len(counts)))
                - math.log((seen[0] + 1) / (groups[0] + len(counts)))
                for at, seen in counts.items()
            },
        )
    return model


def _score(model: Weights, features: Features) -> float:
    return sum(odds.get(_bin(features.get(name), edges), 0.0) for name, (edges, odds) in model.items())


def _bin(value: Hashable, edges: Sequence[float]) -> Hashable:
    return sum(value >= edge for edge in edges) if isinstance(value, float) else value
