"""Files and sounds: from whoever can send one to whoever takes it, and refused by name elsewhere."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from jupyterhub_ai_gateway.dialects.bridge import BACKS, Bridge
from jupyterhub_ai_gateway.dialects.codec import Manners
from jupyterhub_ai_gateway.errors import Untranslatable
from jupyterhub_ai_gateway.vocabulary import (
    CHAT,
    COHERE_CHAT,
    CONVERSE,
    GENERATE_CONTENT,
    MESSAGES,
    MISTRAL_CHAT,
    RESPONSES,
    SERVING,
    Operation,
)

PDF, WAV = "JVBERi0xLjQK", "UklGRiQAAABXQVZF"
DATA = f"data:application/pdf;base64,{PDF}"


def said(*parts: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}], **more}


SOURCE = {"type": "base64", "media_type": "application/pdf", "data": PDF}
FILES: dict[Operation, dict[str, Any]] = {
    CHAT: said({"type": "file", "file": {"file_data": DATA, "filename": "a.pdf"}}),
    MESSAGES: said({"type": "document", "source": SOURCE, "title": "a.pdf"}, max_tokens=9),
    RESPONSES: {
        "input": [
            {"role": "user", "content": [{"type": "input_file", "file_data": DATA, "filename": "a.pdf"}]}
        ]
    },
    GENERATE_CONTENT: {
        "contents": [{"parts": [{"inlineData": {"mimeType": "application/pdf", "data": PDF}}]}]
    },
    MISTRAL_CHAT: said({"type": "document_url", "document_url": DATA, "document_name": "a.pdf"}),
}
SOUNDS: dict[Operation, dict[str, Any]] = {
    CHAT: said({"type": "input_audio", "input_audio": {"data": WAV, "format": "wav"}}),
    GENERATE_CONTENT: {"contents": [{"parts": [{"inlineData": {"mimeType": "audio/wav", "data": WAV}}]}]},
    MISTRAL_CHAT: said({"type": "input_audio", "input_audio": WAV}),
}
FILE_AT: dict[Operation, str | None] = {
    CHAT: f'{{"type":"file","file":{{"file_data":"{DATA}"',
    MESSAGES: f'"source":{{"type":"base64","media_type":"application/pdf","data":"{PDF}"}}',
    RESPONSES: f'"file_data":"{DATA}"',
    GENERATE_CONTENT: f'"inlineData":{{"mimeType":"application/pdf","data":"{PDF}"',
    CONVERSE: '"document":{"format":"pdf"',
    COHERE_CHAT: None,
    SERVING: None,
}
SOUND_AT: dict[Operation, str | None] = {
    CHAT: f'{{"type":"input_audio","input_audio":{{"data":"{WAV}","format":"wav"}}}}',
    MESSAGES: None,
    RESPONSES: None,
    GENERATE_CONTENT: f'"inlineData":{{"mimeType":"audio/wav","data":"{WAV}"',
    CONVERSE: '"audio":{"format":"wav"',
    COHERE_CHAT: None,
    SERVING: None,
}
CASES = [
    *((front, back, given, FILE_AT) for front, given in FILES.items() for back in BACKS),
    *((front, back, given, SOUND_AT) for front, given in SOUNDS.items() for back in BACKS),
]


@pytest.mark.parametrize(
    ("front", "back", "given", "places"),
    CASES,
    ids=[f"{a.name}-{b.name}-{'file' if d is FILE_AT else 'sound'}" for a, b, _, d in CASES],
)
def test_attachment(front: Operation, back: Operation, given: Any, places: Any) -> None:
    manners = Manners(model="amazon.nova-pro-v1:0", where="the deployment chat/1")
    raw = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in given.items()}

    def written() -> str:
        crossing = Bridge(front, back, manners).cross(
            raw, is_stream=False, wants_usage=True, request_id="req_1", created=1
        )
        assert crossing.dropped == []
        return json.dumps(crossing.body, separators=(",", ":"))

    where = places[back]
    if where is None:
        with pytest.raises(Untranslatable, match="the deployment chat/1"):
            written()
    else:
        assert where in written()
