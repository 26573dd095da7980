"""Cryptoperiods (NIST SP 800-57) of the keys that sign the audit log, as the chain of seals shows them.

A retired key stays listed to verify what it once signed, so a signature alone does not tell what was signed in time.
The chain does: nothing can be put between seals that are there, only after them. The period of a key is over once a
younger one, which came into the chain later, has sealed for longer than OVERLAP and the older one signed nothing since.
"""

from __future__ import annotations

from datetime import datetime, timedelta

OVERLAP = timedelta(days=1)  # copies of the service change their key one after the other


class Cryptoperiods:
    def __init__(self, *lasting: str) -> None:
        """`lasting`: keys whose period is not over, whatever the chain says: the one in force, and those that an
        operator has gone back to.
        """
        self._lasting = lasting
        self._ages: dict[str, int] = {}  # keys in the order in which they came
        self._replaced: dict[str, tuple[datetime, datetime]] = {}  # first and last seal of younger keys since its use

    def seal(self, key_id: str, made_at: datetime) -> bool:
        """Take the next seal, a sound one. False if the period of its key was over; then it counts for nothing."""
        if self._is_over(key_id):
            return False
        age = self._ages.setdefault(key_id, len(self._ages))
        self._replaced.pop(key_id, None)
        for older in [each for each in self._ages if self._ages[each] < age]:
            since, _ = self._replaced.get(older, (made_at, made_at))
            self._replaced[older] = since, made_at
        return True

    def row(self, key_id: str, at: datetime | None = None) -> bool:
        """Take a sound row of that seal, or one that waits. `at`: when, if it is sealed. False as above."""
        if self._is_over(key_id, at):
            return False
        self._ages.setdefault(key_id, len(self._ages))
        if key_id in self._replaced:
            _, until = self._replaced[key_id]
            self._replaced[key_id] = until, until
        return True

    def _is_over(self, key_id: str, at: datetime | None = None) -> bool:
        if key_id in self._lasting or key_id not in self._replaced:
            return False
        since, until = self._replaced[key_id]
        return max(until, at or until) - since > OVERLAP
