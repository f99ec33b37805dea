"""Rankings between Cohere's words, which callers and most hosts use, and other hosts' own.

Source: https://docs.cohere.com/reference/rerank; https://huggingface.github.io/text-embeddings-inference,
`/rerank`; https://docs.sglang.ai/supported_models/rerank_models.html (read 2026-11).
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

import msgspec

from ..errors import Fault, UpstreamBroken
from .faults import error_object as openai_error_object

_COHERES_OWN = (
    "top_n",
    "max_tokens_per_doc",
    "max_chunks_per_doc",
    "rank_fields",
    "relevant_spans",
    "priority",
)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def to_tei(fields: MutableMapping[str, msgspec.Raw]) -> None:
    """Write a request in the words of Text Embeddings Inference, which serves one model."""
    fields.pop("model", None)
    for name in _COHERES_OWN:
        fields.pop(name, None)
    for name, theirs in (("documents", "texts"), ("return_documents", "return_text")):
        if name in fields:
            fields[theirs] = fields.pop(name)


def to_cohere(body: bytes, asked: Mapping[str, msgspec.Raw]) -> bytes:
    """Return an answer that is a bare list in Cohere's words, best first; any other one as it is.

    `asked` are the fields of the request: the host may not know its `top_n`.
    """
    if not body.lstrip().startswith(b"["):
        return body
    try:
        found = sorted(map(_result, _decode(body)), key=lambda each: -each["relevance_score"])
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, RecursionError):
        text = "The model's provider sent a ranking that cannot be read."
        raise UpstreamBroken(text, detail="a result has no index or no score") from None
    top_n = bytes(asked.get("top_n", b""))
    most = int(top_n) if top_n.isdigit() and len(top_n) < 10 else len(found)
    return _encode({"results": found[:most], "meta": {"api_version": {"version": "2"}}})


def _result(given: Any) -> dict[str, Any]:
    score = given["score"] if "score" in given else given["relevance_score"]
    result = {"index": given["index"], "relevance_score": float(score)}
    document = given.get("text") or given.get("document")
    if document is not None:
        result["document"] = {"text": document} if isinstance(document, str) else document
    return result


def error_object(fault: Fault, request_id: str = "") -> bytes:
    """Return the body of a failure: OpenAI's, with Cohere's `id` and `message` beside it."""
    document: dict[str, Any] = _decode(openai_error_object(fault, request_id))
    return _encode({"id": request_id, "message": fault.public, **document})
