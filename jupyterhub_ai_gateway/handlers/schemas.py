"""What goes in and comes out, as JSON Schema, with examples: the components of our OpenAPI document.

Requests list the fields that people look up; what is not listed reaches the provider as it came.
"""

from __future__ import annotations

from typing import Any

from ..errors import (
    BodyTooLarge,
    Draining,
    Fault,
    Forbidden,
    LimitFault,
    NotFound,
    RequestFault,
    Unauthenticated,
    UpstreamTimeout,
    UpstreamUnreachable,
)

Json = dict[str, Any]

STRING: Json = {"type": "string"}
INTEGER: Json = {"type": "integer"}
NUMBER: Json = {"type": "number"}
BOOLEAN: Json = {"type": "boolean"}
MODEL: Json = {"type": "string", "description": "An endpoint of this gateway; GET /v1/models lists yours."}


def described(schema: Json, text: str, **more: Any) -> Json:
    """Return the schema with a description, and whatever else is said of it."""
    return {**schema, "description": text, **more}


def nullable(*names: str) -> Json:
    """Return the schema of one of these types, or null."""
    return {"type": [*names, "null"]}


def ref(name: str) -> Json:
    """Point to a schema of ours."""
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Json) -> Json:
    """Return the schema of a list."""
    return {"type": "array", "items": items}


def thing(required: str, /, **properties: Json) -> Json:
    """Return the schema of an object with these properties and any others."""
    schema: Json = {"type": "object", "properties": properties, "additionalProperties": True}
    return {**schema, "required": required.split()} if required else schema


_SAMPLING: Json = {
    "temperature": described(NUMBER, "0 is the most predictable.", minimum=0, maximum=2),
    "top_p": described(NUMBER, "Choose among the likeliest tokens only.", minimum=0, maximum=1),
    "stop": described({"anyOf": [STRING, array(STRING)]}, "Where the answer ends, at the latest."),
    "seed": described(INTEGER, "The same answer again, as far as the provider can."),
    "n": described(INTEGER, "How many answers.", minimum=1),
    "user": described(STRING, "Overwritten with a pseudonym before it reaches the provider."),
}
_STREAMING: Json = {
    "stream": described(BOOLEAN, "Send the answer as it is made, as server-sent events.", default=False),
    "stream_options": described(
        thing("", include_usage=described(BOOLEAN, "End the stream with a chunk that counts its tokens.")),
        "Only with stream.",
    ),
}
_TOOL_CALL = thing(
    "function", id=STRING, type=STRING, function=thing("name arguments", name=STRING, arguments=STRING)
)

SCHEMAS: Json = {
    "ResponsesRequest": thing(
        "model input",
        model=MODEL,
        input=described(
            {"anyOf": [STRING, array({"type": "object"})]}, "A text, or the whole conversation as items."
        ),
        instructions=STRING,
        max_output_tokens=INTEGER,
        stream=described(BOOLEAN, "Send the answer as events."),
        tools=array({"type": "object"}),
    ),
    "Message": thing(
        "role",
        role={"type": "string", "examples": ["system", "developer", "user", "assistant", "tool"]},
        content={"anyOf": [STRING, array(thing("type", type=STRING)), {"type": "null"}]},
        name=STRING,
        tool_calls=array(_TOOL_CALL),
        tool_call_id=STRING,
    ),
    "Tool": thing(
        "type function",
        type={"type": "string", "examples": ["function"]},
        function=thing("name", name=STRING, description=STRING, parameters={"type": "object"}),
    ),
    "ChatRequest": thing(
        "model messages",
        model=MODEL,
        messages=described({**array(ref("Message")), "minItems": 1}, "The conversation so far."),
        **_STREAMING,
        max_completion_tokens=described(INTEGER, "The longest answer, reasoning included.", minimum=1),
        max_tokens=described(INTEGER, "The older name of max_completion_tokens.", minimum=1),
        tools=described(array(ref("Tool")), "Functions that the model may ask for."),
        tool_choice=described(
            {"anyOf": [STRING, {"type": "object"}]}, "auto, none, required, or one tool."
        ),
        response_format=described(thing("type", type=STRING), "text, json_object, or json_schema."),
        reasoning_effort=described(STRING, "How long to think, where the model can: low, medium, high."),
        **_SAMPLING,
    ),
    "ChatResponse": thing(
        "id object model choices",
        id=STRING,
        object={"const": "chat.completion"},
        created=INTEGER,
        model=STRING,
        choices=array(
            thing("index message", index=INTEGER, message=ref("Message"), finish_reason=nullable("string"))
        ),
        usage=ref("Usage"),
    ),
    "ChatChunk": thing(
        "id object model choices",
        id=STRING,
        object={"const": "chat.completion.chunk"},
        created=INTEGER,
        model=STRING,
        choices=array(
            thing("index delta", index=INTEGER, delta={"type": "object"}, finish_reason=nullable("string"))
        ),
        usage={"anyOf": [ref("Usage"), {"type": "null"}]},
    ),
    "MessagesRequest": thing(
        "model messages",
        model=MODEL,
        messages=described({**array(thing("role content", role=STRING)), "minItems": 1}, "What was said."),
        max_tokens=described(INTEGER, "The longest answer.", minimum=1),
        system=described({"anyOf": [STRING, {"type": "array"}]}, "The system prompt."),
        stream=described(BOOLEAN, "Send the answer as it is made, as server-sent events.", default=False),
        tools=described({"type": "array"}, "Functions that the model may ask for."),
        metadata=described({"type": "object"}, "Its user_id is overwritten with a pseudonym."),
    ),
    "MessagesResponse": thing(
        "id type role content",
        id=STRING,
        type={"const": "message"},
        role={"const": "assistant"},
        content={"type": "array"},
        stop_reason=nullable("string"),
        usage={"type": "object"},
    ),
    "MessagesEvent": thing("type", type=STRING),
    "GenerateContentRequest": thing(
        "contents",
        contents=described({**array(thing("parts", role=STRING)), "minItems": 1}, "What was said."),
        systemInstruction=described({"type": "object"}, "The system prompt, as contents are."),
        generationConfig=described({"type": "object"}, "How the answer is made."),
        tools=described({"type": "array"}, "Functions that the model may ask for."),
    ),
    "GenerateContentResponse": thing(
        "",
        candidates={"type": "array"},
        promptFeedback={"type": "object"},
        usageMetadata={"type": "object"},
        modelVersion=STRING,
    ),
    "CompletionRequest": thing(
        "model prompt",
        model=MODEL,
        prompt=described({"anyOf": [STRING, {"type": "array"}]}, "The text to go on with."),
        **_STREAMING,
        max_tokens=described(INTEGER, "The longest answer.", minimum=1),
        suffix=described(STRING, "What comes after the answer."),
        echo=described(BOOLEAN, "Repeat the prompt in front of the answer."),
        logprobs=described(INTEGER, "How many likely tokens to tell of, each time."),
        **_SAMPLING,
    ),
    "CompletionResponse": thing(
        "id object model choices",
        id=STRING,
        object={"const": "text_completion"},
        created=INTEGER,
        model=STRING,
        choices=array(thing("index text", index=INTEGER, text=STRING, finish_reason=nullable("string"))),
        usage=ref("Usage"),
    ),
    "EmbeddingRequest": thing(
        "model input",
        model=MODEL,
        input=described(
            {"anyOf": [STRING, {"type": "array"}]}, "A text, a list of texts, or lists of token numbers."
        ),
        encoding_format=described(
            STRING,
            "float for lists of numbers, base64 for packed little-endian float32.",
            enum=["float", "base64"],
        ),
        dimensions=described(INTEGER, "Shorter vectors, where the model can.", minimum=1),
        user=_SAMPLING["user"],
    ),
    "EmbeddingResponse": thing(
        "object data model",
        object={"const": "list"},
        data=array(
            thing(
                "index embedding",
                object={"const": "embedding"},
                index=INTEGER,
                embedding={"anyOf": [array(NUMBER), STRING]},
            )
        ),
        model=STRING,
        usage=ref("Usage"),
    ),
    "Usage": thing(
        "", prompt_tokens=INTEGER, completion_tokens=nullable("integer"), total_tokens=nullable("integer")
    ),
    "Model": thing(
        "id object",
        id=MODEL,
        object={"const": "model"},
        created=INTEGER,
        owned_by=described(STRING, "The provider."),
    ),
    "ModelList": thing("object data", object={"const": "list"}, data=array(ref("Model"))),
    "Error": thing(
        "error",
        error=thing(
            "message type code",
            message=described(STRING, "What is wrong and what to do, for people."),
            type=STRING,
            param=described(nullable("string"), "The field at fault."),
            code=described(STRING, "Stable, for programs."),
        ),
        detail=described(STRING, "The message again, for clients that look for it here."),
    ),
    "Health": thing(
        "status version uptime",
        status={"const": "OK"},
        version=STRING,
        uptime=described(NUMBER, "Seconds."),
        ready=BOOLEAN,
        configuration=thing(
            "loaded_at endpoints last_error",
            loaded_at={"type": "string", "format": "date-time"},
            endpoints=INTEGER,
            last_error=described(nullable("string"), "Why the newest configuration is not in use."),
        ),
    ),
}

REQUEST_ID: Json = {
    "x-request-id": {"description": "Name it when you ask for help.", "schema": STRING},
}
LIMIT_HEADERS: Json = {
    "x-ratelimit-limit-requests": {"description": "Calls per period.", "schema": INTEGER},
    "x-ratelimit-remaining-requests": {"description": "Calls left now.", "schema": INTEGER},
    "x-ratelimit-reset-requests": {
        "description": "Until all are there again, as in 1m30s.",
        "schema": STRING,
    },
}
_RETRY: Json = {
    "Retry-After": {"description": "Seconds to wait.", "schema": INTEGER},
    "retry-after-ms": {"description": "The same in milliseconds.", "schema": INTEGER},
}


def _failure(text: str, fault: Fault, headers: Json | None = None) -> Json:
    error = {"message": fault.public, "type": fault.kind, "param": fault.param, "code": fault.slug}
    content = {"schema": ref("Error"), "example": {"error": error, "detail": fault.public}}
    return {
        "description": text,
        "headers": {**REQUEST_ID, **(headers or {})},
        "content": {"application/json": content},
    }


FAILURES: dict[str, Json] = {
    "400": _failure(
        "The request cannot be served as it stands.",
        RequestFault("messages is missing.", param="messages"),
    ),
    "401": _failure(
        "No token, or one that the Hub does not know.",
        Unauthenticated("The JupyterHub does not know this API key."),
        {"WWW-Authenticate": {"description": "Bearer", "schema": STRING}},
    ),
    "403": _failure(
        "The token lacks a scope; the message names it.",
        Forbidden("This needs the scope custom:ai-gateway:chat:create, which this token lacks."),
    ),
    "404": _failure(
        "No such model for you.",
        NotFound("There is no model chta. Did you mean chat?", slug="model_not_found", param="model"),
    ),
    "413": _failure("The body is too long.", BodyTooLarge("The body is longer than 100 MiB.")),
    "429": _failure(
        "You have used what you may, for now.",
        LimitFault("You may call chat 10 times per minute. Try again in 6 seconds."),
        {**_RETRY, **LIMIT_HEADERS},
    ),
    "502": _failure(
        "The provider failed, or cannot be reached. A provider's own refusal keeps its status.",
        UpstreamUnreachable("The provider of chat cannot be reached."),
    ),
    "503": _failure(
        "The gateway is about to stop, or cannot ask the Hub who you are.",
        Draining("The gateway is about to stop. Try again in a moment."),
        _RETRY,
    ),
    "504": _failure("The provider took too long.", UpstreamTimeout("The provider of chat took too long.")),
}
"""Answers by status, each with an example of the one error object."""
