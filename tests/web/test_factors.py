"""Authenticator apps and backup codes: enrolled, used once a step, never removed by a recovery."""

from __future__ import annotations

import base64
import re
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

import pyotp
import pytest

from app.core import authenticators, backup_codes
from app.crypto import codes
from app.models import Authenticator, BackupCode, Repeat, User
from tests.authenticator import App, confirm, enrol, signin
from tests.conftest import World
from tests.lanes import SECRETS
from tests.people import PASSWORD, Person, while_hashing, wrong

NEW = "another horse 8"
FULL_WIDTH = {ord("0") + n: 0xFF10 + n for n in range(10)}


def reset(world: World, person: Person, channel: str = "email") -> None:
    """Set a new password by a recovery code."""
    body = {"email": person.email} if channel == "email" else {"phone": person.phone}
    asked = person.api.post("/api/auth/forgot-password", body).ok()
    answer = {"challenge_id": asked["challenge_id"], "otp": person.code(channel), "new_password": NEW}
    person.api.post("/api/auth/reset-password", answer).ok()
    person.password = NEW
    world.clock.advance(minutes=2)


def left(person: Person) -> int:
    return person.api.get("/api/auth/factors", person.token)["backup_codes_left"]


# Enrolment


@pytest.mark.covers("asvs 6.5.4", "nist N24")
def test_an_app_is_enrolled_by_qr_code_or_typed_secret(world: World, person: Person) -> None:
    begun = person.api.post("/api/auth/factors/totp", {"name": "My phone"}, person.token)
    assert begun.status == 201
    url = urlsplit(begun["otpauth_uri"])
    facts = {name: values[0] for name, values in parse_qs(url.query).items()}
    assert (url.scheme, url.netloc) == ("otpauth", "totp")
    assert unquote(url.path) == f"/{world.settings.brand_name}:{person.email}"
    assert facts == {
        "secret": begun["secret"], "issuer": world.settings.brand_name,
        "algorithm": "SHA1", "digits": "6", "period": "30",
    }  # fmt: skip
    assert len(base64.b32decode(begun["secret"])) == 20
    picture = ElementTree.fromstring(begun["qr_svg"])
    assert picture.tag.endswith("svg")
    assert not re.search(r"script|href|<image", begun["qr_svg"])


@pytest.mark.covers("nist N28")
def test_an_app_counts_nothing_before_its_first_code(world: World, person: Person) -> None:
    person.api.post("/api/auth/factors/totp", {}, person.token).ok()
    assert person.api.get("/api/auth/factors", person.token).body == {"items": [], "backup_codes_left": 0}
    assert person.me()["mfa"] == []
    assert person.ask_signin().ok()["channel"] == "email"


def test_the_first_code_takes_it_into_use_and_brings_backup_codes(world: World, person: Person) -> None:
    app = enrol(world, person, "My phone")
    assert len(set(app.backup_codes)) == 10
    assert all(re.fullmatch(r"([0-9A-HJKMNP-TV-Z]{4}-){3}[0-9A-HJKMNP-TV-Z]{4}", code) for code in app.backup_codes)
    shown = person.api.get("/api/auth/factors", person.token)
    assert shown["backup_codes_left"] == 10
    [item] = shown["items"]
    assert (item["id"], item["type"], item["name"]) == (app.factor_id, "totp", "My phone")
    assert person.me()["mfa"] == ["totp", "backup_code"]
    assert world.inbox(person.email)[-1] == "notice.factor_added"


def test_a_wrong_first_code_is_refused_and_the_right_one_still_counts(world: World, person: Person) -> None:
    begun = person.api.post("/api/auth/factors/totp", {}, person.token).ok()
    app = App(pyotp.TOTP(begun["secret"]), world, begun["factor_id"], [])
    assert confirm(person, app, wrong(app.code())).code == "invalid_code"
    assert world.audit(event="factor.refused")[-1].reason == "invalid_code"
    assert confirm(person, app, "abc").code == "validation_failed"
    confirm(person, app, app.code()).ok()


def test_five_wrong_first_codes_end_an_enrolment(world: World, person: Person) -> None:
    begun = person.api.post("/api/auth/factors/totp", {}, person.token).ok()
    app = App(pyotp.TOTP(begun["secret"]), world, begun["factor_id"], [])
    refused = [confirm(person, app, wrong(app.code())) for _ in range(6)]
    assert [answer.code for answer in refused] == ["invalid_code"] * 5 + ["not_found"]
    assert [answer["attempts_left"] for answer in refused[:5]] == [4, 3, 2, 1, 0]
    assert confirm(person, app, app.code()).code == "not_found"


def test_an_app_in_setup_ends_with_a_changed_credential(world: World, person: Person) -> None:
    """Whoever began it may be whom the change is to keep out."""
    begun = person.api.post("/api/auth/factors/totp", {}, person.token).ok()
    app = App(pyotp.parse_uri(begun["otpauth_uri"]), world, begun["factor_id"], [])
    body = {"current_password": PASSWORD, "new_password": "a brand new horse"}
    person.api.post("/api/auth/change-password", body, person.token).ok()
    assert confirm(person, app, app.code()).code == "not_found"
    assert world.rows(Authenticator) == []


def test_an_app_in_setup_is_none_to_remove(world: World, person: Person) -> None:
    elsewhere = world.person(email=person.email).sign_in()
    begun = person.api.post("/api/auth/factors/totp", {}, person.token).ok()
    assert person.api.delete(f"/api/auth/factors/{begun['factor_id']}", person.token).code == "not_found"
    assert elsewhere.me().status == 200
    assert "notice.factor_removed" not in world.inbox(person.email)


@pytest.mark.parametrize("path", ["/api/auth/factors/totp", "/api/auth/factors/backup-codes"])
def test_what_is_shown_once_comes_again_to_the_same_request(world: World, person: Person, path: str) -> None:
    enrol(world, person)
    person.api.headers["Idempotency-Key"] = "k"
    first = person.api.post(path, {}, person.token).ok()
    assert person.api.post(path, {}, person.token).body == first.body
    stored = " ".join(str(row.answer) for row in world.rows(Repeat))
    assert not any(secret in stored for secret in first.body.get("backup_codes", [first.body.get("secret")]))


def test_a_lost_answer_to_the_first_code_can_be_had_again(world: World, person: Person) -> None:
    begun = person.api.post("/api/auth/factors/totp", {}, person.token).ok()
    app = App(pyotp.TOTP(begun["secret"]), world, begun["factor_id"], [])
    person.api.headers["Idempotency-Key"] = "k"
    code = app.code()
    first = confirm(person, app, code).ok()
    assert confirm(person, app, code).body == first.body
    assert len(first["backup_codes"]) == 10


@pytest.mark.covers("nist N28")
def test_an_enrolment_that_is_not_finished_in_time_is_void(world: World, person: Person) -> None:
    begun = person.api.post("/api/auth/factors/totp", {}, person.token).ok()
    world.clock.advance(minutes=14)
    person.sign_in()
    world.clock.advance(minutes=1)
    assert confirm(person, App(None, world, begun["factor_id"], []), "123456").code == "not_found"  # type: ignore[arg-type]


def test_a_setup_is_confirmed_by_a_recent_sign_in_alone(world: World, person: Person) -> None:
    """Or who had a session for a moment, and the password, would bind an app by a sign-in that may not begin one."""
    begun = person.api.post("/api/auth/factors/totp", {}, person.token).ok()
    app = App(pyotp.parse_uri(begun["otpauth_uri"]), world, begun["factor_id"], [])
    world.clock.advance(minutes=11)
    assert confirm(person, app, app.code()).code == "insufficient_user_authentication"
    person.sign_in()
    confirm(person, app, app.code()).ok()


def test_nobody_confirms_or_removes_what_is_another_s(world: World, person: Person) -> None:
    other = world.person().sign_up()
    begun = person.api.post("/api/auth/factors/totp", {}, person.token).ok()
    app = enrol(world, person)
    assert confirm(other, App(app.totp, world, begun["factor_id"], []), app.code()).code == "not_found"
    assert other.api.delete(f"/api/auth/factors/{app.factor_id}", other.token).code == "not_found"
    assert person.me()["mfa"] == ["totp", "backup_code"]


@pytest.mark.covers("nist N49")
def test_several_apps_may_be_enrolled_and_any_opens(world: World, person: Person) -> None:
    first, second = enrol(world, person), enrol(world, person, "Tablet")
    assert second.backup_codes == []
    for app in (first, second):
        assert signin(person, app.fresh()).status == 200
    assert len(person.api.get("/api/auth/factors", person.token)["items"]) == 2


def test_there_is_an_end_to_how_many(world: World, person: Person) -> None:
    for _ in range(authenticators.MOST):
        person.api.post("/api/auth/factors/totp", {}, person.token).ok()
    assert person.api.post("/api/auth/factors/totp", {}, person.token).code == "conflict"
    world.clock.advance(minutes=16)
    person.sign_in()
    for _ in range(authenticators.MOST):  # the ones that were given up do not count
        person.api.post("/api/auth/factors/totp", {}, person.token).ok()
    assert person.api.post("/api/auth/factors/totp", {}, person.token).code == "conflict"


@pytest.mark.covers("asvs 6.5.6")
def test_enrolling_and_removing_want_a_recent_sign_in(world: World, person: Person) -> None:
    app = enrol(world, person)
    world.clock.advance(minutes=11)
    for method, path in (
        ("POST", "/api/auth/factors/totp"),
        ("POST", "/api/auth/factors/backup-codes"),
        ("DELETE", f"/api/auth/factors/{app.factor_id}"),
    ):
        refused = person.api.call(method, path, {} if method == "POST" else None, person.token)
        assert refused.code == "insufficient_user_authentication", path
    assert person.me()["mfa"] == ["totp", "backup_code"]


@pytest.mark.covers("asvs 6.3.7", "asvs 7.4.3", "nist N50")
def test_a_changed_factor_ends_other_sessions_and_open_challenges_and_is_told(world: World, person: Person) -> None:
    elsewhere = world.person(email=person.email).sign_in()
    asked = elsewhere.ask_signin().ok()
    code = elsewhere.code()
    app = enrol(world, person)
    assert elsewhere.me().code == "token_revoked"
    assert elsewhere.verify_signin(asked["challenge_id"], code).code == "challenge_closed"
    assert person.me().status == 200
    elsewhere.api.headers["User-Agent"] = "other"
    assert signin(elsewhere, app.fresh()).status == 200
    person.api.delete(f"/api/auth/factors/{app.factor_id}", person.token).ok()
    assert elsewhere.me().code == "token_revoked"
    assert world.inbox(person.email)[-1] == "notice.factor_removed"


def test_the_last_factor_takes_the_backup_codes_with_it(world: World, person: Person) -> None:
    first, second = enrol(world, person), enrol(world, person)
    person.api.delete(f"/api/auth/factors/{first.factor_id}", person.token).ok()
    assert (person.me()["mfa"], left(person)) == (["totp", "backup_code"], 10)
    person.api.delete(f"/api/auth/factors/{second.factor_id}", person.token).ok()
    assert (person.me()["mfa"], world.count(BackupCode)) == ([], 0)
    assert person.ask_signin().ok()["channel"] == "email"
    assert person.api.post("/api/auth/factors/backup-codes", {}, person.token).code == "conflict"


@pytest.mark.covers("asvs 11.3.2", "nist N27")
def test_neither_secret_nor_backup_code_is_at_rest(world: World, person: Person) -> None:
    app = enrol(world, person)
    secret = base64.b32decode(app.totp.secret)
    [row] = world.rows(Authenticator)
    stored = " ".join(map(str, vars(row).values()))
    for form in (app.totp.secret, secret.hex(), base64.b64encode(secret).decode()):
        assert form not in stored
    digests = {row.digest for row in world.rows(BackupCode)}
    assert len(digests) == 10
    assert not any(code.replace("-", "") in digest for code in app.backup_codes for digest in digests)


@pytest.mark.covers("asvs 11.3.3")
def test_a_sealed_secret_opens_in_no_other_row(world: World, person: Person) -> None:
    app = enrol(world, person)
    thief = world.person().sign_up()
    own = enrol(world, thief)
    with world.kit.writes.begin() as db:
        rows = {str(row.id): row for row in db.query(Authenticator)}
        rows[app.factor_id].secret = rows[own.factor_id].secret
    assert signin(person, own.fresh()).code == "invalid_code"


# Signing in


def test_an_app_is_asked_first_and_nothing_is_sent(world: World, person: Person) -> None:
    app = enrol(world, person)
    before = len(world.inbox(person.email))
    asked = person.ask_signin().ok()
    assert (asked["status"], asked["channel"]) == ("otp_required", "totp")
    assert asked["methods"] == ["totp", "backup_code", "email"]
    assert (asked["destination"], asked["resend_in"]) == ("authenticator app", 0)
    assert person.api.get(f"/api/auth/challenges/{asked['challenge_id']}")["delivery"] == "sent"
    assert len(world.inbox(person.email)) == before
    assert person.verify_signin(asked["challenge_id"], app.fresh()).status == 200
    [current] = [s for s in person.api.get("/api/auth/sessions", person.token)["items"] if s["current"]]
    assert current["amr"] == ["pwd", "otp"]


def test_a_code_can_be_sent_in_its_place_when_it_is_asked_for(world: World, person: Person) -> None:
    app = enrol(world, person)
    asked = person.ask_signin().ok()
    again = person.api.post("/api/auth/resend-otp", {"challenge_id": asked["challenge_id"]}).ok()
    assert again["channel"] == "email"
    assert person.verify_signin(asked["challenge_id"], app.fresh(), method="totp").status == 200, "still taken"
    world.clock.advance(minutes=1)
    asked = person.ask_signin(channel="email").ok()
    assert asked["channel"] == "email"
    assert person.verify_signin(asked["challenge_id"], person.code()).status == 200


def test_a_code_that_was_never_sent_opens_nothing(world: World, person: Person) -> None:
    enrol(world, person)
    asked = person.ask_signin().ok()
    row = next(
        r for r in world.rows(__import__("app.models").models.OtpChallenge) if str(r.id) == asked["challenge_id"]
    )

    code = codes.derive(world.kit.keys, row.key_id, row.factor, 6)
    assert person.verify_signin(asked["challenge_id"], code, method="email").code == "invalid_code"


@pytest.mark.parametrize("policy", ["required", "optional"])
def test_an_enrolled_app_is_asked_under_every_policy(make_world, policy: str) -> None:
    world = make_world(mfa_policy=policy)
    person = world.person().sign_up()
    app = enrol(world, person)
    assert signin(person, app.fresh()).status == 200


@pytest.mark.covers("attack A20", "asvs 6.5.1", "attack A21", "nist N35", "nist N26")
def test_a_step_counts_once_and_none_before_it(world: World, person: Person) -> None:
    app = enrol(world, person)
    world.clock.advance(minutes=5)
    assert signin(person, app.code(+2)).code == "invalid_code"
    assert signin(person, app.code(-2)).code == "invalid_code"
    world.clock.advance(minutes=15)
    person.sign_in(channel="email")
    world.clock.advance(minutes=1)
    earlier, now = app.code(-1), app.code()
    assert signin(person, now).status == 200
    assert signin(person, now).code == "invalid_code", "again"
    assert signin(person, earlier).code == "invalid_code", "the step before it"
    assert signin(person, app.code(+1)).status == 200, "the next one, a little early"


@pytest.mark.covers("attack A20")
def test_the_confirming_code_does_not_sign_in(world: World, person: Person) -> None:
    app = enrol(world, person)
    assert signin(person, app.code()).code == "invalid_code"


@pytest.mark.covers("attack A20")
@pytest.mark.parametrize(
    "spell",
    [lambda c: f"{c} ", lambda c: f" {c}", lambda c: f"{c[:3]} {c[3:]}", lambda c: c.translate(FULL_WIDTH), lambda c: c + "0"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["totp", None])
def test_only_six_plain_digits_are_a_code(world: World, person: Person, spell, method: str | None) -> None:
    app = enrol(world, person)
    asked = person.ask_signin().ok()
    refused = person.verify_signin(asked["challenge_id"], spell(app.fresh()), **({"method": method} if method else {}))
    assert (refused.status, refused["errors"][0]["field"]) == (422, "otp")
    assert person.verify_signin(asked["challenge_id"], app.code()).status == 200


@pytest.mark.covers("attack A05")
def test_guesses_at_an_app_are_counted_with_all_others(world: World, person: Person) -> None:
    app = enrol(world, person)
    world.clock.advance(seconds=31)
    for _ in range(2):
        assert signin(person, wrong(app.code())).code == "invalid_code"
    assert signin(person, "AAAA-BBBB-CCCC-DDDD", method="backup_code").code == "invalid_code"
    for _ in range(2):
        assert person.api.post("/api/auth/login", {"email": person.email, "password": "wrong horse"}).status == 401
    assert person.ask_signin().code == "account_locked"
    assert world.audit(event="code.refused")[0].facts["attempts_left"] == 2


def test_the_app_s_clock_is_noted(world: World, person: Person) -> None:
    app = enrol(world, person)
    world.clock.advance(minutes=2)
    assert signin(person, app.code(+1)).status == 200
    assert world.rows(Authenticator)[0].drift == 1


def test_digits_of_another_length_are_sent_beside_the_app_s_six(make_world) -> None:
    world = make_world(otp_length=8)
    person = world.person().sign_up()
    app = enrol(world, person)
    assert signin(person, app.fresh()).status == 200
    asked = person.ask_signin(channel="email").ok()
    assert len(person.code()) == 8
    assert person.verify_signin(asked["challenge_id"], person.code()).status == 200


# Backup codes


@pytest.mark.covers("asvs 6.5.1", "asvs 6.5.2", "nist N14", "nist N15")
def test_a_backup_code_opens_once(world: World, person: Person) -> None:
    app = enrol(world, person)
    code = app.backup_codes[0]
    assert signin(person, code).status == 200
    assert world.inbox(person.email)[-1] == "notice.backup_code_used"
    assert world.audit(event="backup_code.used")[0].facts == {"left": 9}
    assert signin(person, code).code == "invalid_code"
    assert left(person) == 9
    [current] = [s for s in person.api.get("/api/auth/sessions", person.token)["items"] if s["current"]]
    assert current["amr"] == ["pwd", "backup_code"]


@pytest.mark.parametrize(
    "spell", [str.lower, lambda c: c.replace("-", ""), lambda c: c.replace("-", " "), lambda c: c.replace("0", "O").replace("1", "l")]
)  # fmt: skip
def test_a_backup_code_may_be_typed_as_people_type(world: World, person: Person, spell) -> None:
    app = enrol(world, person)
    assert signin(person, spell(app.backup_codes[3]), method="backup_code").status == 200


def test_digits_said_to_be_a_backup_code_are_none(world: World, person: Person) -> None:
    app = enrol(world, person)
    asked = person.ask_signin().ok()
    assert person.verify_signin(asked["challenge_id"], app.fresh(), method="backup_code").code == "validation_failed"
    assert person.verify_signin(asked["challenge_id"], app.backup_codes[0], method="totp").code == "validation_failed"
    assert left(person) == 10


def test_a_closed_challenge_uses_no_backup_code_up(world: World, person: Person) -> None:
    app = enrol(world, person)
    asked = person.ask_signin().ok()
    person.verify_signin(asked["challenge_id"], app.fresh()).ok()
    assert person.verify_signin(asked["challenge_id"], app.backup_codes[0]).code == "challenge_closed"
    assert left(person) == 10


@pytest.mark.parametrize("browser", [True, False])
def test_a_guess_too_many_uses_no_backup_code_up(world: World, person: Person, browser: bool) -> None:
    """By identifier alone the last guess is the holder's; then there is none for anybody."""
    app = enrol(world, person)
    asked = person.ask_signin().ok()
    if browser:
        asked = world.api().post("/login", {"email": person.email, "password": PASSWORD}).ok()
    for _ in range(2 if browser else 3):
        given = {"email": person.email} if browser else {"challenge_id": asked["challenge_id"]}
        path = "/verify-otp" if browser else "/api/auth/login/verify"
        assert world.api().post(path, {**given, "otp": wrong(app.code())}).code == "invalid_code"
    assert world.api().post(path, {**given, "otp": app.backup_codes[0]}).code == "challenge_closed"
    assert left(person) == 10


def test_factors_outlive_a_changed_key_that_is_still_listed(make_world) -> None:
    world = make_world()
    person = world.person().sign_up()
    app = enrol(world, person)
    old = SECRETS["secret_key"]
    new = make_world(
        keep=True, secret_key="another secret key of more than thirty-two bytes, 7Qx", secret_key_previous=(old,)
    )
    new.clock.now = world.clock.now
    new.clock.advance(minutes=1)
    again = new.person(email=person.email)
    assert signin(again, app.backup_codes[0]).status == 200
    app.world = new
    assert signin(again, app.fresh()).status == 200


def test_a_locked_identifier_uses_no_backup_code_up(world: World, person: Person) -> None:
    app = enrol(world, person)
    asked = person.ask_signin().ok()
    for _ in range(5):
        person.api.post("/api/auth/login", {"email": person.email, "password": "wrong horse"})
    assert person.verify_signin(asked["challenge_id"], app.backup_codes[0]).code == "account_locked"
    assert left(person) == 10


def test_a_backup_code_is_its_owner_s_alone(world: World, person: Person) -> None:
    app = enrol(world, person)
    other = world.person().sign_up()
    enrol(world, other)
    assert signin(other, app.backup_codes[0]).code == "invalid_code"
    assert left(person) == 10


def test_the_last_ones_are_told_of_and_then_there_is_none_to_use(world: World, person: Person) -> None:
    app = enrol(world, person)
    for n, code in enumerate(app.backup_codes):
        world.clock.advance(minutes=30)
        assert signin(person, code).status == 200
        text = [m for m in world.senders["email"].messages if m.kind == "notice.backup_code_used"][-1].text
        assert ("Make new ones now" in text) == (9 - n <= backup_codes.FEW)
    assert person.me()["mfa"] == ["totp"]
    assert person.ask_signin().ok()["methods"] == ["totp", "email"]


@pytest.mark.covers("nist N15")
def test_new_backup_codes_void_the_old_ones(world: World, person: Person) -> None:
    app = enrol(world, person)
    assert signin(person, app.backup_codes[0]).status == 200
    elsewhere = world.person(email=person.email)
    assert signin(elsewhere, app.fresh()).status == 200
    made = person.api.post("/api/auth/factors/backup-codes", {}, person.token)
    assert elsewhere.me().code == "token_revoked"
    assert (made.status, len(made["backup_codes"])) == (201, 10)
    assert world.inbox(person.email)[-1] == "notice.backup_codes_made"
    assert signin(person, app.backup_codes[1]).code == "invalid_code"
    assert signin(person, made["backup_codes"][0]).status == 200


# Recovery


@pytest.mark.covers("asvs 6.4.3", "asvs 6.4.4", "attack A37", "nist N57")
def test_after_a_reset_by_mail_the_app_is_still_asked(world: World, person: Person) -> None:
    app = enrol(world, person)
    reset(world, person)
    asked = person.ask_signin().ok()
    assert asked["methods"] == ["totp", "backup_code"]
    assert person.ask_signin(channel="email").ok()["channel"] == "totp"
    nowhere = person.api.post("/api/auth/resend-otp", {"challenge_id": asked["challenge_id"], "channel": "email"})
    assert (nowhere.status, nowhere["errors"][0]["field"]) == (422, "channel")
    assert person.verify_signin(asked["challenge_id"], app.fresh()).status == 200
    assert person.me()["mfa"] == ["totp", "backup_code"]
    world.clock.advance(minutes=1)
    assert "email" in person.ask_signin().ok()["methods"], "the recovery is over"


@pytest.mark.covers("asvs 6.4.4", "nist N54")
def test_who_lost_phone_and_password_needs_a_backup_code(world: World, person: Person) -> None:
    app = enrol(world, person)
    reset(world, person)
    assert signin(person, app.backup_codes[0]).status == 200
    assert world.count(Authenticator) == 1


def test_a_forgotten_key_is_no_right_code(make_world) -> None:
    world = make_world()
    person = world.person().sign_up()
    app = enrol(world, person)
    changed = make_world(keep=True, secret_key="another secret key of more than thirty-two bytes, 7Qx")
    world.clock.advance(minutes=1)
    changed.clock.now = world.clock.now
    again = changed.person(email=person.email)
    assert signin(again, app.code()).code == "invalid_code"


def test_a_right_code_stays_right_when_another_sign_in_ended_the_recovery(world: World) -> None:
    person = world.person(phone="+919876543210").sign_up()
    asked = person.api.post("/api/auth/change-phone", {"phone": person.phone}, person.token).ok()
    answer = {"challenge_id": asked["challenge_id"], "otp": person.code("sms")}
    person.api.post("/api/auth/verify-otp", answer).ok()
    app = enrol(world, person)
    world.clock.advance(minutes=2)
    reset(world, person)
    person.api.post("/api/v1/auth/send-otp", {"mobile_number": person.phone}).ok()
    body = {"mobile_number": person.phone, "otp": person.code("sms")}
    asked = person.api.post("/api/v1/auth/verify-otp", body).ok()
    given = {"challenge_id": asked["challenge_id"], "password": NEW}
    by_phone = person.api.post("/api/auth/login/verify", given).ok()
    assert by_phone["methods"] == ["totp", "backup_code"]
    assert signin(person, app.code()).status == 200, "the recovery is over"
    assert person.verify_signin(by_phone["challenge_id"], app.fresh()).status == 200


@pytest.mark.covers("attack A36")
def test_no_password_slips_past_an_app_that_is_enrolled_while_it_is_hashed(make_world) -> None:
    world = make_world(mfa_policy="optional")
    person = world.person().sign_up()
    with while_hashing(world, lambda: enrol(world, person)):
        assert person.ask_signin().code == "invalid_credentials"
    assert person.ask_signin().ok()["status"] == "otp_required"


# By phone


def test_an_app_stands_in_for_the_password_of_who_has_none(world: World) -> None:
    api = world.api()
    number = "+919876543210"
    api.post("/api/v1/auth/send-otp", {"mobile_number": number}).ok()
    new = api.post("/api/v1/auth/verify-otp", {"mobile_number": number, "otp": world.read("sms", number)}).ok()
    body = {"registration_token": new["registration_token"], "name": "Asha", "consent": True}
    person = Person(
        api, world.read, phone=number, tokens=api.post("/api/v1/auth/complete-registration", body).ok().body
    )
    app = enrol(world, person)
    world.clock.advance(minutes=2)
    api.post("/api/v1/auth/send-otp", {"mobile_number": number}).ok()
    asked = api.post("/api/v1/auth/verify-otp", {"mobile_number": number, "otp": world.read("sms", number)}).ok()
    assert (asked["status"], asked["methods"]) == ("factor_required", ["totp", "backup_code"])
    assert api.post("/api/auth/resend-otp", {"challenge_id": asked["challenge_id"]}).code == "challenge_closed"
    assert person.verify_signin(asked["challenge_id"], app.code()).status == 200
    [current] = [s for s in person.api.get("/api/auth/sessions", person.token)["items"] if s["current"]]
    assert current["amr"] == ["sms", "otp"]


def test_an_app_is_not_taken_where_the_password_is_asked(world: World) -> None:
    person = world.person(phone="+919876543210")
    person.sign_up(channel="sms")
    app = enrol(world, person)
    world.clock.advance(minutes=2)
    person.api.post("/api/v1/auth/send-otp", {"mobile_number": person.phone}).ok()
    body = {"mobile_number": person.phone, "otp": person.code("sms")}
    asked = person.api.post("/api/v1/auth/verify-otp", body).ok()
    assert asked["methods"] == ["password"]
    assert person.verify_signin(asked["challenge_id"], app.code()).code == "challenge_closed"
    done = person.api.post("/api/auth/login/verify", {"challenge_id": asked["challenge_id"], "password": PASSWORD})
    assert done.status == 200


# In the export and when the account goes


def test_the_export_names_factors_and_no_secret(world: World, person: Person) -> None:
    app = enrol(world, person, "My phone")
    export = person.api.get("/api/auth/me/export", person.token).ok().body
    [row] = export["authenticators"]
    assert row["name"] == "My phone"
    assert len(export["backup_codes"]) == 10
    text = str(export)
    [stored] = world.rows(Authenticator)
    for secret in (app.totp.secret, stored.secret, *app.backup_codes, *(r.digest for r in world.rows(BackupCode))):
        assert secret not in text


def test_an_erased_account_leaves_no_factor(world: World, person: Person) -> None:
    enrol(world, person)
    person.api.delete("/api/auth/me", person.token).ok()
    assert (world.count(User), world.count(Authenticator), world.count(BackupCode)) == (0, 0, 0)
