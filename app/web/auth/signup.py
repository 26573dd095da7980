"""Signing up, and the answers to its codes."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from typing_extensions import TypedDict

from app import errors
from app.core import challenges, identifiers
from app.delivery import listing
from app.flows import account, asking, signup
from app.flows.signup import Details
from app.web import limits, present
from app.web.auth.surface import auth
from app.web.fields import (
    SOME_ID,
    Body,
    ChallengeId,
    Channel,
    Code,
    Consent,
    DeviceInfo,
    Name,
    Password,
    Typed,
    example,
)
from app.web.present import AskedReply, DeliveryReply, TokensReply, UserReply
from app.work import Work

ANSWERS = (errors.InvalidCode, errors.ChallengeClosed, errors.AccountLocked)


class SignupBody(Body):
    model_config = example(email="jane@example.com", password="correct horse 7", name="Jane")

    email: Typed | None = None
    phone: Typed | None = None
    password: Password
    username: Typed | None = None
    name: Name | None = None
    consent: Consent | None = None
    channel: Channel | None = None

    def details(self, work: Work) -> Details:
        return Details(
            email=identifiers.email(self.email) if self.email else None,
            phone=identifiers.phone(self.phone, work.settings.default_phone_region) if self.phone else None,
            username=identifiers.username(self.username) if self.username else None,
            name=self.name,
            password=self.password,
            consent=self.consent.model_dump() if self.consent else None,
        )


class AnswerBody(Body):
    model_config = example(challenge_id=SOME_ID, otp="123456")

    challenge_id: ChallengeId
    otp: Code
    device_info: DeviceInfo = None


class ResendBody(Body):
    model_config = example(challenge_id=SOME_ID)

    challenge_id: ChallengeId
    channel: Channel | None = None


class ContactReply(TypedDict):
    message: str
    user: UserReply


@auth.add(
    "POST", "/signup", status=201, body=SignupBody, reply=AskedReply, limit=limits.SENDS, repeatable=True,
    refusals=(errors.UsernameTaken, errors.Overloaded),
)  # fmt: skip
def start_signup(work: Work, body: SignupBody) -> Any:
    """Sign up with an e-mail address or phone number and a password. Sends a code; the account exists once it
    comes back. The answer is the same for an address that has an account."""
    challenge = signup.start(work, body.details(work), body.channel)
    return present.asked(work, challenge, "A code is on its way. Enter it to finish your sign-up.")


@auth.add(
    "POST", "/verify-otp", body=AnswerBody, reply=TokensReply | ContactReply, limit=limits.GUESSES, refusals=ANSWERS
)
def verify_otp(work: Work, body: AnswerBody) -> Any:
    """Answer the code of a sign-up (tokens, and a `pending` challenge for a second address) or of a changed
    e-mail address or phone number (the user)."""
    asked = challenges.find(work, body.challenge_id)
    changes = asked is not None and asked.purpose in account.CHANGES
    return _confirmed(work, body) if changes else _signed_up(work, body)


def _confirmed(work: Work, body: AnswerBody) -> ContactReply:
    user = account.confirm_contact(work, body.challenge_id, body.otp)
    return {"message": "Your address was changed.", "user": present.user(user)}


def _signed_up(work: Work, body: AnswerBody) -> TokensReply:
    signed_in = signup.verify(work, body.challenge_id, body.otp, body.device_info)
    return present.tokens(work, signed_in, "Welcome. Your account is ready.")


@auth.add(
    "POST", "/resend-otp", body=ResendBody, reply=AskedReply, limit=limits.SENDS, repeatable=True,
    refusals=(errors.ChallengeClosed, errors.ResendTooSoon),
)  # fmt: skip
def resend_otp(work: Work, body: ResendBody) -> Any:
    """Send the code of an open challenge again, unchanged while it is valid. At most 5 sends a challenge. In a sign-in
    or step-up `channel` sends another code in its place to the person's other address, if there is one; elsewhere it
    does not count, and the answer says where the code goes."""
    challenge = asking.ask_again(work, body.challenge_id, body.channel)
    return present.asked(work, challenge, "The code is on its way again.")


@auth.add("GET", "/challenges/<uuid:challenge_id>", reply=DeliveryReply, reads=True, limit=limits.TOKENS,
          refusals=(errors.ChallengeClosed,))  # fmt: skip
def show_challenge(work: Work, challenge_id: UUID) -> Any:
    """How far the message of a sign-in or step-up has got, so that a page can offer another way. For every other
    challenge it always reads `sent`: anything else would tell who has an account."""
    row = challenges.find(work, challenge_id)
    if row is None or not challenges.is_open(work, row):
        raise errors.ChallengeClosed()
    return {**present.challenge(work, row), "delivery": listing.how_far(work, row)}
