"""How gunicorn runs the service. `PORT`, `WEB_CONCURRENCY` and `WEB_THREADS` come from the settings.

Why it is so, with measurements: `docs/scaling.md` and `docs/adr/0021`, `0022`.
"""

import gc
import logging
import os
import resource
import shutil
import tempfile

# Each worker keeps its metrics in a file here; prometheus_client looks for the folder when it is imported. This file is
# read again on SIGHUP, in the same process.
_name = f"latchkey-metrics-{os.getpid()}-"
_metrics = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")
if not os.path.basename(_metrics).startswith(_name):
    _metrics = os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix=_name)

from app import listening, logs, stopping  # noqa: E402
from app.delivery import courier, dlt  # noqa: E402
from app.start import greet, host, leave_no_dump, load_once  # noqa: E402
from app.workers import forget  # noqa: E402

leave_no_dump()
listening.allocates_little()
_settings = load_once()
_connections = 2000  # a worker's, those that wait or are idle among them; each takes a file
_files, _most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
if _files < 2 * _connections:
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(2 * _connections, _most_files), _most_files))

bind = f"{host(_settings)}:{_settings.port}"
backlog = 2048  # what the kernel keeps for us while all workers are busy, or while we are started anew
workers = _settings.web_concurrency
worker_class = listening.PatientWorker
worker_connections = min(_connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
threads = _settings.web_threads
# Loaded once, before the workers are forked, which share its memory. An unsafe setting stops the start here.
wsgi_app = "app:create_app(migrates=False)"
preload_app = True
timeout = 30
graceful_timeout = 30
keepalive = 5
max_requests = 0
limit_request_line = 4094
accesslog = None  # the service writes its own line a request
errorlog = "-"
loglevel = "debug" if _settings.debug else "warning"
logconfig_dict = logs.for_gunicorn(_settings)
control_socket_disable = True
forwarded_allow_ips = ""


def when_ready(server):
    stopping.stops_gently(server)
    gc.collect()
    gc.freeze()  # else the first collection in a worker writes to every page, and none is shared any more
    greet(_settings, dlt.remarks(_settings), str(server.LISTENERS[0]))


def post_worker_init(worker):
    """A courier in each worker, after the fork: threads do not survive one. It sends until the last request has ended,
    or until it has just time enough to stop.
    """
    own = worker.app.wsgi().extensions["courier"]
    own.start()
    stopping.ends_in_time(worker, own.stop, worker.cfg.graceful_timeout - courier.PATIENCE_S)


def worker_exit(_server, worker):
    """Once requests have ended. At the interpreter's exit it would wait for each of their threads first."""
    if worker.booted:
        worker.app.wsgi().extensions["courier"].stop()


def on_exit(_server):
    shutil.rmtree(_metrics, ignore_errors=True)


def child_exit(_server, worker):
    try:
        forget(worker.pid)
    except Exception:  # an error here would end the master, and its figures are not worth that
        logging.getLogger("gunicorn.error").exception("the figures of worker %s are lost", worker.pid)
