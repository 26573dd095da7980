"""The least that such a service can do: one row read by its primary key, by SQLAlchemy Core, told as JSON. No more.

`bench speed` runs it under gunicorn as a measure for everything else: what it costs, Flask and PostgreSQL cost.
"""

import os
from uuid import UUID

import sqlalchemy as sa
from flask import Flask

engine = sa.create_engine(os.environ["DATABASE_URL"], pool_size=12, max_overflow=0)
users = sa.table("users", sa.column("id", sa.Uuid), sa.column("name"), sa.column("email"), sa.column("role"))
app = Flask(__name__)


@app.get("/<uuid:user_id>")
def read(user_id: UUID) -> dict[str, str]:
    with engine.connect() as connection:
        row = connection.execute(sa.select(users).where(users.c.id == user_id)).one()
    return {"id": str(row.id), "name": row.name, "email": row.email, "role": row.role}
