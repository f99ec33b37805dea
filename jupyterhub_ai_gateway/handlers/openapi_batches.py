"""The part of our OpenAPI document that is about files and batches."""

from __future__ import annotations

from .openapi_usage import UsagePath
from .schemas import INTEGER, STRING, Json, described, nullable, thing

SCOPE = "batches:create"

_ANYTHING: Json = {"type": "object", "additionalProperties": True}
_ID: Json = {"name": "id", "in": "path", "required": True, "description": "Its name.", "schema": STRING}
_FILE = thing(
    "id object bytes created_at filename purpose",
    id=STRING,
    object=STRING,
    bytes=INTEGER,
    created_at=INTEGER,
    expires_at=INTEGER,
    filename=STRING,
    purpose=STRING,
)
_BATCH = thing(
    "id object endpoint input_file_id completion_window status created_at",
    id=STRING,
    object=STRING,
    endpoint=STRING,
    input_file_id=STRING,
    completion_window=STRING,
    status=STRING,
    created_at=INTEGER,
    output_file_id=nullable("string"),
    error_file_id=nullable("string"),
    request_counts=_ANYTHING,
)
_PAGE = thing("object data has_more", object=STRING, data={"type": "array"}, has_more={"type": "boolean"})

UPLOAD: Json = thing(
    "file purpose",
    file={"type": "string", "contentMediaType": "application/octet-stream"},
    purpose={"enum": ["batch", "user_data"]},
)
NEW_BATCH: Json = thing(
    "input_file_id endpoint completion_window",
    input_file_id=STRING,
    endpoint=described(STRING, "The path that all lines are for, such as /v1/chat/completions."),
    completion_window=described(STRING, "Such as 24h."),
    metadata=_ANYTHING,
)
NEW_BATCH_EXAMPLE: Json = {
    "summary": "A day's time",
    "value": {
        "input_file_id": "file-0f3c",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    },
}


def _query(name: str, text: str, schema: Json = STRING) -> Json:
    return {"name": name, "in": "query", "description": text, "schema": schema}


_PAGING = (
    _query("after", "The last one of the page before."),
    _query("limit", "How many at most.", INTEGER),
)

PATHS = (
    UsagePath(
        "post",
        "/v1/files",
        "createFile",
        SCOPE,
        "Upload a file",
        "A file of lines for a batch, as a form.",
        (),
        _FILE,
    ),
    UsagePath(
        "get",
        "/v1/files",
        "listFiles",
        SCOPE,
        "List files",
        "Your own, newest first.",
        (
            *_PAGING,
            _query("purpose", "Only those for this."),
            _query("order", "`desc` (the default) or `asc`.", {"enum": ["asc", "desc"]}),
        ),
        _PAGE,
    ),
    UsagePath(
        "get",
        "/v1/files/{id}",
        "retrieveFile",
        SCOPE,
        "Look up a file",
        "One of yours.",
        (_ID,),
        _FILE,
    ),
    UsagePath(
        "delete",
        "/v1/files/{id}",
        "deleteFile",
        SCOPE,
        "Delete a file",
        "A batch that reads it goes on: it has a copy of its own.",
        (_ID,),
        _ANYTHING,
    ),
    UsagePath(
        "get",
        "/v1/files/{id}/content",
        "downloadFile",
        SCOPE,
        "Download a file",
        "What is in it.",
        (_ID,),
        STRING,
        media_type="application/octet-stream",
    ),
    UsagePath(
        "post",
        "/v1/batches",
        "createBatch",
        SCOPE,
        "Begin a batch",
        "Answer every line of a file, when there is time for it. Each line counts as a request of yours.",
        (),
        _BATCH,
    ),
    UsagePath(
        "get",
        "/v1/batches",
        "listBatches",
        SCOPE,
        "List batches",
        "Your own, newest first.",
        _PAGING,
        _PAGE,
    ),
    UsagePath(
        "get",
        "/v1/batches/{id}",
        "retrieveBatch",
        SCOPE,
        "Look up a batch",
        "How far it is, and where its answers are.",
        (_ID,),
        _BATCH,
    ),
    UsagePath(
        "post",
        "/v1/batches/{id}/cancel",
        "cancelBatch",
        SCOPE,
        "Cancel a batch",
        "No further line is begun; what is answered stays.",
        (_ID,),
        _BATCH,
    ),
)
