"""The browser's dialect, and one code that is entered in several dialects. As in `sent_once`, all use it at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from app.core.audit import Event
from app.models import OtpChallenge, Session, User
from bench.holders import ANSWER, AUTH, LOGIN, Browser, mailed
from bench.rig import PASSWORD, Rig, address, number
from bench.single_use import (
    CLOSED,
    Race,
    another,
    burned,
    came_in,
    changed,
    events,
    has_one_password,
    joined,
    of,
    recovered,
)
from bench.volley import Request, fire, fire_all


def signin(opened: Rig, uses: int) -> Race:
    """The challenge in a cookie, and a cookie for the session."""
    email = address()
    person = opened.account(email=email)
    browser, proof = _asked(opened, email)
    body = {"email": email, "otp": proof["otp"]}
    race = Race(fire(opened.service, "/verify-otp", [body] * uses, Cookie=browser.cookie))
    return _signed_in(opened, race, person, proof["challenge_id"])


def signin_by_name(opened: Rig, uses: int) -> Race:
    """Without the cookie: the newest that this kind of browser has begun for the address."""
    email = address()
    person = opened.account(email=email)
    proof = mailed(opened, email, "/login", {"email": email, "password": PASSWORD})
    race = Race(fire(opened.service, "/verify-otp", [{"email": email, "otp": proof["otp"]}] * uses))
    return _signed_in(opened, race, person, proof["challenge_id"])


def _asked(opened: Rig, email: str) -> tuple[Browser, dict[str, Any]]:
    """A browser that has given the password, and what answers it in any dialect."""
    browser = Browser(opened)
    opened.mailbox.mails.clear()
    asked = browser.ask("/login", {"email": email, "password": PASSWORD})
    return browser, {"challenge_id": asked["challenge_id"], "otp": opened.mailbox.code("email", email)}


def _signed_in(opened: Rig, race: Race, person: dict[str, Any], challenge_id: str) -> Race:
    came_in(opened, race, person, 2)
    burned(opened, race, challenge_id)
    with_cookie = (Session.user_id == of(person), Session.cookie_digest.is_not(None))
    race.must("sessions with a cookie", opened.count(*with_cookie), 1)
    for n in race.won:
        race.must("its cookie", Browser(opened).get("/protected", Cookie=race.volley.answers[n].cookie), 200)
    return race.one_wins(CLOSED)


def signin_in_two_dialects(opened: Rig, uses: int) -> Race:
    email = address()
    person = opened.account(email=email)
    browser, proof = _asked(opened, email)
    in_form = Request("/verify-otp", {"email": email, "otp": proof["otp"]}, {"Cookie": browser.cookie})
    race = Race(fire_all(opened.service, _in_turn(uses, in_form, Request(ANSWER, proof))))
    came_in(opened, race, person, 2)
    burned(opened, race, proof["challenge_id"])
    return race.one_wins(CLOSED)


def _in_turn(uses: int, *ways: Request) -> list[Request]:
    return [ways[n % len(ways)] for n in range(uses)]


def signup_by_three_doors(opened: Rig, uses: int) -> Race:
    """A form's sign-up whose password was given since: its code finishes it in the form and as a sign-in, too."""
    email, browser = address(), Browser(opened)
    opened.mailbox.mails.clear()
    asked = browser.ask("/signup", {"name": "Jane", "email": email, "password": PASSWORD})
    again = opened.ask(LOGIN, {"identifier": email, "password": PASSWORD})
    proof = {"challenge_id": asked["challenge_id"], "otp": opened.mailbox.code("email", email)}
    in_form = Request("/verify-otp", {"email": email, "otp": proof["otp"]}, {"Cookie": browser.cookie})
    ways = in_form, Request(f"{AUTH}/verify-otp", proof), Request(ANSWER, proof)
    race = Race(fire_all(opened.service, _in_turn(uses, *ways)))
    race.must("the challenge of the sign-in", again["challenge_id"], proof["challenge_id"])
    joined(opened, race, User.email == email)
    burned(opened, race, proof["challenge_id"])
    return race.one_wins(CLOSED)


def second_address_in_two_dialects(opened: Rig, uses: int) -> Race:
    """The number of a form's sign-up whose e-mail address is proven: the next challenge is in the same cookie."""
    email, phone, browser = address(), number(), Browser(opened)
    opened.mailbox.mails.clear()
    details = {"username": f"name{number()[1:]}", "email": email, "phone": phone, "password": PASSWORD}
    browser.ask("/register", details)
    person = browser.ask("/verify-otp", {"email": email, "otp": opened.mailbox.code("email", email)})
    proof = {"challenge_id": person["pending"]["challenge_id"], "otp": opened.handset.code(phone)}
    in_form = Request("/verify-otp", {"phone": phone, "otp": proof["otp"]}, {"Cookie": browser.cookie})
    race = Race(fire_all(opened.service, _in_turn(uses, in_form, Request(f"{AUTH}/verify-otp", proof))))
    return changed(opened, race, person, User.phone == phone, proof["challenge_id"])


def reset_code_for_a_grant(opened: Rig, uses: int) -> Race:
    """One grant, and it sets a password."""
    email = address()
    person, browser, otp = _forgot(opened, email)
    body = {"identifier": email, "otp": otp}
    race = Race(fire(opened.service, "/validate-otp", [body] * uses, Cookie=browser.cookie))
    _proven_once(opened, race, person)
    for n in race.won:
        new = {"identifier": email, "new_password": another(n)}
        race.must("its grant", opened.post("/reset-password", new, Cookie=race.volley.answers[n].cookie)[0], 200)
    recovered(opened, race, person, email)
    return race.one_wins(CLOSED)


def reset_code_by_three_doors(opened: Rig, uses: int) -> Race:
    """For a grant, in the form with the new password, and in JSON. Each brings a password of its own."""
    email = address()
    person, browser, otp = _forgot(opened, email)
    kept, proof = {"Cookie": browser.cookie}, {"challenge_id": browser.cookie.partition("=")[2]}

    def doors(n: int) -> list[Request]:
        new = {"otp": otp, "new_password": another(n)}
        return [
            Request("/validate-otp", {"identifier": email, "otp": otp}, kept),
            Request("/reset-password", {"identifier": email, **new}, kept),
            Request(f"{AUTH}/reset-password", {**proof, **new}),
        ]

    race = Race(fire_all(opened.service, [doors(n)[n % 3] for n in range(uses)]))
    burned(opened, race, proof["challenge_id"])
    if any(n % 3 == 0 for n in race.won):
        _proven_once(opened, race, person)
        race.must("recoveries", events(opened, person, Event.RECOVERY_COMPLETED), 0)
        has_one_password(opened, race, email, ())
    else:
        recovered(opened, race, person, email)
        race.must("grants", events(opened, person, Event.RECOVERY_PROVEN), 0)
    return race.one_wins(CLOSED)


def _forgot(opened: Rig, email: str) -> tuple[dict[str, Any], Browser, str]:
    person, browser = opened.account(email=email), Browser(opened)
    opened.mailbox.mails.clear()
    browser.ask("/forgot-password", {"identifier": email})
    return person, browser, opened.mailbox.code("email", email)


def _proven_once(opened: Rig, race: Race, person: dict[str, Any]) -> None:
    granted = (OtpChallenge.user_id == of(person), OtpChallenge.grant_digest.is_not(None), OtpChallenge.attempts == 1)
    race.must("grants", opened.count(*granted), 1)
    race.must("grants that are recorded", events(opened, person, Event.RECOVERY_PROVEN), 1)


IN_A_BROWSER: dict[str, Callable[[Rig, int], Race]] = {
    "sign-in code in a form": signin,
    "sign-in code in a form, without the cookie": signin_by_name,
    "sign-in code in form and JSON": signin_in_two_dialects,
    "sign-up code in form, JSON and sign-in": signup_by_three_doors,
    "second address in form and JSON": second_address_in_two_dialects,
    "reset code for a grant": reset_code_for_a_grant,
    "reset code in forms and JSON": reset_code_by_three_doors,
}
