"""A device and the server behind it: register, show codes, have them checked. Needs Python 3.9 and nothing else.

    export LATCHKEY_URL=http://127.0.0.1:5000 LATCHKEY_API_KEY=...
    python device_client.py register till-7 "shop 12"    # keeps the key in till-7.json, for the owner alone
    python device_client.py code till-7                  # what the device shows
    python device_client.py verify till-7 081804         # what the server asks; without digits, those of now

The device needs `code_of` and its key; the server needs `call` and an API key. Neither needs what the other has.
"""

import base64
import hashlib
import hmac
import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid

# What an answer that got lost looks like: no connection, a half body, a proxy's own page.
LOST = (OSError, http.client.HTTPException, ValueError)


def code_of(key: bytes, at: float, digits: int = 6, interval: int = 30) -> str:
    """The digits that a device shows at a time, Unix seconds (RFC 6238, section 4.2)."""
    step = int(at) // interval
    mac = hmac.new(key, step.to_bytes(8, "big"), hashlib.sha1).digest()
    offset = mac[-1] & 0x0F
    value = int.from_bytes(mac[offset : offset + 4], "big") & 0x7FFF_FFFF
    return str(value % 10**digits).zfill(digits)


class Refused(SystemExit):
    """The service has decided, and nothing was done."""


def call(path: str, body: dict, **headers: str) -> dict:
    """POST to the service. Returns `data` of its answer; ends the program with what it was refused with. Raises one of
    LOST if there is no answer, or one that says that the service is away."""
    headers["Content-Type"] = "application/json"
    headers["Authorization"] = f"Bearer {os.environ['LATCHKEY_API_KEY']}"
    url = os.environ.get("LATCHKEY_URL", "http://127.0.0.1:5000") + path
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)["data"]
    except urllib.error.HTTPError as refused:
        if refused.code >= 500:
            raise
        problem = json.load(refused)
        raise Refused(f"{refused.code} {problem['code']}: {problem['detail']}") from None


def register(device_id: str, user_id: str) -> None:
    """Register a device and keep what it needs to show codes. Its key is shown this once, so its file comes first.
    Whatever stops this, the same command goes on with it: the file has the Idempotency-Key by which the service knows
    the request, and gives the answer that got lost once more for a day."""
    path, new = f"{device_id}.json", f"{device_id}.json.new"
    kept = begun(new)
    if "derived_key" not in kept:
        try:
            kept = key_of_new(device_id, user_id, kept["idempotency_key"])
        except Refused:
            os.unlink(new)
            raise
        with open(new, "w") as file:
            json.dump(kept, file)
    os.replace(new, path)
    print(f"{device_id} is registered; its key is in {path}")


def begun(new: str) -> dict:
    """What the file of a registration holds: first its Idempotency-Key, in the end the device's key."""
    with open(os.open(new, os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
        os.chmod(new, 0o600)
        try:
            return json.load(file)
        except ValueError:  # it is new
            kept = {"idempotency_key": str(uuid.uuid4())}
            json.dump(kept, file)
            return kept


def key_of_new(device_id: str, user_id: str, once: str) -> dict:
    """The key of a new device. If the answer is lost it may be registered by then, so the request is sent again."""
    request = "/api/v1/devices/register", {"device_id": device_id, "user_id": user_id}
    try:
        return call(*request, **{"Idempotency-Key": once})
    except LOST:
        return call(*request, **{"Idempotency-Key": once})


def current_code(device_id: str) -> str:
    with open(f"{device_id}.json") as file:
        data = json.load(file)
    key = base64.b64decode(data["derived_key"])
    return code_of(key, time.time(), data["digits"], data["interval"])


def verify(device_id: str, code: str) -> None:
    valid = call("/api/v1/otp/verify", {"device_id": device_id, "otp": code})["valid"]
    print("valid" if valid else "not valid")


def main(words: list) -> None:
    if len(words) == 3 and words[0] == "register":
        register(*words[1:])
    elif len(words) == 2 and words[0] == "code":
        print(current_code(words[1]))
    elif len(words) in (2, 3) and words[0] == "verify":
        verify(words[1], words[2] if len(words) == 3 else current_code(words[1]))
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except LOST as lost:
        raise SystemExit(f"{type(lost).__name__}: {lost}") from None
