"""Traces over OpenTelemetry. Imported only where OTEL_EXPORTER_OTLP_ENDPOINT is set: its packages are an extra.

Each span is made here and holds what is listed here. The libraries that instrument Flask and its kind would also send
paths, query strings, addresses and user agents, and of what is taken out again something is always forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask, Response, g, request
from opentelemetry import context, propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from sqlalchemy import Engine, event
from sqlalchemy.engine import Connection, ExceptionContext

from app import logs
from app.config import Settings
from app.delivery.senders import Outgoing, Receipt, Sender, SendFailed
from app.version import VERSION
from app.web import metrics

SPANS = "/v1/traces"  # below the endpoint (OTLP specification, section 'Endpoint URLs for OTLP/HTTP')
LONGEST_SQL = 500  # statements have placeholders where values go


class Tracing:
    """Where spans come from and go. What else there is to say is said by the OTEL_ variables of the environment:
    headers, sampler, name of the service.
    """

    def __init__(self, settings: Settings) -> None:
        own = Resource.create({"service.name": "latchkey", "service.version": VERSION})
        self.provider = TracerProvider(resource=own.merge(OTELResourceDetector().detect()))
        endpoint = settings.otel_exporter_otlp_endpoint.rstrip("/") + SPANS
        self.provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self._tracer = self.provider.get_tracer("latchkey", VERSION)

    def senders(self, senders: Mapping[str, Sender]) -> dict[str, Sender]:
        """The same senders, with a span for each message."""
        return {channel: Traced(sender, self._tracer) for channel, sender in senders.items()}

    def install(self, app: Flask, engine: Engine) -> None:
        """Trace every request and its statements."""
        app.extensions["tracing"] = self.provider
        _trace_requests(app, self._tracer)
        _trace_statements(engine, self._tracer)


def _trace_requests(app: Flask, tracer: Tracer) -> None:
    @app.before_request
    def start() -> None:
        method = metrics.method()
        told = {"http.request.method": method, "http.route": metrics.route(), "latchkey.request_id": g.request_id}
        parent = propagate.extract(request.headers)
        name = f"{method} {metrics.route()}"
        g.span = tracer.start_span(name, context=parent, kind=SpanKind.SERVER, attributes=told)
        g.span_token = context.attach(trace.set_span_in_context(g.span))
        logs.add(trace_id=trace.format_trace_id(g.span.get_span_context().trace_id))

    @app.after_request
    def answered(response: Response) -> Response:
        span: Span | None = g.get("span")
        if span is None:  # answered before it began
            return response
        span.set_attribute("http.response.status_code", response.status_code)
        if code := g.get("code"):
            span.set_attribute("latchkey.code", code)
        if response.status_code >= 500:
            span.set_status(StatusCode.ERROR)
        return response

    @app.teardown_request
    def end(_error: BaseException | None) -> None:
        if span := g.pop("span", None):
            span.end()
            context.detach(g.pop("span_token"))


def _trace_statements(engine: Engine, tracer: Tracer) -> None:
    """A span for each statement of what is traced: the courier's look for messages every two seconds is not."""

    @event.listens_for(engine, "before_cursor_execute")
    def begun(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        verb = statement.split(None, 1)[0].upper()
        told = {
            "db.system.name": engine.dialect.name,
            "db.operation.name": verb,
            "db.query.text": statement[:LONGEST_SQL],
        }
        if trace.get_current_span().is_recording():
            connection.info["span"] = tracer.start_span(verb, kind=SpanKind.CLIENT, attributes=told)

    @event.listens_for(engine, "after_cursor_execute")
    def done(connection: Connection, *_: Any) -> None:
        if span := connection.info.pop("span", None):
            span.end()

    @event.listens_for(engine, "handle_error")
    def failed(error: ExceptionContext) -> None:
        if error.connection is not None and (span := error.connection.info.pop("span", None)):
            _fail(span, type(error.original_exception).__name__)


def _fail(span: Span, why: str) -> None:
    """End a span that tells of a failure, by its kind: the text of an exception may hold anything."""
    span.set_attribute("error.type", why)
    span.set_status(StatusCode.ERROR)
    span.end()


class Traced:
    """A sender with a span for each message that it is given."""

    def __init__(self, sender: Sender, tracer: Tracer) -> None:
        self.name, self.channel = sender.name, sender.channel
        self._sender, self._tracer = sender, tracer

    def send(self, message: Outgoing) -> Receipt:
        told = {
            "latchkey.message_id": str(message.id),
            "latchkey.channel": message.channel,
            "latchkey.kind": message.kind,
        }
        span = self._tracer.start_span(f"send {message.channel}", kind=SpanKind.CLIENT, attributes=told)
        try:
            receipt = self._sender.send(message)
        except Exception as error:
            _fail(span, str(error.reason) if isinstance(error, SendFailed) else type(error).__name__)
            raise
        span.set_attribute("latchkey.provider", receipt.provider)
        span.end()
        return receipt
