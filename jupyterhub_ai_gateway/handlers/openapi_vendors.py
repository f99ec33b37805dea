"""The part of our OpenAPI document that is about paths of Cohere's and Mistral's own SDKs."""

from __future__ import annotations

from .openapi_media import MediaPath
from .schemas import BOOLEAN, INTEGER, MODEL, NUMBER, STRING, Json, array, described, thing

_ANY: Json = {"type": "object", "additionalProperties": True}
_USED: Json = thing("", billed_units=_ANY, tokens=_ANY, cached_tokens=NUMBER)

PATHS: tuple[MediaPath, ...] = (
    MediaPath(
        "/v2/chat",
        "createCohereChat",
        "chat:create",
        "Chat in Cohere's format",
        "Cohere's API of version 2, for its SDKs. It reaches every model; requests are translated for "
        "those whose provider does not speak it.",
        (
            thing(
                "model messages",
                model=MODEL,
                messages=described({**array(thing("role", role=STRING)), "minItems": 1}, "What was said."),
                stream=described(BOOLEAN, "Send the answer as it is made, as events.", default=False),
                max_tokens=described(INTEGER, "The longest answer.", minimum=1),
                tools=described({"type": "array"}, "Functions that the model may ask for."),
                response_format=described(thing("type", type=STRING), "text or json_object."),
                thinking=described(thing("type", type=STRING), "enabled or disabled."),
                documents=described({"type": "array"}, "What the answer is to be made of."),
            ),
            {
                "question": {
                    "summary": "A question",
                    "value": {
                        "model": "chat",
                        "messages": [{"role": "user", "content": "Why is the sky blue?"}],
                    },
                }
            },
        ),
        None,
        {
            "application/json": {
                "schema": thing(
                    "id finish_reason message", id=STRING, finish_reason=STRING, message=_ANY, usage=_USED
                )
            },
            "text/event-stream": {
                "schema": described(STRING, "Events, up to message-end, which has the usage.")
            },
        },
    ),
    MediaPath(
        "/v2/embed",
        "createCohereEmbedding",
        "embeddings:create",
        "Embed in Cohere's format",
        "Turn texts into vectors, as Cohere's SDKs ask for them. It reaches every model that embeds.",
        (
            thing(
                "model input_type",
                model=MODEL,
                texts=described(array(STRING), "The texts, unless there are inputs."),
                inputs=described({"type": "array"}, "Texts, and pictures where the model takes them."),
                input_type=described(STRING, "Such as search_document or search_query."),
                embedding_types=described(array(STRING), "float, base64, or what the model has besides."),
                output_dimension=described(INTEGER, "The length of the vectors.", minimum=1),
            ),
            {
                "two": {
                    "summary": "Two texts",
                    "value": {
                        "model": "embeddings",
                        "input_type": "search_document",
                        "texts": ["The cat sat on the mat.", "A feline rests on a rug."],
                    },
                }
            },
        ),
        None,
        {
            "application/json": {
                "schema": thing("id embeddings", id=STRING, embeddings=_ANY, texts=array(STRING), meta=_ANY)
            }
        },
    ),
    MediaPath(
        "/v1/fim/completions",
        "fillIn",
        "completions:create",
        "Fill in",
        "Write what is between a prompt and a suffix, as Mistral's SDK asks for it. Only its models do.",
        (
            thing(
                "model prompt",
                model=MODEL,
                prompt=described(STRING, "What comes before."),
                suffix=described(STRING, "What comes after."),
                max_tokens=described(INTEGER, "The longest answer.", minimum=1),
                stream=described(BOOLEAN, "Send the answer as it is made, as events.", default=False),
            ),
            {
                "code": {
                    "summary": "A function",
                    "value": {"model": "codestral", "prompt": "def double(x):", "suffix": "    return y"},
                }
            },
        ),
        None,
        {
            "application/json": {"schema": thing("id choices", id=STRING, choices=array(_ANY), usage=_ANY)},
            "text/event-stream": {"schema": described(STRING, "Chunks, of which the last has the usage.")},
        },
    ),
)
