"""A clinic's API. Its people sign in at Latchkey; this program only asks who is calling, and in which role."""

import os
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from latchkey_client import Caller, Verifier
from latchkey_client.fastapi import Auth

LATCHKEY = os.environ.get("LATCHKEY_URL", "http://127.0.0.1:5000")


def verifier() -> Verifier:
    """By the shared secret where there is one, else by the public keys; with an API key, ended sessions are refused."""
    secrets = [os.environ.get("JWT_SECRET_KEY", ""), *os.environ.get("JWT_PREVIOUS_SECRET_KEYS", "").split(",")]
    api_key = os.environ.get("LATCHKEY_API_KEY")
    return Verifier(
        issuer=os.environ.get("JWT_ISSUER", "latchkey"),
        audience=os.environ.get("JWT_AUDIENCE", "latchkey"),
        secrets=secrets if any(secrets) else None,
        jwks_url=None if any(secrets) else f"{LATCHKEY}/.well-known/jwks.json",
        revocations_url=f"{LATCHKEY}/api/auth/revocations" if api_key else None,
        api_key=api_key,
    )


auth = Auth(verifier())
app = FastAPI(title="Clinic")
auth.install(app)

User = Annotated[Caller, Depends(auth.user)]
Doctor = Annotated[Caller, Depends(auth.role("doctor", "admin"))]
RecentDoctor = Annotated[Caller, Depends(auth.role("doctor", max_age=600))]


@app.get("/me")
def me(user: User) -> dict[str, Any]:
    """Anybody who is signed in."""
    return {"id": user.user_id, "role": user.role, "amr": user.amr}


@app.get("/patients")
def patients(doctor: Doctor) -> dict[str, Any]:
    """Doctors and admins."""
    return {"items": ["Asha", "Jane"], "for": doctor.user_id}


@app.post("/prescriptions", status_code=201)
def prescribe(doctor: RecentDoctor) -> dict[str, Any]:
    """Doctors who signed in, or stepped up, within ten minutes."""
    return {"prescribed_by": doctor.user_id}


@app.get("/health")
def health() -> dict[str, Any]:
    """For a monitor: `stale` says that sign-outs are not being heard of."""
    feed = auth.verifier.revocations
    return {"status": "ok", "revocations": feed and {"age": feed.age, "stale": feed.stale}}
