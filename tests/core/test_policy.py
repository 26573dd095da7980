"""What is asked next: a table."""

from __future__ import annotations

import pytest

from app.core.policy import DONE, NO_WAY, Standing, Step, next_step

BOTH = Standing(True, ("email", "sms"))
MAIL = Standing(True, ("email",))
PHONE = Standing(True, ("sms",))
NO_PASSWORD = Standing(False, ("sms",))
TOTP = Standing(True, ("email",), ("totp", "backup_code"))
TOTP_NO_PASSWORD = Standing(False, ("sms",), ("totp",))
NAME_ONLY = Standing(True, ())
BY_SMS = Standing(True, ("email", "sms"), recovered_by="sms")
BY_MAIL = Standing(True, ("email", "sms"), recovered_by="email")
TOTP_BY_MAIL = Standing(True, ("email", "sms"), ("totp", "backup_code"), recovered_by="email")
PHONE_BY_SMS = Standing(True, ("sms",), recovered_by="sms")

TABLE = [
    # standing, proven so far, policy, next
    (BOTH, "", "required", Step(("pwd",))),
    (BOTH, "pwd", "required", Step(("email", "sms"))),
    (MAIL, "pwd", "required", Step(("email",))),
    (PHONE, "pwd", "required", Step(("sms",))),
    (MAIL, "pwd email", "required", DONE),
    (BOTH, "pwd sms", "required", DONE),
    (TOTP, "pwd", "required", Step(("totp", "backup_code", "email"))),
    (TOTP, "pwd totp", "required", DONE),
    (NAME_ONLY, "pwd", "required", NO_WAY),
    (MAIL, "", "optional", Step(("pwd",))),
    (MAIL, "pwd", "optional", DONE),
    (NAME_ONLY, "pwd", "optional", DONE),
    (TOTP, "pwd", "optional", Step(("totp", "backup_code", "email"))),
    (TOTP, "pwd backup_code", "optional", DONE),
    # beginning with a code to the phone: a stolen SIM alone opens nothing that has more
    (NO_PASSWORD, "sms", "required", DONE),
    (NO_PASSWORD, "sms", "optional", DONE),
    (PHONE, "sms", "required", Step(("pwd",))),
    (PHONE, "sms", "optional", Step(("pwd",))),
    (PHONE, "sms pwd", "required", DONE),
    (TOTP_NO_PASSWORD, "sms", "required", Step(("totp",))),
    (TOTP_NO_PASSWORD, "sms totp", "required", DONE),
    (NO_PASSWORD, "", "required", Step(("pwd",))),
    # after a recovery by SMS alone: that phone's code is no second thing, if there is any other
    (BY_SMS, "pwd", "required", Step(("email",))),
    (BY_SMS, "pwd", "optional", Step(("email",))),
    (BY_SMS, "pwd sms", "required", Step(("email",))),
    (BY_SMS, "sms pwd", "optional", Step(("email",))),
    (BY_SMS, "pwd email", "required", DONE),
    (BY_SMS, "pwd sms email", "required", DONE),
    (BY_MAIL, "pwd sms", "required", DONE),
    (PHONE_BY_SMS, "pwd sms", "required", DONE),
    # beside an enrolled factor no contact's code counts after any recovery
    (TOTP_BY_MAIL, "pwd", "required", Step(("totp", "backup_code"))),
    (TOTP_BY_MAIL, "pwd email", "optional", Step(("totp", "backup_code"))),
    (TOTP_BY_MAIL, "pwd totp", "required", DONE),
    (TOTP_BY_MAIL, "sms pwd", "required", Step(("totp", "backup_code"))),
    # a remembered device stands for the code, never for the password
    (MAIL, "device", "required", Step(("pwd",))),
    (MAIL, "pwd device", "required", DONE),
    (TOTP, "pwd device", "required", DONE),
    # a passkey is two things
    (TOTP, "passkey", "required", DONE),
    (TOTP_BY_MAIL, "passkey", "required", DONE),
    (PHONE_BY_SMS, "pwd", "optional", DONE),
]


@pytest.mark.covers("asvs 6.3.3")
@pytest.mark.parametrize(("standing", "done", "mfa", "expected"), TABLE)
def test_the_next_step(standing: Standing, done: str, mfa: str, expected: Step) -> None:
    assert next_step(standing, frozenset(done.split()), mfa) == expected


@pytest.mark.parametrize("mfa", ["required", "optional"])
def test_nothing_proven_is_never_done(mfa: str) -> None:
    for standing in (BOTH, MAIL, PHONE, NO_PASSWORD, TOTP, TOTP_NO_PASSWORD, NAME_ONLY):
        assert next_step(standing, frozenset(), mfa) != DONE
