"""What all handlers of requests share: a name for the request, and faults in the caller's dialect."""

from __future__ import annotations

import logging
from asyncio import Future
from types import TracebackType
from typing import Any

from tornado import web
from tornado.log import gen_log
from typing_extensions import override

from ..dialects.faults import error_object, fault_headers
from ..errors import Fault, MethodNotAllowed, NotFound
from .tasks import RequestIds


class BaseHandler(web.RequestHandler):
    """Names its request, lets no cache keep the answer, and writes a fault as the one error object.

    Settings of the application that are read: `request_ids`.
    """

    methods = "GET, HEAD"
    """What the path answers, for those who try something else."""

    request_id: str

    @override
    def set_default_headers(self) -> None:
        if not hasattr(self, "request_id"):
            ids: RequestIds = self.settings.setdefault("request_ids", RequestIds())
            self.request_id = ids.next()
        self.set_header("x-request-id", self.request_id)
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")

    @override
    def finish(self, chunk: str | bytes | dict[str, Any] | None = None) -> Future[None]:
        if not self._headers_written and "Server-Timing" not in self._headers:
            self.set_header("Server-Timing", f"gateway;dur={self.request.request_time() * 1e3:.1f}")
        return super().finish(chunk)

    @override
    def write_error(self, status_code: int, **kwargs: Any) -> None:
        fault = fault_of((kwargs.get("exc_info") or (None, None))[1], status_code, self.methods)
        self.set_status(fault.status)
        for name, value in fault_headers(fault):
            self.set_header(name, value)
        self.write_fault(fault)

    def write_fault(self, fault: Fault) -> None:
        """Write the body of a failed answer."""
        self.set_header("Content-Type", "application/json")
        self.finish(error_object(fault))

    @override
    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Say what went wrong, by the request's name: paths and queries are a caller's own text."""
        if isinstance(value, Fault):
            gen_log.info("%s %d: %s", self.request_id, value.status, value.detail or value.slug)
        elif isinstance(value, web.HTTPError):
            # Without its arguments: they are a caller's own text
            level = logging.WARNING if value.log_message else logging.INFO
            gen_log.log(level, "%s %d: %s", self.request_id, value.status_code, value.log_message)
        elif typ is not None and value is not None:
            gen_log.error("%s: uncaught exception", self.request_id, exc_info=(typ, value, tb))


class NotFoundHandler(BaseHandler):
    """Every path that is not ours."""

    @override
    def prepare(self) -> None:
        raise NotFound(
            "There is nothing at this path. OpenAI clients need a base URL that ends with /v1; "
            "the documentation page is at /docs.",
            slug="path_not_found",
        )


def fault_of(error: BaseException | None, status: int, methods: str) -> Fault:
    """Make a fault of tornado's own errors; the text of an unexpected one stays in the log."""
    if isinstance(error, Fault):
        return error
    if status == 404:
        return NotFound("There is nothing at this path.", slug="path_not_found")
    if status == 405:
        return MethodNotAllowed(f"This path answers {methods}.", headers=[("Allow", methods)])
    if isinstance(error, web.HTTPError) and status < 500:
        return Fault(error.log_message or error.reason or "This request was refused.", status=status)
    return Fault("Something went wrong here; the gateway's log says what.", status=status)
