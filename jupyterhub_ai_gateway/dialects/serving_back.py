"""What a model behind `mlflow models serve` is sent: `inputs` and `params`, or the messages as they are.

Source: mlflow `gateway/providers/mlflow.py`, https://mlflow.org/docs/latest/deployment/deploy-model-locally
(read 2026-11).
"""

from __future__ import annotations

from collections.abc import Mapping

from ..vocabulary import Usage
from .canonical import STOP, Answer, Candidate, Json, Request, Text
from .chat_back import ChatBack
from .codec import Back, Decoder, broken
from .loss import DROPPED, Loss, Refused, Verb

_NO_TOOLS = Refused("asks for tools")
LACKS: Mapping[str, Verb] = {
    "is_stream": Refused("asks for a stream, which a served MLflow model does not give"),
    "tools": _NO_TOOLS,
    "shape": Refused("asks for JSON of a schema"),
    "logprobs": Refused("asks for probabilities"),
    "top_logprobs": DROPPED,
    "reasoning": DROPPED,
    "parallel_tools": DROPPED,
    "choice": DROPPED,
    "verbosity": DROPPED,
    "service_tier": DROPPED,
    "cache_key": DROPPED,
    "user": DROPPED,
    "has_cache": DROPPED,
}
_PARAMS = ("temperature", "max_tokens", "n", "top_p", "top_k", "frequency_penalty", "presence_penalty")


class ServingBack:
    """The half of a served model that faces it: one text in, texts out, as MLflow's gateway asks it."""

    def encode_request(self, back: Back, loss: Loss) -> dict[str, Json]:
        request = back.request
        request.names = {"is_stream": "stream", **request.names}
        loss.lose(request, LACKS)
        if back.manners.is_chat:
            body = ChatBack().encode_request(back, loss)
            return {name: value for name, value in body.items() if name != "stream"}
        params: dict[str, Json] = {
            name: getattr(request, name) for name in _PARAMS if getattr(request, name) is not None
        }
        if request.stop:
            params["stop"] = request.stop
        return {"inputs": [_prompt(request, loss)], "params": params}

    def decode_answer(self, document: Json, back: Back) -> Answer:
        found = document.get("predictions", document) if isinstance(document, dict) else None
        if isinstance(found, dict) and "choices" in found:
            return ChatBack().decode_answer(found, back)
        if isinstance(found, dict) and len(found) == 1:
            (found,) = found.values()
        if isinstance(found, str):
            found = [found]
        if not isinstance(found, list) or not found or not all(isinstance(text, str) for text in found):
            raise broken("the answer has no predictions that are texts")
        return Answer([Candidate([Text(text)], STOP) for text in found], None, None)

    def decoder(self, back: Back) -> Decoder:
        raise broken("a served MLflow model gives no streams")


def _prompt(request: Request, loss: Loss) -> str:
    (turn, *more) = request.turns
    if more or len(turn.parts) != 1:
        loss.refuse(
            "messages",
            "holds more than one text, and the model is asked by `inputs`; "
            "the setting model_server_format: chat sends messages as they are",
        )
    part = turn.parts[0]
    if not isinstance(part, Text):
        loss.refuse("messages", "holds what is no text")
    return part.text


def vectors_of(document: Json) -> tuple[list[list[float]], Usage | None]:
    """Read the embeddings that a served model gave."""
    found = document.get("predictions") if isinstance(document, dict) else None
    if isinstance(found, dict) and len(found) == 1:
        (found,) = found.values()
    if not isinstance(found, list) or not all(isinstance(vector, list) for vector in found):
        raise broken("the answer has no predictions that are vectors")
    return found, None
