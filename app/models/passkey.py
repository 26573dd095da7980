"""A passkey: the public half of a key pair that an authenticator made for one account. It opens nothing by itself."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base, Digest, Id, UtcDateTime


class Passkey(Base):
    __tablename__ = "passkeys"

    id: Mapped[UUID] = mapped_column(Id, primary_key=True)
    user_id: Mapped[UUID] = mapped_column(Id, ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(100))  # for people
    credential_digest: Mapped[str] = mapped_column(Digest, unique=True)  # SHA-256 of the credential's id, to find it by
    credential_id: Mapped[str] = mapped_column(String(1364))  # base64url, at most 1023 bytes
    public_key: Mapped[str] = mapped_column(String(1364))  # COSE_Key (RFC 9052), base64url
    sign_count: Mapped[int] = mapped_column(BigInteger)  # the newest that was seen; 0: it does not count
    aaguid: Mapped[str] = mapped_column(String(36))  # the model of the authenticator
    transports: Mapped[str] = mapped_column(String(64))  # how browsers reach it, space separated
    synced: Mapped[bool]  # the authenticator may copy it to its owner's other devices
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
