"""Lists in pages: `?limit=` and `?cursor=`, answered with `items` and `next_cursor`. Ids sort by time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from app.web.fields import Body


class Page(Body):
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: UUID | None = None


def answer(page: Page, read: Callable[[int, UUID | None], list[Any]], present: Callable[[Any], Any]) -> dict[str, Any]:
    """One page. `read(limit, before)` gives rows newest first; one more than asked tells if there is a next page."""
    rows = read(page.limit + 1, page.cursor)
    shown = rows[: page.limit]
    more = len(rows) > page.limit
    return {"items": [present(row) for row in shown], "next_cursor": str(shown[-1].id) if more else None}
