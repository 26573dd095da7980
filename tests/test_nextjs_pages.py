"""What the sources of the Next.js example, and our own page, leave out. It is read, not run: see test_nextjs_example.py."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "nextjs"
SOURCES = {
    str(path.relative_to(EXAMPLE)): path.read_text()
    for folder in ("app", "components", "lib")
    for path in sorted((EXAMPLE / folder).rglob("*.ts*"))
}
PAGES = {path.name: path.read_text() for path in (ROOT / "app" / "web" / "pages").glob("*.html")}
ON_THE_SERVER = {"lib/backend.ts", "lib/origin.ts"}  # where the service and the application are, by the environment


def said(pattern: str) -> Iterator[str]:
    """Whatever the sources say of a pattern."""
    assert len(SOURCES) > 15
    for text in SOURCES.values():
        for found in re.finditer(pattern, text):
            yield found[0]


@pytest.mark.covers("asvs 3.2.3")
def test_nothing_is_looked_up_by_a_global_name() -> None:
    assert list(said(r"\b(window|document|globalThis|self|top|parent|frames)\s*(\?\.|\.|\[)\S*")) == []
    assert list(said(r"dangerouslySetInnerHTML|\b(inner|outer)HTML\b|insertAdjacentHTML|\beval\(|\bFunction\(")) == []


@pytest.mark.covers("asvs 3.5.5")
def test_messages_go_over_a_channel_of_the_origin_only() -> None:
    posted = list(said(r"\S*postMessage\b"))
    assert posted == ["channel?.postMessage"]
    assert list(said(r"\S*onmessage\b|addEventListener\(\s*.message.")) == ["channel.onmessage"]
    assert list(said(r"\bchannel = .*")) == ['channel = new BroadcastChannel("latchkey");']


@pytest.mark.covers("asvs 3.7.3")
def test_no_page_leads_to_another_origin() -> None:
    links = list(said(r"(\bhref=|\brouter\.(push|replace)\(|\bredirect\()\S+"))
    assert len(links) >= 7
    assert all(re.search(r"[=(]\"/[a-z]", link) for link in links), links
    assert list(said(r"<a\b|\blocation\b\s*[.=]|\bwindow\.open|<form\b[^>]*\baction=\"|<iframe\b|formAction")) == []
    named = {name for name, text in SOURCES.items() if re.search(r"https?://\w", text)}
    assert named <= ON_THE_SERVER
    assert PAGES
    for page in PAGES.values():
        assert not re.search(r"<a\b|\bhref=|\bsrc=|\baction=|<script|https?://", page)
