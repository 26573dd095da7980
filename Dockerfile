# A small image that runs as nobody in particular on a read-only file system: it writes nowhere but /tmp.
#
#   docker build -t latchkey .
#   docker run --rm --read-only --tmpfs /tmp --env-file .env latchkey flask db upgrade
#   docker run --stop-timeout 40 --read-only --tmpfs /tmp -p 127.0.0.1:8000:8000 --env-file .env latchkey
#
# ARGON2=native builds Argon2 for the processor of the machine that builds: quicker hashes, but the image may not start on
# another kind of processor. deployment_guide.md says how much.
FROM python:3.11-slim-bookworm AS build
ARG ARGON2=wheel
WORKDIR /build
COPY requirements.txt tools/fast_argon2.sh ./
RUN python -m venv --without-pip /opt/venv
RUN pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes -r requirements.txt
RUN if [ "$ARGON2" = native ]; then apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && ./fast_argon2.sh pip --python /opt/venv/bin/python; fi
COPY app ./app
COPY migrations ./migrations
# Read-only later, so compiled now: a start would otherwise compile everything, each time.
RUN python -m compileall -q --invalidation-mode unchecked-hash app migrations

FROM python:3.11-slim-bookworm
COPY --from=build /opt/venv /opt/venv
WORKDIR /srv/latchkey
COPY --from=build /build/app ./app
COPY --from=build /build/migrations ./migrations
COPY gunicorn.conf.py .flaskenv ./
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
ENV ENVIRONMENT=production PORT=8000
USER 10001:10001
EXPOSE 8000
# Alive, not ready: a restart mends no database that is away. /health says whether it is ready.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/health/live', timeout=4)"]
CMD ["gunicorn", "-c", "gunicorn.conf.py"]
