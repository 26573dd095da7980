"""Argon2id behind a fixed number of slots; hashes of other systems are compared there too, until they are replaced.

A hash costs tens of milliseconds and tens of mebibytes, so only as many run as there are cores, a short
queue waits, and the rest is told to come back. No caller may hold a database connection meanwhile.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import argon2
from argon2.exceptions import HashingError, InvalidHashError, VerificationError

from app.crypto import legacy
from app.errors import Overloaded

PATIENCE_S = 1.0  # longest wait for a slot
RETRY_AFTER_S = 1
LEAST_KIB = 8  # that Argon2 takes (RFC 9106, section 3.1)


class Hasher:
    def __init__(
        self,
        *,
        memory_kib: int,
        time_cost: int,
        slots: int,
        queue: int,
        waited: Callable[[float], object] = lambda _: None,
    ) -> None:
        """`slots` hashes at once, `queue` callers waiting; parallelism is 1, as ASVS 5.0 appendix C has it. `waited` is
        told how many seconds each caller waited for a slot. Raises MemoryError.
        """
        self._waited = waited
        self._argon2 = argon2.PasswordHasher(time_cost=time_cost, memory_cost=memory_kib, parallelism=1)
        self._slots = threading.BoundedSemaphore(slots)
        self._places = threading.BoundedSemaphore(slots + queue)
        try:
            self._nobodys = self._argon2.hash(secrets.token_bytes(16))
        except HashingError:
            raise MemoryError("a hash cannot have that much memory here") from None

    def hash(self, password: bytes) -> str:
        """An Argon2id string with a fresh 128-bit salt (RFC 9106). Raises Overloaded."""
        with self._slot():
            return self._made(self._argon2, password)

    def matches(self, hashed: str | None, password: bytes) -> bool:
        """True if the password made this hash. With no hash the same work is done and the answer is False; beside one
        that was made at a lower price than today's, what is missing is done too.

        A hash that cannot be read counts as one that does not match. Raises Overloaded.
        """
        with self._slot():
            stored = hashed or self._nobodys
            if legacy.known(stored):
                return legacy.matches(stored, password)
            try:
                right = self._argon2.verify(stored, password) and hashed is not None
            except (VerificationError, InvalidHashError, ValueError) as error:
                right = legacy.nothing_but_wrong(error)
            self._make_up(stored, password)  # right or wrong: what a verdict hides, the work must hide
            return right

    def outdated(self, hashed: str) -> bool:
        """True if the hash was made with other parameters than today's, or by another system."""
        return legacy.known(hashed) or self._argon2.check_needs_rehash(hashed)

    def _make_up(self, stored: str, password: bytes) -> None:
        """Do what a hash of today costs beyond a cheaper one: once `ARGON2_*` are raised, who has not signed in since
        would be told from nobody by the time that a password takes.
        """
        try:
            then = argon2.extract_parameters(stored)
        except InvalidHashError:
            return
        now = self._argon2
        missing = max(0, now.time_cost * now.memory_cost - then.time_cost * then.memory_cost)  # passes over a KiB
        passes, rest = divmod(missing, now.memory_cost)
        for time_cost, kib in ((passes, now.memory_cost), (1, rest)):
            if time_cost and kib >= LEAST_KIB:
                self._made(argon2.PasswordHasher(time_cost=time_cost, memory_cost=kib, parallelism=1), password)

    @staticmethod
    def _made(argon2id: argon2.PasswordHasher, password: bytes) -> str:
        try:
            return argon2id.hash(password)
        except HashingError as error:
            raise MemoryError from error

    @contextmanager
    def _slot(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise Overloaded(retry_after=RETRY_AFTER_S)
        try:
            began = time.perf_counter()
            got = self._slots.acquire(timeout=PATIENCE_S)
            self._waited(time.perf_counter() - began)
            if not got:
                raise Overloaded(retry_after=RETRY_AFTER_S)
            try:
                yield
            except MemoryError:
                raise Overloaded(retry_after=RETRY_AFTER_S, cause="no memory for a hash") from None
            finally:
                self._slots.release()
        finally:
            self._places.release()
