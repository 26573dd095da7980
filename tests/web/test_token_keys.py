"""Which key signs tokens and which verify, as settings say; the public key set; tokens for other backends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr

from app import start
from app.config import Settings, SettingsError
from app.core import token_keys
from app.crypto import signing
from tests.conftest import World
from tests.crypto.test_signing import new_pem
from tests.lanes import ROOT, SECRETS
from tests.people import Answer, Person
from tests.web.admins import of_role

SECRET = SECRETS["jwt_secret_key"]
NEXT = "w2Er5Ty8Ui1Op4As7Df0Gh3Jk6Lz9Xc2Vb5Nm8Qw1"
PEM = {name: new_pem(name) for name in ("EdDSA", "ES256", "RS256")}
PUBLIC = {name: signing.public_pem(signing.private(pem)) for name, pem in PEM.items()}
JWKS = "/.well-known/jwks.json"
Worlds = Callable[..., World]


def private(name: str, **more: Any) -> dict[str, Any]:
    return {"jwt_algorithm": name, "jwt_private_key": PEM[name], **more}


def asked(world: World, token: str) -> bool:
    body = world.api().post("/api/auth/introspect", {"token": token}, SECRETS["api_key"]).ok().body
    return bool(body["active"])


def keys_of(world: World) -> list[dict[str, str]]:
    found: list[dict[str, str]] = world.app.test_client().get(JWKS).get_json()["keys"]
    return found


@pytest.mark.one_lane
@pytest.mark.parametrize("name", PEM)
def test_the_key_set_is_all_that_a_backend_needs(make_world: Worlds, name: str) -> None:
    world = make_world(**private(name))
    token = world.person().sign_up().token
    told = jwt.PyJWKSet.from_dict({"keys": keys_of(world)})
    found = told[jwt.get_unverified_header(token)["kid"]]
    options: Any = {"verify_exp": False, "verify_iat": False}
    claims = jwt.decode(token, found, algorithms=[name], audience="latchkey", issuer="latchkey", options=options)
    assert claims["role"] == "user"
    assert asked(world, token)


@pytest.mark.one_lane
@pytest.mark.covers("asvs 4.2.5")
def test_the_longest_token_fits_a_header_of_every_proxy(make_world: Worlds) -> None:
    """4 KiB are the least that common ones take of a line; the service itself takes no longer token."""
    largest = rsa.generate_private_key(65537, 4096).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    long, role = "l" * 255, "r" * 32
    world = make_world(jwt_algorithm="RS256", jwt_private_key=largest.decode(), jwt_issuer=long, jwt_audience=long,
                       roles=f"admin,user,{role}")  # fmt: skip
    person = of_role(world, role)
    assert person.me()["role"] == role
    assert len(f"Authorization: Bearer {person.token}") < 3000
    for name in ("JWT_ISSUER", "JWT_AUDIENCE"):
        with pytest.raises(ValueError, match="at most 255 characters"):
            world.lane.settings(**{name.lower(): "l" * 256})


@pytest.mark.one_lane
def test_with_a_shared_secret_the_key_set_is_empty(world: World) -> None:
    response = world.app.test_client().get(JWKS)
    assert (response.status_code, response.get_json(), response.mimetype) == (200, {"keys": []}, "application/json")
    assert response.headers["Cache-Control"] == "public, max-age=300"
    assert SECRET not in response.text


@pytest.mark.one_lane
def test_a_key_set_that_is_as_it_was_is_not_sent_again(make_world: Worlds) -> None:
    client = make_world(**private("EdDSA")).app.test_client()
    tag = client.get(JWKS).headers["ETag"]
    again = client.get(JWKS, headers={"If-None-Match": tag})
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", tag)
    assert make_world().app.test_client().get(JWKS, headers={"If-None-Match": tag}).status_code == 200


STEPS = [
    ("shared", {}),
    ("the public key is accepted", {"jwt_previous_public_keys": PUBLIC["EdDSA"]}),
    ("the private key signs", private("EdDSA", jwt_previous_secret_keys=SECRET)),
    ("the secret is dropped", private("EdDSA", jwt_secret_key=NEXT)),
    ("another key is accepted", private("EdDSA", jwt_previous_public_keys=PUBLIC["ES256"])),
    ("another key signs", private("ES256", jwt_previous_public_keys=f"{PUBLIC['EdDSA']},{PUBLIC['RS256']}")),
    ("the secret is accepted", private("ES256", jwt_previous_secret_keys=f"{NEXT},{SECRET}")),
    ("shared again", {"jwt_secret_key": NEXT, "jwt_previous_public_keys": PUBLIC["ES256"]}),
]


@pytest.mark.one_lane
def test_from_a_shared_secret_to_a_private_key_and_back_signs_nobody_out(make_world: Worlds) -> None:
    """At every step, processes of this step and of the one before take each other's tokens."""
    person = make_world().person().sign_up()
    before = STEPS[0][1]
    for name, settings in STEPS[1:]:
        for issuer, others in ((before, settings), (settings, before)):
            world = make_world(keep=True, **issuer)
            person.api = world.api()
            person.tokens = person.refresh().ok().body
            for verifier in (issuer, others):
                world = make_world(keep=True, **verifier)
                assert asked(world, person.token), name
                person.api = world.api()
                assert person.me().status == 200
        before = settings


@pytest.mark.one_lane
def test_a_shared_secret_that_is_not_listed_any_more_signs_nothing(make_world: Worlds) -> None:
    """Beside a private key JWT_SECRET_KEY counts nothing: a backend that has it must not be able to sign."""
    token = make_world().person().sign_up().token
    for settings in (private("EdDSA"), private("ES256", jwt_previous_public_keys=PUBLIC["EdDSA"])):
        assert not asked(make_world(keep=True, **settings), token)


@pytest.mark.one_lane
def test_a_retired_key_is_listed_while_it_verifies(make_world: Worlds) -> None:
    ids = {name: signing.public(pem).id for name, pem in PUBLIC.items()}
    listed = f"{signing.one_line(PUBLIC['RS256'])},{PUBLIC['ES256']}"
    for settings, names in (
        (private("EdDSA", jwt_previous_public_keys=listed), ["EdDSA", "RS256", "ES256"]),
        (private("EdDSA"), ["EdDSA"]),
        ({"jwt_previous_public_keys": listed}, ["RS256", "ES256"]),
    ):
        assert [key["kid"] for key in keys_of(make_world(**settings))] == [ids[name] for name in names]


REFUSED = [
    (private("EdDSA", jwt_private_key=PEM["RS256"]), "JWT_PRIVATE_KEY is a key for RS256, and JWT_ALGORITHM is EdDSA"),
    (private("RS256", jwt_private_key=PEM["ES256"]), "JWT_PRIVATE_KEY is a key for ES256, and JWT_ALGORITHM is RS256"),
    ({"jwt_algorithm": "EdDSA"}, "JWT_PRIVATE_KEY is missing; JWT_ALGORITHM=EdDSA needs it; make one with: openssl"),
    (private("EdDSA", jwt_private_key=PUBLIC["EdDSA"]), "JWT_PRIVATE_KEY is not a private key in PEM"),
    (private("EdDSA", jwt_private_key=SECRET), "JWT_PRIVATE_KEY is n"),
    (private("EdDSA", jwt_private_key_file="/nowhere/key.pem"), "JWT_PRIVATE_KEY and JWT_PRIVATE_KEY_FILE are both"),
    ({"jwt_algorithm": "EdDSA", "jwt_private_key_file": "/nowhere/key.pem"}, "JWT_PRIVATE_KEY_FILE names a file"),
    ({"jwt_previous_public_keys": PEM["EdDSA"]}, "JWT_PREVIOUS_PUBLIC_KEYS holds one that is not a public key"),
    ({"jwt_previous_public_keys": f"{PUBLIC['EdDSA']},x"}, "JWT_PREVIOUS_PUBLIC_KEYS holds one that is n"),
]


@pytest.mark.covers("asvs 11.2.3", "attack A40")
@pytest.mark.parametrize(("given", "line"), REFUSED, ids=[line for _, line in REFUSED])
def test_a_key_that_cannot_be_used_stops_the_start(given: dict[str, Any], line: str) -> None:
    with pytest.raises(SettingsError) as refused:
        token_keys.ring(Settings(_env_file=None, **SECRETS, **given))
    assert str(refused.value).startswith(line)
    for value in given.values():
        assert len(value) < 50 or value not in str(refused.value)


FORMS: dict[str, Callable[[str], str]] = {
    "PEM": str, "a line with \\n": lambda pem: pem.replace("\n", "\\n"), "base64": signing.one_line,
}  # fmt: skip


@pytest.mark.covers("attack A40")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["jwt_secret_key", "jwt_previous_secret_keys"])
def test_a_key_in_pem_is_no_shared_secret(name: str, form: str) -> None:
    """Anybody can make the text of a public key from what /.well-known/jwks.json tells, and would sign with it."""
    for pem in (*PUBLIC.values(), *PEM.values()):
        given = SECRETS | {name: FORMS[form](pem)}
        with pytest.raises(SettingsError, match=f"^{name.upper()} is a key in PEM and no shared secret"):
            token_keys.ring(Settings(_env_file=None, **given))


PRODUCTION = {"environment": "production", "allow_console_delivery": "true", "database_url": "postgresql://u:p@db/x"}


def flask(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    given = {**SECRETS, **PRODUCTION, **settings}
    environment = {name.upper(): value for name, value in given.items() if value}
    return subprocess.run(
        [sys.executable, "-m", "flask", *words], cwd=ROOT, env={"PATH": os.environ["PATH"], **environment},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_production_does_not_start_with_a_weak_key_and_needs_no_secret_beside_a_good_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a file, too; what it refuses is one line."""
    weak = rsa.generate_private_key(65_537, 1024).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "weak.pem").write_bytes(weak)
    (tmp_path / "good.pem").write_text(PEM["RS256"])
    done = flask("check-config", jwt_algorithm="RS256", jwt_private_key_file=str(tmp_path / "weak.pem"))
    assert done.returncode == 1
    assert done.stderr.splitlines()[1].startswith("JWT_PRIVATE_KEY_FILE has 1024 bits; RSA needs 2048 to 4096; make")
    good = {"jwt_algorithm": "RS256", "jwt_private_key_file": str(tmp_path / "good.pem"), "jwt_secret_key": ""}
    monkeypatch.delenv("JWT_SECRET_KEY", raising=False)
    settings = start.load(None, **{**SECRETS, **PRODUCTION, **good})
    assert token_keys.ring(settings).jwks()[0]["kid"] == signing.public(PUBLIC["RS256"]).id
    with pytest.raises(SettingsError, match="JWT_SECRET_KEY is missing"):
        start.load(None, **{**SECRETS, **PRODUCTION, "jwt_secret_key": ""})


@pytest.mark.one_lane
def test_commands_make_keys_that_work(make_world: Worlds) -> None:
    runner = make_world().app.test_cli_runner()
    for name in PEM:
        told = dict(line.split("=", 1) for line in runner.invoke(args=["make-key", name]).stdout.splitlines())
        assert list(told) == ["JWT_PREVIOUS_PUBLIC_KEYS", "JWT_ALGORITHM", "JWT_PRIVATE_KEY"]
        settings = Settings(_env_file=None, **{key.lower(): value for key, value in told.items()})
        [jwk, *rest] = token_keys.ring(settings).jwks()
        assert (jwk["alg"], rest) == (name, []), "the public half is the private key's"
        again = make_world(**{key.lower(): value for key, value in told.items()}).app.test_cli_runner()
        public = again.invoke(args=["public-key"]).stdout
        assert public == f"JWT_PREVIOUS_PUBLIC_KEYS={told['JWT_PREVIOUS_PUBLIC_KEYS']}\n"
    assert runner.invoke(args=["public-key"]).exit_code == 1
    assert runner.invoke(args=["make-key", "HS256"]).exit_code == 2


def token_for(world: World, token: str, audience: Any) -> Answer:
    return world.api().post("/api/auth/token", {"audience": audience}, token)


def read(token: str, secret: Any, audience: str, algorithm: str = "HS256") -> dict[str, Any]:
    options: Any = {"verify_exp": False, "verify_iat": False}
    found: dict[str, Any] = jwt.decode(
        token, secret, algorithms=[algorithm], audience=audience, issuer="latchkey", options=options
    )
    return found


def test_a_token_for_another_backend_says_the_same_of_its_person(make_world: Worlds) -> None:
    world = make_world(jwt_audiences="clinic,lab")
    person = world.person().sign_up()
    world.clock.advance(seconds=100)
    answer = token_for(world, person.token, "clinic").ok()
    assert {k: v for k, v in answer.body.items() if k != "access_token"} == {
        "token_type": "Bearer", "expires_in": 900, "audience": "clinic",
    }  # fmt: skip
    told = world.app.test_cli_runner().invoke(args=["audience-key", "clinic"]).stdout.split()
    header = jwt.get_unverified_header(answer["access_token"])
    assert (header, told[1]) == ({"alg": "HS256", "typ": "at+jwt", "kid": told[0]}, "signs")
    own, theirs = read(person.token, SECRET, "latchkey"), read(answer["access_token"], told[2], "clinic")
    assert {name: theirs[name] - own[name] for name in ("iat", "exp")} == {"iat": 100, "exp": 100}
    different = ("iat", "exp", "jti", "aud")
    assert {k: v for k, v in theirs.items() if k not in different} == {
        k: v for k, v in own.items() if k not in different
    }
    [row] = world.audit(event="token.exchanged")
    assert (row.facts, str(row.session_id)) == ({"audience": "clinic"}, own["sid"])


@pytest.mark.covers("asvs 9.2.3", "asvs 9.2.4")
@pytest.mark.one_lane
def test_a_token_for_another_backend_opens_nothing_here(make_world: Worlds) -> None:
    for settings in ({}, private("EdDSA")):
        world = make_world(jwt_audiences="clinic,lab", **settings)
        person = world.person().sign_up()
        theirs = token_for(world, person.token, "clinic").ok()["access_token"]
        assert world.api().get("/api/auth/me", theirs).code == "token_invalid"
        assert token_for(world, theirs, "lab").code == "token_invalid"
        assert not asked(world, theirs)


@pytest.mark.covers("asvs 11.1.1")
@pytest.mark.one_lane
def test_a_backend_s_key_makes_tokens_for_itself_alone(make_world: Worlds) -> None:
    world = make_world(jwt_audiences="clinic,lab")
    person = world.person().sign_up()
    clinic, lab = (signing.for_audience(SECRET, name) for name in ("clinic", "lab"))
    for audience in ("latchkey", "lab", "clinic"):
        claims = {**read(person.token, SECRET, "latchkey"), "aud": audience, "role": "admin"}
        for kid in (signing.key_id(clinic), signing.key_id(lab), signing.key_id(SECRET)):
            forged = jwt.encode(claims, clinic, headers={"typ": "at+jwt", "kid": kid})
            assert world.api().get("/api/auth/me", forged).code == "token_invalid"
            with pytest.raises(jwt.InvalidTokenError):
                read(forged, lab, "lab")


@pytest.mark.one_lane
def test_with_a_private_key_every_backend_verifies_with_the_key_set(make_world: Worlds) -> None:
    world = make_world(jwt_audiences="clinic", **private("ES256"))
    theirs = token_for(world, world.person().sign_up().token, "clinic").ok()["access_token"]
    found = jwt.PyJWKSet.from_dict({"keys": keys_of(world)})[jwt.get_unverified_header(theirs)["kid"]]
    assert read(theirs, found, "clinic", "ES256")["role"] == "user"
    with pytest.raises(jwt.InvalidAudienceError):
        read(theirs, found, "lab", "ES256")
    refused = world.app.test_cli_runner().invoke(args=["audience-key", "clinic"])
    assert (refused.exit_code, refused.stderr) == (
        1,
        "Error: JWT_ALGORITHM is ES256: it reads /.well-known/jwks.json.\n",
    )


@pytest.mark.one_lane
def test_a_token_never_outlives_its_session(make_world: Worlds) -> None:
    world = make_world(jwt_audiences="clinic", session_max_age=1000)
    person = world.person().sign_up()
    world.clock.advance(seconds=800)
    left = 1000 - 800
    person.tokens = person.refresh().ok().body
    theirs = token_for(world, person.token, "clinic").ok()
    for answer in (person.tokens, theirs.body):
        claims = jwt.decode(answer["access_token"], options={"verify_signature": False})
        assert (answer["expires_in"], claims["exp"] - claims["iat"]) == (left, left)


@pytest.mark.parametrize(
    "audience", ["latchkey", "elsewhere", "clinic ", "Clinic", "clinic,lab", "", None, 1, ["clinic"]]
)
@pytest.mark.one_lane
def test_an_audience_that_is_not_named_gets_no_token(make_world: Worlds, audience: Any) -> None:
    world = make_world(jwt_audiences="clinic,lab")
    answer = token_for(world, world.person().sign_up().token, audience)
    assert (answer.status, answer["errors"][0]["field"]) == (422, "audience")


@pytest.mark.one_lane
def test_who_has_no_session_any_more_gets_no_token(make_world: Worlds) -> None:
    world = make_world(jwt_audiences="clinic")
    person: Person = world.person().sign_up()
    assert token_for(world, "", "clinic").code == "token_missing"
    person.api.post("/api/auth/logout", token=person.token).ok()
    assert token_for(world, person.token, "clinic").code == "token_revoked"
    assert world.audit(event="token.exchanged") == []


@pytest.mark.one_lane
def test_the_next_key_of_a_backend_is_known_before_it_signs(make_world: Worlds) -> None:
    before = make_world(jwt_audiences="clinic", jwt_previous_secret_keys=NEXT)
    after = make_world(jwt_audiences="clinic", jwt_secret_key=NEXT, jwt_previous_secret_keys=SECRET)
    lines = [
        w.app.test_cli_runner().invoke(args=["audience-key", "clinic"]).stdout.splitlines() for w in (before, after)
    ]
    assert [[line.split()[1] for line in each] for each in lines] == [["signs", "verifies"]] * 2
    assert [line.split()[2] for line in lines[0]] == [line.split()[2] for line in reversed(lines[1])]
    assert before.app.test_cli_runner().invoke(args=["audience-key", "lab"]).exit_code == 1


@pytest.mark.parametrize("value", ["latchkey", "clinic,clinic", "a b", "é", "-x", "x" * 65, "clinic;lab"])
def test_audiences_that_cannot_be_stop_the_start(value: str) -> None:
    with pytest.raises(ValueError, match=r"JWT_AUDIENCE|must be names"):
        Settings(_env_file=None, jwt_audiences=value)


def test_a_key_is_never_shown() -> None:
    settings = Settings(_env_file=None, **private("EdDSA", jwt_previous_public_keys=PUBLIC["ES256"]))
    assert isinstance(settings.jwt_private_key, SecretStr)
    shown = settings.masked()
    assert (shown["JWT_PRIVATE_KEY"], shown["JWT_PREVIOUS_PUBLIC_KEYS"]) == ("(set)", "(set)")
    assert "PRIVATE KEY" not in repr(settings)


@pytest.mark.one_lane
def test_the_environment_s_api_key_changes_with_nobody_refused(make_world: Worlds) -> None:
    old, new = SECRETS["api_key"], "Ld8Sx2Gk5Zt9Bn3Wq7Vh4Mc6Rj1Fy0Pa8Ue3Io5Tl"
    steps = [{}, {"api_key_previous": new}, {"api_key": new, "api_key_previous": old}, {"api_key": new}]
    accepted = []
    for settings in steps:
        world = make_world(**settings)
        answers = [world.api().post("/api/auth/introspect", {"token": "x"}, key).status for key in (old, new)]
        accepted.append(answers)
    assert accepted == [[200, 401], [200, 200], [200, 200], [401, 200]]
