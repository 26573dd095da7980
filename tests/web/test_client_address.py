"""Which address the service takes for the client's, and how an operator finds the right TRUSTED_PROXIES."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from app.web import hops
from tests.web.admins import of_role

PATH = "/api/admin/client-address"
ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "administration.md").read_text()
RENDER = "198.51.100.7, 104.22.17.40"  # what a client behind two proxies looks like: its own address, the outer proxy's


def asked(make_world: Any, trusted: int, **headers: str) -> dict[str, Any]:
    world = make_world(trusted_proxies=trusted, ratelimit=False)
    admin = of_role(world, "admin")
    return world.api("10.21.157.68").get(PATH, admin.token, **headers).ok().body


def test_the_answer_is_that_of_the_page(make_world: Any) -> None:
    [sample] = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
    assert asked(make_world, 1, **{"X-Forwarded-For": RENDER}) == sample


@pytest.mark.one_lane
@pytest.mark.parametrize(("trusted", "seen"), [(0, "10.21.157.68"), (2, "198.51.100.7"), (3, "10.21.157.68")])
def test_it_is_the_address_by_which_everything_else_goes(make_world: Any, trusted: int, seen: str) -> None:
    answer = asked(make_world, trusted, **{"X-Forwarded-For": RENDER})
    assert (answer["address"], answer["hops"], answer["trusted_proxies"]) == (seen, 2, trusted)
    world = make_world(trusted_proxies=trusted, ratelimit=False)
    wrong = {"identifier": "a@example.com", "password": "x" * 8}
    world.api("10.21.157.68").post("/api/auth/login", wrong, **{"X-Forwarded-For": RENDER})
    assert world.audit()[-1].ip == seen


@pytest.mark.one_lane
def test_without_a_proxy_there_is_one_choice(make_world: Any) -> None:
    answer = asked(make_world, 0)
    assert answer["hops"] == 0
    assert answer["choices"] == [{"trusted_proxies": 0, "address": "10.21.157.68"}]


@pytest.mark.one_lane
@pytest.mark.parametrize(
    ("entry", "seen"),
    [
        ("198.51.100.7:51234", "198.51.100.7"), ("[2001:db8::7]:443", "2001:db8::7"), ("[2001:db8::7]", "2001:db8::7"),
        ("[::ffff:198.51.100.7]:1", "198.51.100.7"), ("198.51.100.7:", None), ("198.51.100.7:x", None), ("[198.51.100.7", None),
        ("2001:db8::7:443", "2001:db8::7:443"), ("[2001:db8::7]443", None), ("[]:1", None), (":1", None), ("[fe80::1%eth0]:1", None),
        ("198.51.100.7:\u0661", None),
    ],
)  # fmt: skip
def test_a_proxy_may_name_the_port_too(entry: str, seen: str | None) -> None:
    """As gateways of Azure and IIS do; a port is another one with each connection, and no client's."""
    assert hops.read(entry) == seen


@pytest.mark.one_lane
def test_clients_behind_a_proxy_that_names_ports_are_told_apart(make_world: Any) -> None:
    world = make_world(trusted_proxies=1, ratelimit=False)
    wrong = {"identifier": "a@example.com", "password": "x" * 8}
    for entry in ("198.51.100.7:51234", "[2001:db8::7]:443"):
        world.api("10.21.157.68").post("/api/auth/login", wrong, **{"X-Forwarded-For": entry})
    assert [row.ip for row in world.audit()[-2:]] == ["198.51.100.7", "2001:db8::7"]


@pytest.mark.covers("attack A08")
def test_a_made_up_header_is_shown_for_what_it_is_and_no_longer_than_a_setting_may_be() -> None:
    choices = hops.choices(hops.split(["junk, <script>", "::ffff:192.0.2.1"]), "unix:")
    assert [choice["address"] for choice in choices] == [None, "192.0.2.1", None, None]
    assert len(hops.choices(["192.0.2.1"] * 5000, "192.0.2.9")) == hops.MOST + 1


@pytest.mark.one_lane
@pytest.mark.parametrize(
    ("trusted", "header", "said"),
    [
        (0, None, ["The client's address is that of the connection; X-Forwarded-For is ignored (TRUSTED_PROXIES=0)."]),
        (2, RENDER, ["The client's address is entry 2 from the right of X-Forwarded-For (TRUSTED_PROXIES=2); with fewer "
                     "entries, that of the connection.", "It sees 198.51.100.7.",
                     "TRUSTED_PROXIES=1 would see 104.22.17.40.", "TRUSTED_PROXIES=2 would see 198.51.100.7."]),
        (2, "nobody", ["The client's address is entry 2 from the right of X-Forwarded-For (TRUSTED_PROXIES=2); with fewer "
                       "entries, that of the connection.", "It sees the address of the connection.",
                       "TRUSTED_PROXIES=1 would see no address."]),
    ],
)  # fmt: skip
def test_the_command_line_says_it_too(make_world: Any, trusted: int, header: str | None, said: list[str]) -> None:
    world = make_world(trusted_proxies=trusted, web_concurrency=1)
    words = ["check-config", *(["--forwarded-for", header] if header else [])]
    result = world.app.test_cli_runner().invoke(args=words)
    assert result.exit_code == 0
    assert result.stderr.splitlines() == said
    assert f"TRUSTED_PROXIES={trusted}" in result.stdout.splitlines()


FORGED, CLIENT, NEXT, PROXY = "203.0.113.66", "198.51.100.7", "10.0.0.3", "10.0.0.2"


@pytest.mark.covers("attack A08")
@pytest.mark.parametrize("appends", [True, False], ids=["$proxy_add_x_forwarded_for", "$remote_addr"])
def test_one_number_fits_apps_and_a_server_that_passes_the_header_on_only_if_that_goes_past_the_proxy(
    appends: bool,
) -> None:
    """As the page of the Next.js example has it: apps come by a proxy, and so do visitors of that server."""

    def through(header: list[str], caller: str) -> list[str]:
        return [*header, caller] if appends else [caller]

    app = through([FORGED], CLIENT)
    past, by_it = app, through(app, NEXT)

    def fitting(visitor: list[str], peer: str) -> list[int]:
        """Each number by which both are seen, the visitor of the server and the user of the app."""
        seen = {n: {hops.address(visitor, peer, n), hops.address(app, PROXY, n)} for n in range(hops.MOST + 1)}
        return [n for n, addresses in seen.items() if addresses == {CLIENT}]

    assert fitting(past, NEXT) == [1]
    assert fitting(by_it, PROXY) == []


def test_the_page_of_the_next_js_example_tells_what_the_service_would_see() -> None:
    page = (ROOT / "examples" / "nextjs" / "README.md").read_text()
    rows = re.findall(r"^\| .* \| `([0-9., ]+)` \| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE)
    assert len(rows) == 3
    for header, *told in rows:
        assert [hops.address(hops.split([header]), NEXT, n) for n in (1, 2)] == [text.split()[0] for text in told]
