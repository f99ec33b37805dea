"""The part of our OpenAPI document that is about images, sound, moderations and rankings."""

from __future__ import annotations

from typing import NamedTuple

from .schemas import INTEGER, MODEL, NUMBER, STRING, Json, array, described, thing

_FILE: Json = {"type": "string", "format": "binary"}
_STREAM: Json = described({"type": "boolean"}, "Send the answer as events.")
_EVENTS: Json = {
    "text/event-stream": {"schema": described(STRING, "Events, of which the last has the usage.")}
}
_ANY: Json = {"type": "object", "additionalProperties": True}
_SOUND: Json = {"audio/*": {"schema": _FILE}}
_FORM_TEXT = (
    "A form with a file, `multipart/form-data`, which passes to the provider while it arrives. "
    "Put `model` before the file."
)


class MediaPath(NamedTuple):
    """A path that answers POST. `body` and `form` are what it takes, None where it does not take that."""

    path: str
    name: str
    scope: str
    summary: str
    text: str
    body: tuple[Json, Json] | None
    form: Json | None
    answers: Json


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


_IMAGES = thing("data", created=INTEGER, data=array(thing("", b64_json=STRING, url=STRING)), usage=_ANY)
_PROMPT = described(STRING, "What to show.")
_TRANSCRIPT: Json = {
    **_json(thing("text", text=STRING, usage=_ANY)),
    "text/plain": {"schema": STRING},
    **_EVENTS,
}
_HEARD = thing(
    "file model",
    model=MODEL,
    file=_FILE,
    language=described(STRING, "Such as en."),
    prompt=described(STRING, "What came before, or how names are spelled."),
    response_format=described(STRING, "json, text, srt, vtt, verbose_json."),
    temperature=NUMBER,
    stream=_STREAM,
)
_EDIT = thing("image prompt", model=MODEL, image=_FILE, prompt=_PROMPT, mask=_FILE, n=INTEGER, size=STRING)

PATHS: tuple[MediaPath, ...] = (
    MediaPath(
        "/v1/images/generations",
        "createImage",
        "images:create",
        "Make images",
        "Make images of a text.",
        (
            thing("prompt", model=MODEL, prompt=_PROMPT, n=INTEGER, size=STRING, stream=_STREAM),
            {"cat": {"summary": "An image", "value": {"model": "painter", "prompt": "A cat that reads"}}},
        ),
        None,
        {**_json(_IMAGES), **_EVENTS},
    ),
    MediaPath(
        "/v1/images/edits",
        "editImage",
        "images:create",
        "Edit images",
        f"Change images as a text says. {_FORM_TEXT} JSON with data URLs goes as well.",
        (
            thing("prompt images", model=MODEL, prompt=_PROMPT, images=array(thing("", image_url=STRING))),
            {
                "blue": {
                    "summary": "Another colour",
                    "value": {
                        "model": "painter",
                        "prompt": "Make it blue",
                        "images": [{"image_url": "data:image/png;base64,iVBORw0KGgo="}],
                    },
                }
            },
        ),
        _EDIT,
        {**_json(_IMAGES), **_EVENTS},
    ),
    MediaPath(
        "/v1/images/variations",
        "varyImage",
        "images:create",
        "Vary an image",
        f"Make images like another one. {_FORM_TEXT}",
        None,
        thing("image", model=MODEL, image=_FILE, n=INTEGER, size=STRING),
        _json(_IMAGES),
    ),
    MediaPath(
        "/v1/audio/speech",
        "createSpeech",
        "audio:create",
        "Speak",
        "Read a text aloud. The sound comes as it is made.",
        (
            thing(
                "model input voice",
                model=MODEL,
                input=described(STRING, "What to say."),
                voice={"anyOf": [STRING, {"type": "object"}]},
                response_format=described(STRING, "mp3, opus, aac, flac, wav, pcm."),
                speed=NUMBER,
            ),
            {
                "hello": {
                    "summary": "A greeting",
                    "value": {"model": "speaker", "input": "Good morning", "voice": "alloy"},
                }
            },
        ),
        None,
        {**_SOUND, **_EVENTS},
    ),
    MediaPath(
        "/v1/audio/transcriptions",
        "createTranscription",
        "audio:create",
        "Transcribe",
        f"Write down what is said in a recording. {_FORM_TEXT}",
        None,
        _HEARD,
        _TRANSCRIPT,
    ),
    MediaPath(
        "/v1/audio/translations",
        "createTranslation",
        "audio:create",
        "Translate a recording",
        f"Write down in English what is said. {_FORM_TEXT}",
        None,
        _HEARD,
        _TRANSCRIPT,
    ),
    MediaPath(
        "/v1/moderations",
        "createModeration",
        "moderations:create",
        "Moderate",
        "Say of texts and images whether they are harmful, and how.",
        (
            thing("input", model=MODEL, input={"anyOf": [STRING, {"type": "array"}]}),
            {"text": {"summary": "A text", "value": {"model": "judge", "input": "I could eat a horse"}}},
        ),
        None,
        _json(thing("results", id=STRING, model=STRING, results=array(_ANY))),
    ),
    MediaPath(
        "/v1/rerank",
        "rerank",
        "rerank:create",
        "Rank documents",
        "Order documents by how well they answer a question. Also at `/v2/rerank`, for Cohere's SDK.",
        (
            thing(
                "query documents",
                model=MODEL,
                query=STRING,
                documents={"type": "array"},
                top_n=described(INTEGER, "How many of the best to return; all by default.", minimum=1),
            ),
            {
                "fruit": {
                    "summary": "Two documents",
                    "value": {"model": "ranker", "query": "red fruit", "documents": ["sky", "cherry"]},
                }
            },
        ),
        None,
        _json(
            thing(
                "results",
                results=array(thing("index relevance_score", index=INTEGER, relevance_score=NUMBER)),
            )
        ),
    ),
)


def request_body(path: MediaPath) -> Json:
    """Return what a request holds, as JSON or as a form."""
    content: Json = {}
    if path.body is not None:
        content["application/json"] = {"schema": path.body[0], "examples": path.body[1]}
    if path.form is not None:
        content["multipart/form-data"] = {"schema": path.form}
    return {"required": True, "content": content}
