"""Machines: devices, and their codes by time."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from app.core import api_keys
from app.core.api_keys import Scope
from app.models import Device
from app.work import run
from tests.conftest import World
from tests.lanes import SECRETS
from tests.people import Answer, Person
from tests.web.test_sameness import statements

DEVICES, VERIFY = "/api/v1/devices", "/api/v1/otp/verify"
TILL = "till-7"


def digits(key: bytes, step: int, length: int = 6) -> str:
    """RFC 6238 once more, so that the service is not held against itself."""
    mac = hmac.new(key, step.to_bytes(8, "big"), hashlib.sha1).digest()
    value = int.from_bytes(mac[mac[-1] & 15 :][:4], "big") & 0x7FFFFFFF
    return f"{value % 10**length:0{length}}"


class Server:
    """A backend with an API key, and the devices whose keys it saw when it registered them."""

    def __init__(self, world: World, key: str = SECRETS["api_key"]) -> None:
        self.world, self.api, self.key = world, world.api(), key
        self.keys: dict[str, bytes] = {}

    def register(self, device_id: str = TILL, **more: Any) -> Answer:
        body = {"device_id": device_id, "user_id": "shop 12, Pune"}
        return self._learn(self.api.post(f"{DEVICES}/register", body, self.key, **more))

    def rotate(self, device_id: str = TILL, **more: Any) -> Answer:
        return self._learn(self.api.post(f"{DEVICES}/{device_id}/rotate-key", None, self.key, **more))

    def _learn(self, answer: Answer) -> Answer:
        if answer.status in (200, 201):
            self.keys[answer["data"]["device_id"]] = base64.b64decode(answer["data"]["derived_key"], validate=True)
        return answer

    @property
    def step(self) -> int:
        return int(self.world.clock.now.timestamp()) // 30

    def code(self, device_id: str = TILL, ahead: int = 0) -> str:
        return digits(self.keys[device_id], self.step + ahead)

    def wrong(self, device_id: str = TILL) -> str:
        """Digits that are right in no step nearby."""
        near = {self.code(device_id, ahead) for ahead in range(-3, 4)}
        return next(code for code in map("{:06}".format, range(100)) if code not in near)

    def verify(self, otp: Any = None, device_id: str = TILL) -> bool:
        body = {"device_id": device_id, "otp": self.code(device_id) if otp is None else otp}
        answer = self.api.post(VERIFY, body, self.key).ok()
        assert answer.body == {
            "success": True,
            "message": "OTP verification completed",
            "data": {"valid": answer["data"]["valid"]},
        }
        return answer["data"]["valid"]

    def show(self, device_id: str = TILL) -> dict[str, Any]:
        return self.api.get(f"{DEVICES}/{device_id}", self.key).ok()["data"]

    def act(self, what: str, device_id: str = TILL) -> Answer:
        return self.api.post(f"{DEVICES}/{device_id}/{what}", None, self.key)

    def reasons(self, device_id: str = TILL) -> list[str | None]:
        """Of the codes of a device, oldest first; None: it was right."""
        rows = self.world.audit(subject=device_id)
        return [row.reason for row in rows if row.event.startswith(("device.verified", "device.code_refused"))]


@pytest.fixture
def server(world: World) -> Server:
    return Server(world)


@pytest.fixture
def till(server: Server) -> Server:
    """A server with one device."""
    server.register().ok()
    return server


def make_key(world: World, *scopes: Scope, **more: Any) -> str:
    return run(world.kit, lambda work: api_keys.make(work, "a server", scopes, **more)[1])


# Registering


def test_a_device_is_registered_and_its_key_shown(world: World, server: Server) -> None:
    answer = server.register()
    assert answer.status == 201
    key = answer["data"].pop("derived_key")
    assert answer.body == {
        "success": True,
        "message": "Device registered successfully",
        "data": {"device_id": TILL, "algorithm": "SHA1", "digits": 6, "interval": 30},
    }
    assert len(base64.b64decode(key, validate=True)) == 32
    assert server.verify()


@pytest.mark.covers("asvs 11.4.2", "attack A22")
def test_of_the_key_only_its_digest_is_stored(world: World, till: Server) -> None:
    key = till.keys[TILL]
    [row] = world.rows(Device)
    assert row.key_digest == hashlib.sha256(key).hexdigest()
    assert_nowhere(world, key)


def assert_nowhere(world: World, key: bytes) -> None:
    """No column of any table holds the key, however it is spelled."""
    forms = {key.hex(), base64.b64encode(key).decode(), base64.urlsafe_b64encode(key).decode().rstrip("="), repr(key)}
    with world.engine.connect() as connection:
        for table in Device.metadata.sorted_tables:
            text = str(connection.execute(sa.select(table)).all())
            assert not [form for form in forms if form in text], table.name


def test_the_key_is_not_shown_again(till: Server) -> None:
    shown = base64.b64encode(till.keys[TILL]).decode()
    for path in (DEVICES, f"{DEVICES}/{TILL}", f"{DEVICES}/{TILL}/audit"):
        assert shown not in str(till.api.get(path, till.key).ok().body)


@pytest.mark.covers("nist N24")
def test_each_device_has_a_key_of_its_own(server: Server) -> None:
    for n in range(20):
        server.register(f"till-{n}").ok()
    assert len(set(server.keys.values())) == 20


def test_a_taken_id_is_a_conflict_and_changes_nothing(world: World, till: Server) -> None:
    key = till.keys[TILL]
    answer = till.api.post(f"{DEVICES}/register", {"device_id": TILL, "user_id": "somebody else"}, till.key)
    assert (answer.status, answer.code) == (409, "conflict")
    assert till.keys[TILL] == key
    assert till.verify()
    assert till.show()["user_id"] == "shop 12, Pune"
    [row] = world.audit(event="device.refused")
    assert (row.reason, row.user_id, row.success) == ("conflict", world.rows(Device)[0].id, False)


@pytest.mark.covers("attack A22")
def test_a_device_registered_anew_after_it_was_deactivated_has_another_key(till: Server) -> None:
    old, old_code = till.keys[TILL], till.code()
    till.act("deactivate").ok()
    assert till.register().status == 201
    assert till.keys[TILL] != old
    assert not till.verify(old_code)
    assert till.verify()
    shown = till.show()
    assert (shown["is_active"], shown["deactivated_at"], shown["key_version"]) == (True, None, 2)


@pytest.mark.covers("attack A35")
def test_user_id_is_free_text_and_gives_no_rights(world: World, server: Server, person: Person) -> None:
    user_id = person.tokens["user"]["id"]
    body = {"device_id": TILL, "user_id": user_id}
    server.api.post(f"{DEVICES}/register", body, server.key).ok()
    assert server.show()["user_id"] == user_id
    assert "device.registered" not in str(person.api.get("/api/auth/me/export", person.token).ok().body)


def test_without_a_master_secret_no_device_gets_a_key(make_world: Callable[..., World]) -> None:
    server = Server(make_world(master_secret=""))
    assert (server.register().status, server.rotate().code) == (404, "not_found")
    assert not server.verify("123456")
    assert server.world.count(Device) == 0


GOOD_IDS = [
    "a", "x" * 128, "till 7", "till-7.b_c:d@e", "d\u00e9vice", "\u0926\u0941\u0915\u093e\u0928", "register", "100%", "a?b#c", "0",
]  # fmt: skip
BAD_IDS = [
    "", "x" * 129, "a/b", "a\nb", "a\x00", "a\u2028b", "a\u200bb", " a", "a ", ".", "..", "\ud800", "a\u00a0b", "\t",
]  # fmt: skip


@pytest.mark.parametrize("device_id", GOOD_IDS, ids=ascii)
def test_ids_that_a_device_may_have(server: Server, device_id: str) -> None:
    assert server.register(device_id).status == 201
    assert server.verify(device_id=device_id)
    path = device_id.replace("%", "%25").replace("?", "%3F").replace("#", "%23")
    assert server.show(path)["usage_count"] == 1
    assert server.act("deactivate", path).status == 200


@pytest.mark.parametrize("device_id", BAD_IDS, ids=ascii)
def test_ids_that_no_device_may_have(world: World, server: Server, device_id: str) -> None:
    for path, more in ((f"{DEVICES}/register", {"user_id": "x"}), (VERIFY, {"otp": "123456"})):
        answer = server.api.post(path, {"device_id": device_id, **more}, server.key)
        assert (answer.status, answer["errors"][0]["field"]) == (422, "device_id")
    assert world.count(Device) == 0


@pytest.mark.parametrize("device_id", ["nobody", "x" * 129, "x" * 3000, "%00", "a%0Ab", "%ff", "%20", "a%2Fb"])
@pytest.mark.parametrize("what", ["", "/audit", "/deactivate", "/reactivate", "/rotate-key"])
def test_an_id_that_no_device_has_is_not_found(till: Server, device_id: str, what: str) -> None:
    method = "POST" if what[1:] in ("deactivate", "reactivate", "rotate-key") else "GET"
    answer = till.api.call(method, f"{DEVICES}/{device_id}{what}", None, till.key)
    assert (answer.status, answer.code) == (404, "not_found")


def test_two_spellings_of_one_id_are_one_device(server: Server) -> None:
    server.register("caf\u00e9").ok()
    assert server.register("cafe\u0301").code == "conflict"
    assert server.verify(server.code("caf\u00e9"), "cafe\u0301")
    assert server.show("cafe\u0301")["device_id"] == "caf\u00e9"


def test_ids_are_told_apart_exactly(server: Server) -> None:
    for name in ("Till", "till", "t\u00efll"):
        assert server.register(name).status == 201
    assert not server.verify(server.code("Till"), "till")


# Codes


@pytest.mark.covers("attack A20", "asvs 6.5.1", "nist N26")
def test_a_code_is_right_once(world: World, till: Server) -> None:
    code = till.code()
    assert [till.verify(code) for _ in range(3)] == [True, False, False]
    world.clock.advance(seconds=30)
    assert not till.verify(code), "in the next step it is still in the window, and used"
    assert till.reasons() == [None, "replayed", "replayed", "replayed"]


@pytest.mark.covers("attack A20")
def test_an_earlier_step_after_a_later_one_is_refused(till: Server) -> None:
    before, now, after = (till.code(ahead=n) for n in (-1, 0, 1))
    assert till.verify(now)
    assert not till.verify(before)
    assert till.verify(after)
    assert [till.verify(code) for code in (before, now, after)] == [False, False, False]
    assert till.reasons() == [None, "replayed", None, "replayed", "replayed", "replayed"]


@pytest.mark.covers("attack A21", "asvs 6.5.5")
def test_one_step_each_way_counts_and_no_more(world: World, server: Server) -> None:
    for distance in range(-3, 4):
        name = f"till{distance}"
        server.register(name).ok()
        assert server.verify(server.code(name, distance), name) == (abs(distance) <= 1), distance


@pytest.mark.covers("attack A21")
def test_without_a_window_only_the_step_of_now_counts(make_world: Callable[..., World]) -> None:
    server = Server(make_world(otp_window=0))
    server.register().ok()
    assert [server.verify(server.code(ahead=n)) for n in (-1, 1, 0)] == [False, False, True]


@pytest.mark.covers("asvs 6.5.8")
def test_the_service_s_own_clock_counts(till: Server) -> None:
    later = till.code(ahead=20)
    body = {"device_id": TILL, "otp": later, "time": 9_999_999_999, "timestamp": 9_999_999_999}
    hints = {"Date": "Sat, 21 Nov 2026 10:10:00 GMT", "X-Time": "9999999999"}
    assert till.api.post(VERIFY, body, till.key, **hints).ok()["data"] == {"valid": False}


def zero_led(server: Server, zeros: int) -> str:
    """A code of a device that begins with zeros; time goes on until there is one."""
    while not server.code().startswith("0" * zeros):
        server.world.clock.advance(seconds=30)
    return server.code()


@pytest.mark.covers("attack A19")
@pytest.mark.parametrize("zeros", [0, 1, 2])
def test_an_integer_has_its_leading_zeros_restored(till: Server, zeros: int) -> None:
    code = zero_led(till, zeros)
    assert till.verify(int(code))
    assert not till.verify(code), "it is the same code"


def test_a_wrong_integer_is_just_not_valid(till: Server) -> None:
    assert [till.verify(n) for n in (0, 7, int(till.wrong()), 12_345_678)] == [False] * 4
    assert set(till.reasons()) == {"wrong_code"}


def test_a_text_has_to_have_its_zeros(till: Server) -> None:
    code = zero_led(till, 1)
    answer = till.api.post(VERIFY, {"device_id": TILL, "otp": code.lstrip("0")}, till.key)
    assert (answer.status, answer["errors"][0]["field"]) == (422, "otp")


NO_CODES = [
    True, False, None, -1, -81804, 10**8, 10**400, 81804.0, 1e5, "", "81804", "081804901", " 081804", "081804 ", "081 804", "\n081804",
    "081804\n", "\uff10\uff18\uff11\uff18\uff10\uff14", "\u0660\u0668\u0661\u0668\u0660\u0664", "08180a", "-81804", "+081804", "0x81804",
    ["081804"], {"otp": "081804"}, "081804\x00",
]  # fmt: skip


@pytest.mark.covers("attack A19", "attack A20")
@pytest.mark.parametrize("otp", NO_CODES, ids=ascii)
@pytest.mark.one_lane
def test_what_is_no_code_is_a_field_error_and_counts_nothing(world: World, till: Server, otp: Any) -> None:
    answer = till.api.post(VERIFY, {"device_id": TILL, "otp": otp}, till.key)
    assert (answer.status, answer.code, answer["errors"][0]["field"]) == (422, "validation_failed", "otp")
    assert world.rows(Device)[0].failures == 0
    assert till.verify()


def test_the_code_of_another_device_is_wrong(till: Server) -> None:
    till.register("till-8").ok()
    assert not till.verify(till.code("till-8"))
    assert till.verify(till.code("till-8"), "till-8")


def test_a_use_is_counted_and_dated(world: World, till: Server) -> None:
    assert (till.show()["usage_count"], till.show()["last_used"]) == (0, None)
    for _ in range(3):
        world.clock.advance(seconds=30)
        assert till.verify()
    used_at = world.clock.now
    till.verify(till.wrong())
    till.verify()
    shown = till.show()
    assert (shown["usage_count"], shown["last_used"]) == (3, used_at.strftime("%Y-%m-%dT%H:%M:%SZ"))


def test_a_device_keeps_the_digits_and_interval_it_was_registered_with(make_world: Callable[..., World]) -> None:
    old = Server(make_world())
    old.register().ok()
    wider = Server(make_world(keep=True, otp_digits=8, otp_interval=15))
    wider.keys = old.keys
    assert wider.verify()
    answer = wider.register("till-8").ok()
    assert (answer["data"]["digits"], answer["data"]["interval"]) == (8, 15)
    step = int(wider.world.clock.now.timestamp()) // 15
    assert wider.verify(int(digits(wider.keys["till-8"], step, 8)), "till-8")
    assert not wider.verify(digits(wider.keys["till-8"], step + 1), "till-8"), "six of its eight digits are not enough"


# Sameness: why not is nobody's to know


def refuse_replayed(server: Server) -> str:
    code = server.code()
    server.verify(code)
    return code


def refuse_deactivated(server: Server) -> str:
    server.act("deactivate").ok()
    return server.code()


def refuse_locked(server: Server) -> str:
    for _ in range(5):
        server.verify(server.wrong())
    return server.code()


REFUSED: dict[str, Callable[[Server], str]] = {
    "wrong_code": Server.wrong,
    "replayed": refuse_replayed,
    "deactivated": refuse_deactivated,
    "locked": refuse_locked,
}


@pytest.mark.one_copy
@pytest.mark.covers("attack A31")
@pytest.mark.parametrize("reason", [*REFUSED, "unknown_device"])
def test_every_reason_not_to_be_valid_is_one_answer_and_one_work(world: World, till: Server, reason: str) -> None:
    till.register("other").ok()
    right = statements(world, lambda: till.verify(till.code("other"), "other"))
    name = "unknown" if reason == "unknown_device" else TILL
    code = REFUSED[reason](till) if reason in REFUSED else "123456"
    answers: list[bool] = []
    seen = statements(world, lambda: answers.append(till.verify(code, name)))
    assert answers == [False]
    assert [s.split()[0] for s in seen] == [s.split()[0] for s in right]
    assert till.reasons(name)[-1] == reason


@pytest.mark.one_copy
def test_a_check_is_three_statements(world: World, till: Server) -> None:
    """The ceiling of the performance page; a key of the table is looked up besides."""
    seen = statements(world, till.verify)
    assert [s.split()[0] for s in seen if not s.startswith("BEGIN")] == ["SELECT", "UPDATE", "INSERT"]


# Guessing


@pytest.mark.covers("attack A01")
def test_five_wrong_codes_in_a_row_lock_the_device_for_fifteen_minutes(world: World, till: Server) -> None:
    assert [till.verify(till.wrong()) for _ in range(5)] == [False] * 5
    assert not till.verify()
    assert till.show()["locked_until"]
    world.clock.advance(seconds=899)
    assert not till.verify()
    world.clock.advance(seconds=1)
    assert till.verify()
    assert till.reasons() == ["wrong_code"] * 5 + ["locked"] * 2 + [None]


def test_a_right_code_ends_the_row(till: Server) -> None:
    for _ in range(3):
        for _ in range(4):
            assert not till.verify(till.wrong())
        till.world.clock.advance(seconds=30)
        assert till.verify()


def test_a_lock_is_not_prolonged_by_what_comes_meanwhile(world: World, till: Server) -> None:
    for _ in range(20):
        till.verify(till.wrong())
    world.clock.advance(minutes=15)
    assert till.verify()


def test_each_row_of_five_locks_again(world: World, till: Server) -> None:
    for _ in range(3):
        for _ in range(5):
            assert not till.verify(till.wrong())
        assert not till.verify()
        world.clock.advance(minutes=15)
    assert till.verify()


def test_a_lock_is_the_device_s_own(till: Server) -> None:
    till.register("till-8").ok()
    for _ in range(5):
        till.verify(till.wrong())
    assert till.verify(device_id="till-8")


def test_a_code_that_was_used_is_no_guess(till: Server) -> None:
    """A client that repeats a request, or whoever overheard a code, must not lock the device."""
    code = till.code()
    assert till.verify(code)
    for _ in range(12):
        assert not till.verify(code)
    till.world.clock.advance(seconds=30)
    assert till.verify()


@pytest.mark.covers("nist N30", "attack A02")
def test_a_hundred_wrong_codes_in_a_row_void_the_key(world: World, till: Server) -> None:
    for _ in range(20):
        for _ in range(5):
            assert not till.verify(till.wrong())
        world.clock.advance(minutes=15)
    assert not till.verify()
    assert till.reasons()[-1] == "too_many_failures"
    world.clock.advance(days=30)
    assert not till.verify()
    till.rotate().ok()
    assert till.verify()


def test_a_lock_outlives_the_limiter_storage(world: World, till: Server) -> None:
    for _ in range(5):
        till.verify(till.wrong())
    for limiter in world.app.extensions["limiter"]:
        limiter.reset()
    assert not till.verify()


def test_a_server_may_ask_often(world: World, till: Server) -> None:
    """One address asks for every device: it is the device's budget that counts, not the address's."""
    for _ in range(700):
        till.verify("123456", "nobody")
    assert till.verify()
