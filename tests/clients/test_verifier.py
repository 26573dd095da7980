"""Which tokens a backend believes, and the many that it does not."""

from __future__ import annotations

from datetime import UTC, datetime

import latchkey_client
import pytest
from latchkey_client import (
    Forbidden,
    InvalidToken,
    StepUpNeeded,
    TokenExpired,
    TokenMissing,
    TokenRevoked,
    Unavailable,
    Verifier,
)
from latchkey_client.keys import key_id

from app.crypto import jwt as service
from app.crypto import signing
from tests.clients import hostile
from tests.clients.mint import ALGORITHMS, AUDIENCE, ISSUER, KEY, NOW, OLD, Mint, private, secret_id, shared
from tests.clients.stub import Stub

KINDS = {"HS256": "hs", "EdDSA": "ed", "ES256": "ec", "RS256": "rsa"}


def mint_of(alg: str) -> Mint:
    return shared(KEY) if alg == "HS256" else private(alg, KINDS[alg])


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_it_says_who_is_calling(alg: str, stub: Stub) -> None:
    mint = mint_of(alg)
    claims = mint.claims(role="doctor", amr=["pwd", "otp"], nbf=NOW)
    caller = hostile.verifier(latchkey_client, mint, stub).verify(mint.signed(mint.header(), claims))
    assert (caller.user_id, caller.session_id, caller.role) == (claims["sub"], claims["sid"], "doctor")
    assert (caller.amr, caller.auth_time) == (("pwd", "otp"), datetime.fromtimestamp(NOW, UTC))
    assert caller.claims == claims


def test_it_reads_what_the_service_signs() -> None:
    ring = service.TokenRing([signing.shared(KEY)], ISSUER, AUDIENCE)
    token = ring.issue({k: v for k, v in shared(KEY).claims().items() if k not in ("iss", "aud")})
    assert Verifier(issuer=ISSUER, audience=AUDIENCE, secrets=[KEY], clock=lambda: NOW).verify(token).role == "user"
    assert key_id(KEY) == signing.key_id(KEY) == secret_id(KEY)


@pytest.mark.covers("asvs 9.1.1", "asvs 9.1.2", "asvs 9.1.3", "asvs 9.2.1", "asvs 9.2.3", "attack A41", "attack A42")
@pytest.mark.parametrize("name", hostile.tokens(shared(KEY)))
def test_a_hostile_token_is_refused_by_shared_secrets(name: str, stub: Stub) -> None:
    with pytest.raises(InvalidToken):
        hostile.verifier(latchkey_client, shared(KEY), stub).verify(hostile.tokens(shared(KEY))[name])


@pytest.mark.covers("asvs 9.1.2", "asvs 9.1.3", "attack A41", "attack A42")
@pytest.mark.parametrize("alg", ["EdDSA", "ES256", "RS256"])
def test_every_hostile_token_is_refused_by_public_keys(alg: str, stub: Stub) -> None:
    mint = mint_of(alg)
    judge = hostile.verifier(latchkey_client, mint, stub)
    judge.verify(mint.token())
    for name, token in hostile.tokens(mint).items():
        with pytest.raises(InvalidToken):
            assert judge.verify(token), name


@pytest.mark.parametrize("name", hostile.ACTS)
def test_a_hostile_act_comes_to_nothing(name: str, stub: Stub) -> None:
    assert hostile.refused(latchkey_client, lambda: hostile.ACTS[name](latchkey_client, stub))


@pytest.mark.covers("attack A51")
def test_an_earlier_secret_verifies_as_long_as_it_is_in_the_ring() -> None:
    both = Verifier(issuer=ISSUER, audience=AUDIENCE, secrets=[KEY, OLD, ""], clock=lambda: NOW)
    only = Verifier(issuer=ISSUER, audience=AUDIENCE, secrets=[KEY], clock=lambda: NOW)
    for mint in (shared(KEY), shared(OLD)):
        both.verify(mint.token())
        both.verify(mint.token({"kid": ...}))
        both.verify(mint.token({"kid": "12345678"}))
    with pytest.raises(InvalidToken):
        only.verify(shared(OLD).token())
    with pytest.raises(InvalidToken):
        both.verify(shared(OLD).token({"kid": secret_id(KEY)}))


@pytest.mark.covers("asvs 9.1.2", "attack A41")
@pytest.mark.parametrize("alg", ["HS256", "EdDSA"])
def test_both_kinds_of_keys_stand_beside_each_other_and_are_never_confused(alg: str, stub: Stub) -> None:
    mint = mint_of(alg)
    judge = hostile.verifier(latchkey_client, mint, stub, **hostile.BOTH(stub))
    judge.verify(shared(KEY).token())
    assert stub.asked["/jwks"] == 0, "a token of a secret asks for no public key"
    judge.verify(mint_of("EdDSA").token())
    for name, token in hostile.tokens(mint).items():
        if name not in hostile.GENUINE_BY_BOTH:
            with pytest.raises(InvalidToken):
                assert judge.verify(token), name


@pytest.mark.covers("asvs 9.2.1")
@pytest.mark.parametrize(("exp", "raises"), [(NOW - 9, None), (NOW - 10, TokenExpired), (NOW - 900, TokenExpired)])
def test_clocks_may_differ_by_the_leeway(exp: int, raises: type[Exception] | None, stub: Stub) -> None:
    judge, token = hostile.verifier(latchkey_client, shared(KEY), stub), shared(KEY).token(exp=exp, iat=NOW - 900)
    if raises is None:
        judge.verify(token)
    else:
        with pytest.raises(raises):
            judge.verify(token)
    for name in ("iat", "nbf"):
        judge.verify(shared(KEY).token(**{name: NOW + 10}))
        with pytest.raises(InvalidToken):
            judge.verify(shared(KEY).token(**{name: NOW + 11}))


@pytest.mark.parametrize("header", ["Bearer {}", "bearer {}", "BEARER   {}", " Bearer {} "])
def test_the_header_is_read_as_rfc_6750_has_it(header: str, stub: Stub) -> None:
    hostile.verifier(latchkey_client, shared(KEY), stub).admit(header.format(shared(KEY).token()))


@pytest.mark.parametrize(
    ("header", "raises"),
    [(None, TokenMissing), ("", TokenMissing), (" ", TokenMissing), ("Basic {}", InvalidToken), ("{}", InvalidToken),
     ("Bearer", InvalidToken), ("Bearer {0} {0}", InvalidToken), ("Bearer {0},Bearer {0}", InvalidToken), ("Bearer a b", InvalidToken)],
)  # fmt: skip
def test_another_header_is_refused(header: str | None, raises: type[Exception], stub: Stub) -> None:
    given = header and header.format(shared(KEY).token())
    with pytest.raises(raises) as refusal:
        hostile.verifier(latchkey_client, shared(KEY), stub).admit(given)
    assert type(refusal.value) is raises


def test_roles_and_recent_sign_ins_are_guarded(stub: Stub) -> None:
    judge = hostile.verifier(latchkey_client, shared(KEY), stub)
    doctor = judge.verify(shared(KEY).token(role="doctor", auth_time=NOW - 610))
    judge.require(doctor)
    judge.require(doctor, "doctor", "admin", max_age=600)
    with pytest.raises(Forbidden):
        judge.require(doctor, "admin")
    with pytest.raises(Forbidden):
        judge.require(doctor, "doctors", "doc")
    with pytest.raises(StepUpNeeded) as refusal:
        judge.require(doctor, "doctor", max_age=599)
    assert refusal.value.extra == {"max_age": 599}


def test_a_bad_token_is_refused_as_such_while_the_feed_is_away(stub: Stub) -> None:
    stub.broken = True
    judge = hostile.with_feed(latchkey_client, stub)
    with pytest.raises(TokenExpired):
        judge.verify(shared(KEY).token(exp=NOW - 100))
    with pytest.raises(Unavailable):
        judge.verify(shared(KEY).token())
    assert issubclass(TokenRevoked, InvalidToken)
    assert not issubclass(Unavailable, InvalidToken)
