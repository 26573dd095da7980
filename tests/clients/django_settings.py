"""Django, set up once for a process: it takes its settings a single time."""

from __future__ import annotations

import django
from django.conf import settings

if not settings.configured:
    settings.configure(
        SECRET_KEY="x" * 50, ALLOWED_HOSTS=["testserver"], ROOT_URLCONF=__name__, USE_TZ=True, LATCHKEY=None,
        MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware", "latchkey_client.django.Middleware"],
    )  # fmt: skip
    django.setup()
