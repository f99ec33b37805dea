"""Images, sound, moderations and rankings as a strict vendor serves them. No input or output."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from typing import Any

from .vendor import CREATED, Complaint, parse_strictly, sse, words

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20
MP3 = b"ID3\x04\x00" + bytes(range(256)) * 400
IMAGE_USAGE = {
    "input_tokens": 50,
    "output_tokens": 272,
    "total_tokens": 322,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
    "output_tokens_details": {"text_tokens": 0, "image_tokens": 272},
}
HEARD_USAGE = {
    "type": "tokens",
    "input_tokens": 14,
    "output_tokens": 45,
    "total_tokens": 59,
    "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
}
SPOKEN_USAGE = {"input_tokens": 9, "output_tokens": 80, "total_tokens": 89}
OPERATIONS = frozenset(
    {
        *("images/generations", "images/edits", "images/variations"),
        *("audio/speech", "audio/transcriptions", "audio/translations", "moderations", "rerank"),
    }
)
FORMS = {
    "images/edits": {"image", "image[]"},
    "images/variations": {"image"},
    "audio/transcriptions": {"file"},
    "audio/translations": {"file"},
}
"""What is asked by a form, and how the file may be called."""
KNOWN = re.compile(
    r"model|prompt|n|size|quality|background|output_format|response_format|stream|user|mask|language|"
    r"temperature|timestamp_granularities\[\]|include\[\]|safety_identifier|image|image\[\]|file"
)


@dataclass
class Part:
    """A part of a form."""

    name: str
    filename: str | None
    content_type: str | None
    content: bytes


@dataclass
class Answer:
    """What is answered: bytes, or pieces that are chunks."""

    headers: list[tuple[str, str]]
    body: bytes | list[bytes] = field(repr=False)

    @classmethod
    def json(cls, document: Any) -> Answer:
        return cls([("Content-Type", "application/json")], json.dumps(document).encode())

    @classmethod
    def events(cls, *events: Any) -> Answer:
        return cls([("Content-Type", "text/event-stream; charset=utf-8")], sse(*events))


def is_form(content_type: str | None) -> bool:
    return (content_type or "").startswith("multipart/form-data")


def parts_of(content_type: str | None, body: bytes) -> list[Part]:
    """Take a form apart, to the letter; Complaint when a byte is out of place."""
    found = re.fullmatch(r"multipart/form-data; boundary=([A-Za-z0-9]{10,70})", content_type or "")
    if found is None:
        raise Complaint(400, "The form has no boundary.")
    line = b"--" + found[1].encode()
    if not body.startswith(line + b"\r\n") or not body.endswith(b"\r\n" + line + b"--\r\n"):
        raise Complaint(400, "The form does not begin and end with its boundary.")
    inner = body[len(line) + 2 : -len(line) - 6]
    return [_part(piece) for piece in inner.split(b"\r\n" + line + b"\r\n")]


def _part(piece: bytes) -> Part:
    head, separator, content = piece.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    disposition = re.fullmatch(
        r'Content-Disposition: form-data; name="([^"\\]+)"(?:; filename="([^"\\]*)")?', lines[0]
    )
    kind = re.fullmatch(r"Content-Type: (\S+)", lines[1]) if len(lines) > 1 else None
    if not separator or disposition is None or len(lines) > 2 or (len(lines) > 1 and kind is None):
        raise Complaint(400, "A part of the form has a head that cannot be read.")
    return Part(disposition[1], disposition[2], None if kind is None else kind[1], content)


def check_form(what: str, content_type: str | None, body: bytes) -> list[Part]:
    """Complain about what a vendor would."""
    parts = parts_of(content_type, body)
    names = [part.name for part in parts]
    for part in parts:
        if KNOWN.fullmatch(part.name) is None:
            raise Complaint(400, f"Unrecognized request argument supplied: {part.name}")
        if part.name in ("model", "user") and (part.filename is not None or not part.content):
            raise Complaint(400, f"Invalid type for '{part.name}'.")
    if names.count("model") != 1:
        raise Complaint(400, "you must provide a model parameter")
    files = [part for part in parts if part.name in FORMS[what]]
    if not files or any(not part.filename for part in files):
        raise Complaint(400, "Missing required parameter: a file.")
    return parts


def fields_of(content_type: str | None, body: bytes) -> dict[str, Any]:
    """Return the fields of a request: those of its form, as text, or of its JSON."""
    if not is_form(content_type):
        return parse_strictly(body)
    return {part.name: part.content.decode("latin-1") for part in parts_of(content_type, body)}


def answer_of(what: str, content_type: str | None, body: bytes, text: str) -> Answer:
    """Make the usual answer."""
    fields = fields_of(content_type, body)
    is_stream = fields.get("stream") in (True, "true") or fields.get("stream_format") == "sse"
    make = {
        "images/generations": _images,
        "images/edits": _images,
        "images/variations": _variations,
        "audio/speech": _speech,
        "audio/transcriptions": _transcript,
        "audio/translations": _transcript,
        "moderations": _moderation,
        "rerank": _ranking,
    }[what]
    return make(what, fields, text, is_stream)


def _images(what: str, fields: dict[str, Any], text: str, is_stream: bool) -> Answer:
    image = base64.b64encode(PNG).decode()
    if is_stream:
        kind = "image_generation" if what == "images/generations" else "image_edit"
        about = {"b64_json": image, "created_at": CREATED, "size": "1024x1024", "quality": "low"}
        about |= {"background": "opaque", "output_format": "png"}
        partial = {"type": f"{kind}.partial_image", "partial_image_index": 0, **about}
        return Answer.events(partial, {"type": f"{kind}.completed", **about, "usage": IMAGE_USAGE})
    data = [{"b64_json": image} for _ in range(int(fields.get("n") or 1))]
    return Answer.json({"created": CREATED, "data": data, "usage": IMAGE_USAGE})


def _variations(what: str, fields: dict[str, Any], text: str, is_stream: bool) -> Answer:
    return Answer.json({"created": CREATED, "data": [{"url": "https://images.invalid/1.png"}]})


def _speech(what: str, fields: dict[str, Any], text: str, is_stream: bool) -> Answer:
    if not is_stream:
        return Answer([("Content-Type", "audio/mpeg")], [MP3[:30000], MP3[30000:]])
    sound = base64.b64encode(MP3).decode()
    return Answer.events(
        {"type": "speech.audio.delta", "audio": sound}, {"type": "speech.audio.done", "usage": SPOKEN_USAGE}
    )


def _transcript(what: str, fields: dict[str, Any], text: str, is_stream: bool) -> Answer:
    if is_stream:
        deltas = [{"type": "transcript.text.delta", "delta": word} for word in words(text)]
        done = {"type": "transcript.text.done", "text": text, "usage": HEARD_USAGE}
        return Answer.events(*deltas, done, "[DONE]")
    kind = fields.get("response_format", "json")
    if kind in ("text", "srt", "vtt"):
        start = {"text": "", "srt": "1\n00:00:00,000 --> 00:00:02,000\n", "vtt": "WEBVTT\n\n"}[kind]
        return Answer([("Content-Type", "text/plain; charset=utf-8")], f"{start}{text}\n".encode())
    if kind == "verbose_json":
        usage = {"type": "duration", "seconds": 7.0}
        return Answer.json(
            {"task": "transcribe", "language": "en", "duration": 6.5, "text": text, "usage": usage}
        )
    return Answer.json({"text": text, "usage": HEARD_USAGE})


def _moderation(what: str, fields: dict[str, Any], text: str, is_stream: bool) -> Answer:
    given = fields["input"]
    result: dict[str, Any] = {"flagged": False, "categories": {}, "category_scores": {}}
    result["category_applied_input_types"] = {}
    count = 1 if isinstance(given, str) else len(given)
    return Answer.json({"id": "modr-1", "model": fields["model"], "results": [result] * count})


def _ranking(what: str, fields: dict[str, Any], text: str, is_stream: bool) -> Answer:
    asked = set(fields["query"].lower().split())
    scores = [len(asked & set(str(each).lower().split())) / len(asked) for each in fields["documents"]]
    best = sorted(range(len(scores)), key=lambda index: -scores[index])[: fields.get("top_n")]
    results = [{"index": index, "relevance_score": scores[index]} for index in best]
    meta = {"api_version": {"version": "2"}, "billed_units": {"search_units": 1.0}}
    return Answer.json({"id": "rank-1", "results": results, "meta": meta})
