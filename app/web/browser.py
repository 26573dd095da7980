"""The browser dialect, `/`: classic web apps whose session is one `HttpOnly` cookie. The flows are everybody's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from typing_extensions import TypedDict

from app import errors
from app.core import challenges, identifiers, lockout, signups
from app.core.challenges import Purpose
from app.core.identifiers import Identifier
from app.flows import account, asking, recovery, session, signin, signup
from app.flows.door import SignedIn
from app.flows.signup import Details
from app.models import OtpChallenge
from app.web import cookies, limits, present
from app.web.cookies import Baked, Jar
from app.web.endpoint import Surface
from app.web.fields import Answering, Body, Channel, Code, Identified, Name, Password, Typed, example
from app.web.guards import COOKIE
from app.web.present import Message, UserReply
from app.work import Work

browser = Surface("browser", "", cookies=True)

ANSWERS = (errors.InvalidCode, errors.ChallengeClosed, errors.AccountLocked)
WRITES = (errors.CrossSiteRequest,)
PROVES = (Purpose.SIGNIN, Purpose.SIGNUP, *account.CHANGES)
REACHED = {"email": "email", "sms": "phone"}


class NamedBody(Identified):
    """Who it is about, under any of the names that such apps use."""

    model_config = example(email="jane@example.com")

    username: Typed | None = None


class ForgotForm(NamedBody):
    channel: Channel | None = None


class SignupForm(Body):
    model_config = example(name="Jane", email="jane@example.com", password="correct horse 7")

    name: Name
    email: Typed
    password: Password


class RegisterForm(Body):
    model_config = example(username="jane", email="jane@example.com", phone="+919876543210", password="correct horse 7")

    username: Typed
    email: Typed
    phone: Typed
    password: Password


class LoginForm(NamedBody):
    model_config = example(email="jane@example.com", password="correct horse 7")

    password: Password


class CodeForm(NamedBody):
    model_config = example(email="jane@example.com", otp="123456")

    otp: Code


class AnswerForm(NamedBody, Answering):
    model_config = example(email="jane@example.com", otp="123456")


class NewPasswordForm(NamedBody):
    model_config = example(identifier="jane@example.com", new_password="another horse 8")

    new_password: Password
    otp: Code | None = None


class ChallengeForm(TypedDict):
    challenge_id: str
    channel: str
    destination: str
    expires_in: str
    expires_in_seconds: int
    resend_in: int


class AskedForm(Message, ChallengeForm):
    pass


class InForm(TypedDict):
    message: str
    user: UserReply


class WelcomeForm(InForm, total=False):
    pending: ChallengeForm


@browser.add("POST", "/signup", body=SignupForm, reply=AskedForm, limit=limits.SENDS, repeatable=True,
             refusals=(*WRITES, errors.Overloaded))  # fmt: skip
def sign_up(work: Work, body: SignupForm) -> Any:
    """Sign up with name, e-mail address and password. The code that was sent finishes it at `/verify-otp`."""
    details = Details(identifiers.email(body.email), None, None, body.name, body.password, None)
    return _asked(work, signup.start(work, details), "Account created successfully")


@browser.add("POST", "/register", body=RegisterForm, reply=AskedForm, limit=limits.SENDS, repeatable=True,
             refusals=(*WRITES, errors.UsernameTaken, errors.Overloaded))  # fmt: skip
def register(work: Work, body: RegisterForm) -> Any:
    """Sign up with username, e-mail address, phone and password. The e-mail address is proven first, then the phone."""
    region = work.settings.default_phone_region
    addresses = identifiers.email(body.email), identifiers.phone(body.phone, region)
    details = Details(*addresses, identifiers.username(body.username), None, body.password, None)
    return _asked(work, signup.start(work, details), "User registered successfully")


@browser.add(
    "POST", "/login", body=LoginForm, reply=AskedForm | InForm, limit=limits.GUESSES,
    refusals=(*WRITES, errors.InvalidCredentials, errors.AccountLocked, errors.Forbidden, errors.Overloaded),
)  # fmt: skip
def log_in(work: Work, body: LoginForm) -> Any:
    """Sign in with an identifier and the password. A code is sent; where policy asks none, the cookie is set now."""
    result = signin.start(work, body.who(work), body.password)
    if isinstance(result, SignedIn):
        return _in(work, result)
    return _asked(work, result.challenge, _sent(result.challenge))


@browser.add("POST", "/verify-otp", body=AnswerForm, reply=WelcomeForm, limit=limits.GUESSES,
             refusals=(*WRITES, *ANSWERS, errors.InvalidCredentials))  # fmt: skip
def prove(work: Work, body: AnswerForm) -> Any:
    """Answer the code of a sign-in or sign-up, and be in; or of a second address, and it is yours. A sign-in takes a
    passkey's `credential` too: `/api/auth/passkeys/options` asks for it, with the `challenge_id` of `/login`."""
    asked = _challenge(work, body.who(work), PROVES)
    if asked.row and asked.row.purpose in account.CHANGES:
        user = account.confirm_contact(work, asked.row.id, body.code())
        return Baked({"message": "Your address was changed.", "user": present.user(user)}, {Jar.CHALLENGE: ""})
    return _in(work, _admitted(work, asked, body))


def _admitted(work: Work, asked: Found, body: AnswerForm) -> SignedIn:
    if asked.row and asked.row.purpose == Purpose.SIGNUP:
        return signup.verify(work, asked.row.id, body.code(), holder=asked.by_cookie)
    return signin.verify(work, asked.id, body.given(), method=body.method, holder=asked.by_cookie)


def _sent(row: OtpChallenge) -> str:
    return f"OTP sent to your {REACHED[row.channel]}" if challenges.goes_out(row) else present.asks(row)


@browser.add("POST", "/resend-otp", body=NamedBody, reply=Message, limit=limits.SENDS, repeatable=True,
             about=Jar.CHALLENGE, refusals=(*WRITES, errors.ChallengeClosed, errors.ResendTooSoon))  # fmt: skip
def send_again(work: Work, body: NamedBody) -> Any:
    """Send the code again, unchanged while it is valid."""
    asked = _challenge(work, body.who(work), (*PROVES, Purpose.RECOVERY))
    row = asking.ask_again(work, asked.id)
    return {"message": f"New {_sent(row)}"}


@browser.add("GET", "/protected", reply=InForm, guard=COOKIE, reads=True)
def protected(work: Work) -> Any:
    """What only somebody who is signed in sees."""
    return {"message": "Welcome to protected area", "user": present.user(work.caller.account)}


@browser.add("POST", "/logout", reply=Message, limit=limits.TOKENS, refusals=WRITES)
def log_out(work: Work) -> Any:
    """End the session, clear the cookie, and have the browser forget what it kept of this host. Again is as good as
    once.
    """
    session.sign_out_browser(work, cookies.read(work.settings, Jar.SESSION))
    message = {"message": "Logged out successfully"}
    return Baked(message, {Jar.SESSION: "", Jar.CHALLENGE: "", Jar.GRANT: ""}, leaves=True)


@browser.add("POST", "/forgot-password", body=ForgotForm, reply=Message, limit=limits.SENDS, refusals=WRITES,
             repeatable=True)  # fmt: skip
def forgot_password(work: Work, body: ForgotForm) -> Any:
    """Ask for a recovery code. Always the same answer. By a username it goes to the e-mail address, or where `channel`
    says."""
    challenge = recovery.start(work, body.who(work), body.channel)
    return Baked({"message": "OTP sent successfully"}, {Jar.CHALLENGE: str(challenge.id)})


@browser.add("POST", "/validate-otp", body=CodeForm, reply=Message, limit=limits.GUESSES, refusals=(*WRITES, *ANSWERS))
def validate_otp(work: Work, body: CodeForm) -> Any:
    """Exchange a recovery code for the right to set a new password within five minutes, which a cookie holds."""
    asked = _challenge(work, body.who(work), (Purpose.RECOVERY,))
    grant = recovery.validate(work, asked.id, body.otp, holder=asked.by_cookie)
    message = {"message": "OTP verified. Proceed to reset password."}
    return Baked(message, {Jar.GRANT: grant, Jar.CHALLENGE: ""})


@browser.add("POST", "/reset-password", body=NewPasswordForm, reply=Message, limit=limits.GUESSES,
             refusals=(*WRITES, *ANSWERS, errors.Overloaded))  # fmt: skip
def reset_password(work: Work, body: NewPasswordForm) -> Any:
    """Set a new password: with the cookie of `/validate-otp`, or with the code in one step. Every session ends,
    and the one that this browser had, whoever's it was.
    """
    _reset(work, body, body.who(work))
    session.sign_out_browser(work, cookies.read(work.settings, Jar.SESSION))
    return Baked({"message": "Password reset successful"}, {Jar.SESSION: "", Jar.CHALLENGE: "", Jar.GRANT: ""})


def _reset(work: Work, body: NewPasswordForm, identifier: Identifier) -> None:
    if body.otp is None:
        recovery.finish_granted(work, identifier, cookies.read(work.settings, Jar.GRANT), body.new_password)
        return
    asked = _challenge(work, identifier, (Purpose.RECOVERY,))
    recovery.finish(work, asked.id, body.otp, body.new_password, holder=asked.by_cookie)


@dataclass(frozen=True, slots=True)
class Found:
    """The challenge of a request, and whether its own cookie names it."""

    row: OtpChallenge | None
    by_cookie: bool

    @property
    def id(self) -> UUID | None:
        return self.row.id if self.row else None


def _challenge(work: Work, identifier: Identifier, purposes: tuple[Purpose, ...]) -> Found:
    """The challenge that this browser's cookie names, and no other if it names one of these purposes, open or not; else
    the newest that the same kind of browser in the same network has begun for the identifier, if that is open.
    """
    named = _uuid(cookies.read(work.settings, Jar.CHALLENGE))
    row = challenges.find(work, named) if named else None
    if row and row.purpose in purposes:
        return Found(row if _is_about(work, row, identifier) else None, True)
    sent = tuple(purpose for purpose in purposes if purpose not in account.CHANGES)
    return Found(challenges.newest_of(work, lockout.key(identifier), sent), False)


def _is_about(work: Work, row: OtpChallenge, identifier: Identifier) -> bool:
    """Of a recovery, what was typed alone counts: its cookie must not tell which other identifiers are the person's."""
    if row.budget_key == lockout.key(identifier) or row.purpose == Purpose.RECOVERY:
        return row.budget_key == lockout.key(identifier)
    whose = row.user or (signups.find_open(work, row.signup_id) if row.signup_id else None)
    own = whose is not None and identifier in identifiers.of_user(whose)
    return challenges.destination(row) == identifier or own


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _asked(work: Work, row: OtpChallenge, message: str) -> Baked:
    return Baked({"message": message, **_shown(work, row)}, {Jar.CHALLENGE: str(row.id)})


def _shown(work: Work, row: OtpChallenge) -> dict[str, Any]:
    """A challenge as this dialect shows it: how long it lives in words, and in seconds beside that."""
    shown = present.challenge(work, row)
    minutes = math.ceil(shown["expires_in"] / 60)
    words = f"{minutes} minute{'' if minutes == 1 else 's'}"
    return {**shown, "expires_in": words, "expires_in_seconds": shown["expires_in"]}


def _in(work: Work, signed_in: SignedIn) -> Baked:
    """The cookie of a new session. The one that this browser had before ends; a second address is asked for next."""
    session.sign_out_browser(work, cookies.read(work.settings, Jar.SESSION))
    reply: dict[str, Any] = {"message": "Login successful", "user": present.user(signed_in.user)}
    if signed_in.pending:
        reply["pending"] = _shown(work, signed_in.pending)
    following = str(signed_in.pending.id) if signed_in.pending else ""
    return Baked(reply, {Jar.SESSION: signed_in.cookie, Jar.CHALLENGE: following, Jar.GRANT: ""})
