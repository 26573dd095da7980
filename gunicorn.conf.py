"""How gunicorn runs the service. `PORT`, `WEB_CONCURRENCY` and `WEB_THREADS` come from the settings."""

import os
import shutil
import tempfile

# Each worker keeps its metrics in a file here; prometheus_client looks for the folder when it is imported.
_metrics = tempfile.mkdtemp(prefix="latchkey-metrics-")
os.environ["PROMETHEUS_MULTIPROC_DIR"] = _metrics

from prometheus_client import multiprocess  # noqa: E402

from app import logs  # noqa: E402
from app.delivery.senders.registry import senders_of  # noqa: E402
from app.start import host, load_or_exit, or_exit, welcome  # noqa: E402

# In the master, so that an unsafe setting or a template that does not fit stops the start at once.
_settings = load_or_exit()
or_exit(lambda: senders_of(_settings))

bind = f"{host(_settings)}:{_settings.port}"
workers = _settings.web_concurrency
worker_class = "gthread"
threads = _settings.web_threads
wsgi_app = "app.wsgi:app"
timeout = 30
graceful_timeout = 30
keepalive = 5
max_requests = 0
accesslog = None  # the service writes its own line a request
errorlog = "-"
loglevel = "debug" if _settings.debug else "warning"
logconfig_dict = logs.for_gunicorn(_settings)
control_socket_disable = True
forwarded_allow_ips = ""


def when_ready(_server):
    print(welcome(_settings), flush=True)  # noqa: T201 - for the person who started it


def on_exit(_server):
    shutil.rmtree(_metrics, ignore_errors=True)


def child_exit(_server, worker):
    multiprocess.mark_process_dead(worker.pid)
