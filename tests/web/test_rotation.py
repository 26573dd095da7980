"""Another SECRET_KEY or MASTER_SECRET, one process at a time: what each kind of value does at every step."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from app.core import rotation
from app.core.inspection import Inspection, inspect
from app.crypto import totp
from app.crypto.keys import Purpose
from app.delivery import upkeep
from app.models import Authenticator, BackupCode, Session
from app.work import run
from tests.authenticator import enrol, signin
from tests.conftest import World
from tests.lanes import SECRETS
from tests.security_key import Authenticator as SecurityKey
from tests.web.test_passkeys import ask, bind, login

OLD, NEW = SECRETS["secret_key"], "Rw7Tn2Kx9Vb4Qm6Zp1Lc8Hd3Jf5Gs0Ya2Ue7Io4Xt"
OLD_MASTER, NEW_MASTER = SECRETS["master_secret"], "n8ZqWx3RtYv6LpKc1JdGh5SfAaUeOiTrEwQmNb2B7x9"
KEY = SECRETS["api_key"]
AGENT = "Mozilla/5.0 (X11; Linux x86_64) Firefox/130.0"
BEFORE: dict[str, str] = {}
ACCEPTS = {"secret_key_previous": NEW, "master_secret_previous": NEW_MASTER}
USES = {
    "secret_key": NEW, "secret_key_previous": OLD, "master_secret": NEW_MASTER, "master_secret_previous": OLD_MASTER,
}  # fmt: skip
DROPPED = {"secret_key": NEW, "master_secret": NEW_MASTER}
Holds = Callable[[World], bool]
Worlds = Callable[..., World]


def a_code_that_another_process_sends(made: World) -> Holds:
    person = made.person().sign_up()
    made.sends_at_once = False
    asked = person.ask_signin().ok()

    def holds(there: World) -> bool:
        there.deliver()
        codes = [m.code for m in there.senders["email"].messages if m.recipient == person.email]
        person.api = there.api()
        return bool(codes) and person.verify_signin(asked["challenge_id"], codes[-1]).status == 200

    return holds


def a_code_that_was_sent(made: World) -> Holds:
    person = made.person().sign_up()
    asked = person.ask_signin().ok()
    code = person.code()

    def holds(there: World) -> bool:
        person.api = there.api()
        return person.verify_signin(asked["challenge_id"], code).status == 200

    return holds


def a_refresh_token_twice(made: World) -> Holds:
    person = made.person().sign_up()
    first = person.refresh().ok()["refresh_token"]

    def holds(there: World) -> bool:
        person.api = there.api()
        again = person.refresh()
        return again.status == 200 and again["refresh_token"] == first

    return holds


def a_request_twice(made: World) -> Holds:
    person = made.person()
    body = {"email": person.email, "password": person.password}
    first = made.api().post("/api/auth/signup", body, **{"Idempotency-Key": person.email}).ok().body

    def holds(there: World) -> bool:
        again = there.api().post("/api/auth/signup", body, **{"Idempotency-Key": person.email})
        return again.status == 201 and again.body == first

    return holds


def a_known_browser(made: World) -> Holds:
    person = made.person()
    person.api = made.api(**{"User-Agent": AGENT})
    person.sign_up().sign_in()

    def holds(there: World) -> bool:
        person.api, person.read = there.api(**{"User-Agent": AGENT}), there.read
        person.sign_in()
        return "notice.new_signin" not in there.inbox(person.email)

    return holds


def an_authenticator_app(made: World) -> Holds:
    person = made.person().sign_up()
    app = enrol(made, person)

    def holds(there: World) -> bool:
        person.api, app.world = there.api(), there
        return signin(person, app.fresh()).status == 200

    return holds


def a_backup_code(made: World) -> Holds:
    person = made.person().sign_up()
    app = enrol(made, person)

    def holds(there: World) -> bool:
        person.api = there.api()
        return signin(person, app.backup_codes.pop(), method="backup_code").status == 200

    return holds


def a_passkey_s_challenge(made: World) -> Holds:
    person, phone = made.person().sign_up(), SecurityKey()
    bind(person, phone).ok()
    asked = ask(made.api()).ok()

    def holds(there: World) -> bool:
        return login(there.api(), asked["challenge_id"], phone.get(asked["options"])).status == 200

    return holds


def the_audit_log(made: World) -> Holds:
    made.person().sign_up()
    upkeep.seal(made.kit)
    return lambda there: list(inspect(there.kit, Inspection())) == []


def a_device(made: World) -> Holds:
    name, key_of_server = made.person().email, made.settings.api_key.get_secret_value()
    body = {"device_id": name, "user_id": "shop"}
    data = made.api().post("/api/v1/devices/register", body, key_of_server).ok()["data"]
    key = base64.b64decode(data["derived_key"])

    def holds(there: World) -> bool:
        there.clock.advance(seconds=31)
        code = totp.code_of(key, totp.step_at(there.clock.now))
        answer = there.api().post("/api/v1/otp/verify", {"device_id": name, "otp": code}, key_of_server).ok()
        return bool(answer["data"]["valid"])

    return holds


SCENES: dict[Purpose, Callable[[World], Holds]] = {
    Purpose.CODES: a_code_that_another_process_sends,
    Purpose.DIGESTS: a_code_that_was_sent,
    Purpose.SUCCESSORS: a_refresh_token_twice,
    Purpose.REPEATS: a_request_twice,
    Purpose.ANSWERS: a_request_twice,
    Purpose.CLIENTS: a_known_browser,
    Purpose.FACTORS: an_authenticator_app,
    Purpose.BACKUP_CODES: a_backup_code,
    Purpose.PASSKEYS: a_passkey_s_challenge,
    Purpose.AUDIT: the_audit_log,
    Purpose.SEALS: the_audit_log,
    Purpose.DEVICES: a_device,
}
OUTLIVES = {Purpose.CLIENTS, Purpose.FACTORS}  # an old key that is dropped after `flask rotate-keys`


class Fleet:
    """Processes of one service, each with settings of its own, over one database and one time."""

    def __init__(self, make_world: Worlds) -> None:
        self._make, self._now = make_world, make_world(mfa_policy="required").clock.now
        self._last: World | None = None

    def __call__(self, settings: dict[str, str]) -> World:
        if self._last:
            self._now = self._last.clock.now
        self._last = self._make(keep=True, **settings)
        self._last.clock.now = self._now
        return self._last


def rotate(world: World, *words: str) -> tuple[int, Any]:
    done = world.app.test_cli_runner().invoke(args=["rotate-keys", "--json", *words])
    assert done.stdout, (done.exception, done.stderr)
    return done.exit_code, json.loads(done.stdout)


def test_every_purpose_of_a_key_has_its_scene() -> None:
    assert SCENES.keys() == set(Purpose)


@pytest.mark.one_lane
@pytest.mark.parametrize("scene", dict.fromkeys(SCENES.values()), ids=lambda scene: scene.__name__)
def test_a_value_made_at_any_step_holds_in_processes_of_the_next_and_the_last(
    make_world: Worlds, scene: Callable[[World], Holds]
) -> None:
    fleet = Fleet(make_world)
    for made, there in ((ACCEPTS, USES), (USES, ACCEPTS), (USES, DROPPED)):
        fleet(USES)
        if scene is the_audit_log:
            make_world(**made)  # earlier rows would be of keys that are not listed
        holds = scene(fleet(made))
        assert holds(fleet(there)), f"made by {made}, used by {there}"


@pytest.mark.one_lane
@pytest.mark.parametrize(
    "scene", [a_code_that_was_sent, an_authenticator_app, a_device], ids=lambda scene: scene.__name__
)
def test_without_the_first_step_a_process_that_is_late_refuses(
    make_world: Worlds, scene: Callable[[World], Holds]
) -> None:
    """Why the new key is accepted everywhere before one process uses it."""
    fleet = Fleet(make_world)
    holds = scene(fleet(USES))
    assert not holds(fleet(BEFORE))


@pytest.mark.one_lane
@pytest.mark.parametrize("purpose", SCENES)
def test_what_outlives_the_old_key_is_what_could_be_renewed(make_world: Worlds, purpose: Purpose) -> None:
    fleet = Fleet(make_world)
    holds = SCENES[purpose](fleet(ACCEPTS))
    code, told = rotate(fleet(USES))
    dropped = fleet(DROPPED)
    assert holds(dropped) == (purpose in OUTLIVES)
    if purpose not in OUTLIVES | {Purpose.SUCCESSORS, Purpose.AUDIT, Purpose.SEALS}:
        assert (code, told["needed"]) == (1, True), "and it was said before"


def test_what_older_keys_are_needed_for_is_told_and_renewed(make_world: Worlds) -> None:
    fleet = Fleet(make_world)
    here = fleet(ACCEPTS)
    person = here.person().sign_up()
    app = enrol(here, person)
    a_device(here)
    here.clock.advance(hours=25)
    upkeep.seal(here.kit)
    before = here.rows(Authenticator)[0].secret
    assert rotate(here) == (0, {"renewed": {"authenticator apps": 0, "known browsers": 0}, "left": [], "needed": False})
    there = fleet(USES)
    code, told = rotate(there, "--check")
    left = {each["what"]: (each["key"], each["rows"]) for each in told["left"]}
    old = "SECRET_KEY_PREVIOUS[1]"
    assert {"audit rows", "audit seals"} <= left.keys()
    assert {k: v for k, v in left.items() if not k.startswith("audit")} == {
        "authenticator apps": (old, 1),
        "known browsers": (old, here.count(Session)),
        "backup codes": (old, 10),
        "devices": ("MASTER_SECRET_PREVIOUS[1]", 1),
    }
    assert (code, here.rows(Authenticator)[0].secret) == (1, before), "a check changes nothing"
    assert rotate(there)[1]["renewed"] == {"authenticator apps": 1, "known browsers": here.count(Session)}
    [noted] = there.audit(event="keys.rotated")
    assert noted.facts["rows"]["authenticator apps"] == 1
    code, told = rotate(there, "--check")
    assert {each["what"] for each in told["left"]} == {"backup codes", "audit rows", "audit seals", "devices"}
    assert rotate(there)[1]["renewed"] == {"authenticator apps": 0, "known browsers": 0}, "twice is as good as once"
    person.api, app.world = there.api(), there
    signin(person, app.fresh()).ok()
    person.api.post("/api/auth/factors/backup-codes", {}, person.token).ok()
    code, told = rotate(there, "--check")
    assert {each["what"] for each in told["left"]} == {"audit rows", "audit seals", "devices"}
    assert code == 1
    there.api().post(f"/api/v1/devices/{there.rows(rotation.Device)[0].device_id}/rotate-key", {}, KEY).ok()
    assert rotate(there, "--check")[0] == 0, "audit rows need the key for their verification alone"


@pytest.mark.one_lane
def test_backup_codes_from_before_their_key_was_noted_count_as_of_the_oldest(make_world: Worlds) -> None:
    fleet = Fleet(make_world)
    here = fleet(BEFORE)
    enrol(here, here.person().sign_up())
    with here.engine.begin() as connection:
        connection.execute(sa.update(BackupCode).values(key_id=None))
    assert rotate(here, "--check")[0] == 0
    told = rotate(fleet(USES), "--check")[1]
    [codes] = [each for each in told["left"] if each["what"] == "backup codes"]
    assert codes["key"] == "SECRET_KEY_PREVIOUS[1]"


@pytest.mark.one_lane
def test_what_no_listed_key_made_is_told_and_left_alone(make_world: Worlds) -> None:
    fleet = Fleet(make_world)
    enrol(fleet(BEFORE), fleet(BEFORE).person().sign_up())
    dropped = fleet(DROPPED)
    secret = dropped.rows(Authenticator)[0].secret
    code, told = rotate(dropped)
    assert (code, told["needed"]) == (0, False), "keeping what is listed would not help"
    assert all(each["key"].startswith("a key that no setting has") for each in told["left"])
    assert dropped.rows(Authenticator)[0].secret == secret
    text = dropped.app.test_cli_runner().invoke(args=["rotate-keys"]).stdout
    assert "authenticator apps: 0 renewed\n" in text
    [app] = [
        line for line in text.splitlines() if line.startswith("authenticator apps: 1 of a key that no setting has")
    ]
    assert app.endswith("; cannot be read until that key is put back into SECRET_KEY_PREVIOUS")
    assert text.endswith("what was made with keys that no setting has cannot be read\n")
    assert "the service needs no older key" not in text
    assert secret.partition(".")[2] not in text


@pytest.mark.one_lane
def test_a_row_that_goes_meanwhile_is_no_obstacle(make_world: Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(make_world)
    here = fleet(ACCEPTS)
    people = [here.person().sign_up() for _ in range(3)]
    for person in people:
        enrol(here, person)
    monkeypatch.setattr(rotation, "PAGE", 2)
    monkeypatch.setattr(rotation, "BATCH", 1)
    there = fleet(USES)
    whose = {row.id: str(row.user_id) for row in there.rows(Authenticator)}
    person = people[0]
    person.api.delete("/api/auth/me", person.token).ok()
    for one, owner in whose.items():
        resealed = run(there.kit, lambda work, one=one: rotation._reseal(work, [one]))
        assert resealed == (owner != person.tokens["user"]["id"])


@pytest.mark.one_lane
def test_an_old_browser_app_finds_its_challenge_in_a_process_with_another_key(make_world: Worlds) -> None:
    """By identifier alone, the challenge is found by the kind of browser: under every key."""
    fleet = Fleet(make_world)
    for made, there in ((ACCEPTS, USES), (USES, ACCEPTS)):
        here = fleet(made)
        person = here.person().sign_up()
        client = here.app.test_client()
        body: dict[str, str] = {"identifier": person.email, "password": person.password}
        assert client.post("/login", json=body, headers={"User-Agent": AGENT}).status_code == 200
        code = here.read("email", person.email)
        other = fleet(there).app.test_client()
        done = other.post("/verify-otp", json={"identifier": person.email, "otp": code}, headers={"User-Agent": AGENT})
        assert done.status_code == 200
