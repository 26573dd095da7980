#!/bin/sh
# A running service on this machine: the first run sets up all it needs, the next ones just start.
# Needs only Python 3.11 or newer. Settings: the environment, then .env (made on the first run).
set -eu
cd "$(dirname "$0")"
. ./tools/venv.sh
ensure_venv requirements.txt
# Flask by itself would read the .env of a folder above, too.
FLASK_SKIP_DOTENV=1 FLASK_APP=app .venv/bin/flask db upgrade
exec .venv/bin/gunicorn -c gunicorn.conf.py
