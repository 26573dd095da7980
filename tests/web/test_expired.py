"""What has expired is of no use; that it has, hears only who got as far as being asked for it."""

from __future__ import annotations

import pytest

from tests.conftest import World
from tests.people import Answer, Person, wrong


@pytest.mark.covers("nist N52")
def test_an_expired_code_opens_nothing_and_only_who_was_asked_for_it_hears_so(world: World, person: Person) -> None:
    """An id of a challenge is random, and given to who knew the password. Others hear what they hear of anybody."""
    asked = person.ask_signin().ok()
    code = person.code()
    world.clock.advance(seconds=world.settings.otp_ttl + 1)
    late = person.verify_signin(asked["challenge_id"], code)
    assert (late.status, late.code, late["detail"]) == (
        410, "challenge_closed", "This code can no longer be used. Start again.",
    )  # fmt: skip
    assert person.verify_signin(asked["challenge_id"], wrong(code)).code == late.code
    body = {"identifier": person.email, "password": "wrong horse 7"}
    before, after = (
        person.api.post("/api/auth/login", who) for who in (body, body | {"identifier": "nobody@example.com"})
    )
    assert (before.status, before.code) == (after.status, after.code) == (401, "invalid_credentials")
    person.sign_in()


@pytest.mark.covers("nist N55")
def test_a_recovery_code_lives_ten_minutes_at_most_and_for_three_guesses(world: World, person: Person) -> None:
    for seconds, status in ((599, 200), (601, 410)):
        asked, body = begin(world, person)
        assert (asked["expires_in"], len(body["otp"])) == (600, 6)
        world.clock.advance(seconds=seconds)
        assert person.api.post("/api/auth/reset-password", body).status == status
    _, body = begin(world, person)
    guesses = [person.api.post("/api/auth/reset-password", body | {"otp": wrong(body["otp"])}).code for _ in range(5)]
    assert guesses == ["invalid_code"] * 3 + ["challenge_closed"] * 2
    assert person.api.post("/api/auth/reset-password", body).code == "challenge_closed"


def begin(world: World, person: Person) -> tuple[Answer, dict[str, str]]:
    """A recovery, and what finishes it."""
    world.clock.advance(hours=1)
    asked = person.api.post("/api/auth/forgot-password", {"email": person.email}).ok()
    return asked, {"challenge_id": asked["challenge_id"], "otp": person.code(), "new_password": "another horse 8"}


@pytest.mark.covers("nist N55")
@pytest.mark.one_lane("sqlite")
def test_no_setting_makes_codes_shorter_or_longer_lived(world: World) -> None:
    for name in ("otp_ttl", "otp_ttl_sms", "otp_ttl_reset"):
        assert world.lane.settings(**{name: 600})
        with pytest.raises(ValueError, match="less than or equal to 600"):
            world.lane.settings(**{name: 601})
    with pytest.raises(ValueError, match="greater than or equal to 6"):
        world.lane.settings(otp_length=5)
