"""Generates docs/openapi.json. The paths are written here; the schemas come from the code.

`python tests/endpoint/openapi_document.py` (with daemon/ on the path) writes the file; a test compares it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from sessiond.endpoint import enrolment, erasure, wire
from sessiond.endpoint.dictionary import ENCODING as ENCODING_WITH_DICTIONARY
from sessiond.endpoint.server.results import PROBLEMS

Json = dict[str, Any]
PLACE = Path(__file__).parents[2] / "docs" / "openapi.json"
ANSWERS = [
    wire.About,
    wire.PushSession,
    wire.PushAppend,
    wire.PushGeneration,
    wire.PushAnswer,
    wire.OffsetsRequest,
    wire.OffsetsAnswer,
    wire.SessionsAnswer,
    wire.ChangesAnswer,
    wire.UnlistedAnswer,
    wire.StoredSession,
    wire.StreamsAnswer,
    enrolment.EnrolRequest,
    enrolment.EnrolAnswer,
    erasure.ForgottenAnswer,
    erasure.Receipt,
    wire.HttpProblem,
]
WHOLE: Json = {"type": "integer", "minimum": 0}
REASONS = {
    "400": "Something in the request is not valid",
    "401": "No token, or one that is not accepted",
    "403": "The token lacks the scope, or belongs to another device",
    "404": "There is no such session, stream or generation",
    "408": "The body did not arrive in time",
    "410": "This endpoint did not issue that `since`: start again without it",
    "413": "The request as a whole is over a limit",
    "415": "Another media type or content encoding is needed, or another dictionary",
    "416": "The range lies behind the end of the stream",
    "500": "The endpoint failed",
    "503": "The endpoint is busy; come back after Retry-After",
    "507": "The endpoint's disk is full; come back after Retry-After",
}


def ref(name: str) -> Json:
    """Point to a schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def parameter(name: str, place: str, schema: Json, description: str, *, required: bool = False) -> Json:
    """Describe a parameter; those in the path are required."""
    needed = required or place == "path"
    return {"name": name, "in": place, "required": needed, "schema": schema, "description": description}


def header(description: str, schema: Json | None = None) -> Json:
    """Describe a header of an answer."""
    return {"description": description, "schema": schema or {"type": "string"}}


def problems(*codes: str) -> Json:
    """Describe the errors of an address."""
    described: Json = {}
    for code in ("401", *codes, "500", "503"):
        described[code] = {
            "description": REASONS[code],
            "content": {"application/problem+json": {"schema": ref("HttpProblem")}},
        }
        if code in {"503", "507"}:
            described[code]["headers"] = {"Retry-After": header("Seconds", WHOLE)}
    return dict(sorted(described.items()))


def operation(name: str, summary: str, answer: str, *codes: str, **more: Any) -> Json:
    """Describe a request that is answered with JSON."""
    good = {"description": "The answer", "content": {"application/json": {"schema": ref(answer)}}}
    return {"operationId": name, "summary": summary, **more, "responses": {"200": good} | problems(*codes)}


NAME: Json = {"type": "string", "minLength": 1, "maxLength": wire.MAX_NAME}
SESSION = [
    parameter("machine_id", "path", NAME, "The machine id of the record, percent-encoded"),
    parameter("id", "path", {"type": "string", "format": "uuid"}, "The id of the record"),
]
LIMIT = parameter(
    "limit", "query", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}, "At most so many"
)
ENCODINGS = ["zstd", "gzip", "identity"]
ENCODING = parameter("Content-Encoding", "header", {"enum": ENCODINGS, "default": "identity"}, "Of the body")
PUSH_ENCODING = parameter(
    "Content-Encoding",
    "header",
    {"enum": [*ENCODINGS, ENCODING_WITH_DICTIONARY], "default": "identity"},
    "Of the body; `dcz`, with what the device pushed last as the dictionary, where `dictionary` is a feature",
)
USER = parameter("user", "query", {"type": "string"}, "Whose sessions; only for a token with the scope admin")
DEVICE = {"type": "string", "format": "uuid"}
RANGE = parameter("Range", "header", {"type": "string"}, "One range of bytes; several get the whole")


def stream() -> Json:
    """Describe the request for the bytes of a stream."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    lines = {wire.RECORDS: binary, "*/*": binary}
    headers = {
        "ETag": header("Of this state of the stream, for If-Range"),
        "Accept-Ranges": header("`bytes`"),
        wire.GENERATION_HEADER: header("The generation that the bytes are of", WHOLE),
        "X-Content-Type-Options": header("`nosniff`"),
        "Content-Security-Policy": header("So that no browser runs a side file"),
    }
    ranged = headers | {"Content-Range": header("Which bytes of how many")}
    described = problems("400", "403", "404", "416")
    described["416"]["headers"] = ranged
    return {
        "operationId": "stream",
        "summary": "The bytes of a stream",
        "parameters": [
            *SESSION,
            parameter("name", "path", NAME, "The stream's name, percent-encoded; a `/` in it may stay"),
            parameter("generation", "query", {**WHOLE, "maximum": wire.MAX_GENERATION}, "Default: the current one"),
            USER,
            RANGE,
            parameter("If-Range", "header", {"type": "string"}, "Send the whole unless the ETag is still this"),
        ],
        "responses": {
            "200": {"description": "All of it", "headers": headers, "content": lines},
            "206": {"description": "The range", "headers": ranged, "content": lines},
        }
        | described,
    }


def push() -> Json:
    """Describe a push."""
    return operation(
        "push",
        "Store session records and transcript bytes",
        "PushAnswer",
        "400",
        "403",
        "408",
        "413",
        "415",
        "507",
        parameters=[
            parameter(wire.BATCH_HEADER, "header", {"type": "string", "maxLength": 200}, "Repeated in the answer"),
            parameter(wire.DEVICE_HEADER, "header", DEVICE, "The device that pushes", required=True),
            PUSH_ENCODING,
        ],
        requestBody={
            "required": True,
            "description": "One Push as JSON a line; the answer has one result for each, in order",
            "content": {"application/x-ndjson": {"schema": {"type": "string"}, "x-line-schema": ref("Push")}},
        },
    )


def erasure_of(name: str, summary: str, where: list[Json]) -> Json:
    """Describe a request that erases a session."""
    device = parameter(wire.DEVICE_HEADER, "header", DEVICE, "The device; not needed by a token with the scope admin")
    return operation(name, summary, "Receipt", "400", "403", "404", "507", parameters=[*where, device, USER])


def paths() -> Json:
    """Describe every address."""
    one = "/v1/sessions/{machine_id}/{id}"
    asker = parameter(wire.DEVICE_HEADER, "header", DEVICE, "With the device's own token: answer with its last_batch")
    about = operation(
        "about", "What this endpoint is", "About", "400", security=[{}, {"token": []}], parameters=[asker]
    )
    text = {"type": "string"}
    filters = [
        parameter("tool", "query", text, "Only of this tool"),
        parameter("machine_id", "query", text, "Only of this machine"),
        parameter("since", "query", {"type": "string", "format": "date-time"}, "Only ongoing, or ended then or later"),
        parameter("text", "query", text, "Only with this in the working directory, whatever its case"),
        parameter("id", "query", text, "Only ids that begin with this"),
        parameter(
            "until", "query", {"type": "string", "format": "date-time"}, "Only sessions that started before that time"
        ),
        parameter("branch", "query", text, "Only of this git branch"),
        parameter("model", "query", text, "Only with this in the name of the model, whatever its case"),
        parameter("gone", "query", {"const": "true"}, "Only sessions whose tool deleted its files"),
        parameter("sort", "query", {"enum": ["started", "active"], "default": "started"}, "The order, newest first"),
        parameter("after", "query", text, "`next` of the page before"),
        USER,
    ]
    question = {"required": True, "content": {"application/json": {"schema": ref("OffsetsRequest")}}}
    since = parameter("since", "query", text, "`next` of the answer before; without it, from the beginning")
    offsets = operation(
        "offsets",
        "Positions of streams",
        "OffsetsAnswer",
        "400",
        "403",
        "408",
        "413",
        "415",
        parameters=[ENCODING],
        requestBody=question,
    )
    enrol = operation(
        "enrol",
        "Get a token for a device, with the code of an invitation instead of a token",
        "EnrolAnswer",
        "400",
        "403",
        "408",
        "413",
        "415",
        security=[{}],
        parameters=[ENCODING],
        requestBody={"required": True, "content": {"application/json": {"schema": ref("EnrolRequest")}}},
    )
    return {
        "/v1": {"get": about},
        "/v1/push": {"post": push()},
        "/v1/enrol": {"post": enrol},
        "/v1/offsets": {"post": offsets},
        "/v1/changes": {
            "get": operation(
                "changes", "What changed", "ChangesAnswer", "400", "403", "410", parameters=[since, LIMIT, USER]
            )
        },
        "/v1/forgotten": {
            "get": operation(
                "forgotten",
                "List sessions that were erased",
                "ForgottenAnswer",
                "400",
                "403",
                "410",
                parameters=[since, LIMIT, parameter(wire.DEVICE_HEADER, "header", DEVICE, "The device")],
            )
        },
        "/v1/sessions": {
            "get": operation("sessions", "List sessions", "SessionsAnswer", "400", "403", parameters=[*filters, LIMIT])
        },
        "/v1/unlisted": {
            "get": operation(
                "unlisted",
                "List sessions that have streams but no record",
                "UnlistedAnswer",
                "400",
                "403",
                parameters=[parameter("after", "query", text, "`next` of the previous page"), LIMIT, USER],
            )
        },
        one: {
            "get": operation(
                "session", "One session", "StoredSession", "400", "403", "404", parameters=[*SESSION, USER]
            ),
            "delete": erasure_of("forget", "Erase a session of one machine", SESSION),
        },
        "/v1/sessions/{id}": {
            "delete": erasure_of("forgetEverywhere", "Erase a session of all of the user's machines", SESSION[1:])
        },
        f"{one}/streams": {
            "get": operation(
                "streams",
                "The streams of a session",
                "StreamsAnswer",
                "400",
                "403",
                "404",
                parameters=[*SESSION, parameter("after", "query", text, "`next` of the previous page"), USER],
            )
        },
        f"{one}/streams/{{name}}": {"get": stream()},
    }


def schemas() -> Json:
    """Return the schemas of every struct of the protocol, made from the code."""
    _, made = msgspec.json.schema_components(ANSWERS, ref_template="#/components/schemas/{name}")
    for name in ("started_at", "ended_at"):
        described = made["Session"]["properties"][name]
        for each in described.get("anyOf", [described]):
            if each["type"] == "string":
                each["format"] = "date-time"
    made["Session"]["properties"]["message_count"] |= {"minimum": 0, "maximum": 2**31 - 1}
    made["Problem"]["properties"]["type"]["enum"] = list(PROBLEMS)
    made["Push"] = {
        "description": "A line of a push.",
        "oneOf": [ref("PushSession"), ref("PushAppend"), ref("PushGeneration")],
        "discriminator": {
            "propertyName": "op",
            "mapping": {
                each.__struct_config__.tag: f"#/components/schemas/{each.__name__}"
                for each in (wire.PushSession, wire.PushAppend, wire.PushGeneration)
            },
        },
    }
    for each in made.values():
        each["description"] = " ".join(each.get("description", "").split())
    return made


def document() -> Json:
    """Make the whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sessiond sync protocol",
            "version": str(wire.PROTOCOL),
            "description": "How machines push sessions of AI coding tools to an endpoint, and find them again; in words"
            " in protocol.md.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths(),
        "components": {"schemas": schemas(), "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def text() -> str:
    """Write the document as it is in the file."""
    return json.dumps(document(), indent=2) + "\n"


if __name__ == "__main__":
    PLACE.write_text(text())
    print(f"wrote {PLACE}", file=sys.stderr)
