"""Guarded updates of messages and nothing else, each with a commit of its own: a measure for the courier."""

from __future__ import annotations

import json
import os
import sys
import time

import psutil
import psycopg2

FOUND = "SELECT id FROM outbox_messages ORDER BY id LIMIT %s"
SETTLED = """UPDATE outbox_messages SET state = 'sent', provider = 'bare', lease = NULL, settled_at = now()
WHERE id = %s AND state = 'queued'"""


def main(dsn: str, count: int) -> None:
    """Print the updates a second, and the CPU seconds of each: of this process and of the database."""
    connection = psycopg2.connect(dsn)
    with connection, connection.cursor() as cursor:
        cursor.execute(FOUND, (count,))
        ids = [row[0] for row in cursor]
    server = psutil.Process(connection.info.backend_pid)
    before, began = (sum(os.times()[:2]), sum(server.cpu_times()[:2])), time.monotonic()
    for each in ids:
        with connection, connection.cursor() as cursor:
            cursor.execute(SETTLED, (each,))
            assert cursor.rowcount == 1
    took = time.monotonic() - began
    spent = (sum(os.times()[:2]) - before[0], sum(server.cpu_times()[:2]) - before[1])
    sys.stdout.write(json.dumps({"rate": len(ids) / took, "cpu": spent[0] / len(ids), "database": spent[1] / len(ids)}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
