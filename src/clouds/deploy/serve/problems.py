"""Every answer that is none of 2xx: what each status means, and that all of them are JSON of one shape."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from clouds.deploy.serve.counters import Counters
from clouds.deploy.serve.limits import Refused

GONE = 499  # the client left: nobody reads this answer

class Problem(BaseModel):
    error: str
    detail: str


_REASONS = {
    400: "No image, or one that is damaged; a broken form.",
    401: "The token is missing or wrong.",
    404: "No model of that name.",
    408: "The upload took too long.",
    413: "Too many bytes or pixels.",
    415: "Neither PNG nor JPEG.",
    422: "A parameter that cannot be.",
    500: "The model failed.",
    503: "The queue is full, or the server starts or stops: try again after `Retry-After` seconds.",
    504: "The answer took too long.",
}


def problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The answers of these codes, for the document."""
    return {code: {"model": Problem, "description": _REASONS[code]} for code in codes}


def answer_in_json(app: FastAPI, counters: Counters) -> None:
    """Whatever goes wrong is answered by a ``Problem``."""

    def problem(status: int, error: str, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
        counters.refused.labels(error).inc()
        return JSONResponse({"error": error, "detail": detail}, status, headers)

    @app.exception_handler(Refused)
    async def refused(_: Request, each: Refused) -> Response:
        return problem(each.status, each.error, each.detail, each.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, each: RequestValidationError) -> Response:
        faults = [f"{'.'.join(map(str, fault['loc'][1:]))}: {fault['msg']}" for fault in each.errors()]
        return problem(422, "bad_parameter", "; ".join(faults)[:1000])

    @app.exception_handler(HTTPException)
    async def other(_: Request, each: HTTPException) -> Response:
        return problem(each.status_code, each.detail.lower().replace(" ", "_"), each.detail, each.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> Response:
        counters.gone.inc()
        return Response(status_code=GONE)

    @app.exception_handler(Exception)
    async def failed(_: Request, each: Exception) -> Response:
        return problem(500, "failed", f"the model or the server failed ({type(each).__name__}); the log has more")
