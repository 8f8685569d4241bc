"""What a request carries, checked against the API's own document before anything is done with it."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from typing import Any

import jsonschema
from starlette.exceptions import HTTPException
from starlette.requests import Request

from bcd_edge.outputs import printable
from bcd_edge.serve import openapi

LONGEST_NAME = 200


async def json_body(request: Request, schema: str) -> dict[str, Any]:
    """The JSON object of a request.

    Raises:
        HTTPException: 400 it is no JSON; 422 it is not what the component `schema` says.
    """
    try:
        body = json.loads(await request.body(), parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise HTTPException(400, "The body is not JSON; send what the document of the API says.") from None
    error = jsonschema.exceptions.best_match(_validator(schema).iter_errors(body))
    if error is not None:
        raise HTTPException(422, f"The body does not fit: {error.json_path} {error.message[:300]}.")
    checked: dict[str, Any] = body
    return checked


def _no_number(text: str) -> float:
    raise ValueError(text)


@functools.cache
def _validator(schema: str) -> Any:
    return jsonschema.Draft202012Validator({**openapi.document(), "$ref": f"#/components/schemas/{schema}"})


def arguments(request: Request) -> dict[str, Any]:
    """The query's parameters as the document has them for this route, with their defaults.

    Raises:
        HTTPException: 400 a parameter is unknown, repeated, or not what it must be.
    """
    declared = {entry["name"]: entry["schema"] for entry in openapi.parameters(request.scope["route"].path, request.method)}
    given: dict[str, Any] = {name: schema["default"] for name, schema in declared.items() if "default" in schema}
    for name, text in request.query_params.multi_items():
        if name not in declared or len(request.query_params.getlist(name)) > 1:
            raise HTTPException(400, f"The parameter {name!r} is unknown or repeated; known here: {', '.join(declared) or 'none'}.")
        given[name] = value = _value(text, declared[name].get("type"))
        error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(declared[name]).iter_errors(value))
        if error is not None:
            raise HTTPException(400, f"The parameter {name} does not fit: {error.message[:300]}.")
    return given


def _value(text: str, kind: str | None) -> Any:
    if kind == "integer" and text.removeprefix("-").isdecimal() and text.isascii() and len(text) < 19:
        return int(text)
    return {"true": True, "false": False}.get(text, text) if kind == "boolean" else text


def file_name(given: str | None, fallback: str) -> str:
    """The last part of a path that a client calls its file, printable and of a length that every place takes."""
    name = printable((given or "").replace("\\", "/").rpartition("/")[2])
    return name[-LONGEST_NAME:] if name.strip(". ") else fallback


class Limited:
    """An ASGI `receive` that refuses bodies that are too large or too slow."""

    def __init__(self, receive: Any, most: int, timeout_s: float) -> None:
        self._receive, self._most, self._ends = receive, most, time.monotonic() + timeout_s
        self._received, self._is_complete = 0, False

    async def __call__(self) -> Any:
        """The next message.

        Raises:
            HTTPException: 413 or 408.
        """
        if self._is_complete:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, self._ends - time.monotonic()))
        except asyncio.TimeoutError:
            raise HTTPException(408, "The body did not arrive in time; send it again.", {"connection": "close"}) from None
        self._received += len(message.get("body", b""))
        self._is_complete = not message.get("more_body", False)
        if self._received > self._most:
            raise HTTPException(413, f"The body is larger than {self._most:,} bytes; send fewer pictures at once.", {"connection": "close"})
        return message
