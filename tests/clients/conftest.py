from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.mint import private
from tests.clients.stub import Stub, serving


@pytest.fixture(scope="module")
def _stub() -> Iterator[Stub]:
    with serving() as stub:
        yield stub


@pytest.fixture
def stub(_stub: Stub) -> Stub:
    """Publishes one key of each kind, and no session has ended."""
    _stub.reset(private("EdDSA", "ed"), private("ES256", "ec"), private("RS256", "rsa"))
    return _stub
