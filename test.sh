#!/bin/sh
# Lint, types and the whole suite, on every lane that this machine has. Arguments go to pytest; `-m long` runs the short
# forms of programs that would make it longer than a quarter of an hour, and which it leaves out.
# CI=true makes a missing PostgreSQL, MariaDB, Redis, Chromium or Node.js an error instead of a loud skip.
set -eu
cd "$(dirname "$0")"
. ./tools/venv.sh
unset PYTHONDONTWRITEBYTECODE  # hundreds of processes start, and each would compile the whole app anew
ensure_venv requirements.txt requirements-dev.txt
.venv/bin/python tools/servers.py ensure
.venv/bin/ruff format --check --quiet .
.venv/bin/ruff check --quiet .
.venv/bin/mypy
# Three, on two cores: a part of the tests wait, and four are no faster. Stolen work keeps the tests of one database together.
exec .venv/bin/python -m pytest -n "${TEST_WORKERS:-3}" --dist worksteal -m "not long" "$@"
