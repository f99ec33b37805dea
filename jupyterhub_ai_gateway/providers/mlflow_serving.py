"""Models behind `mlflow models serve`, with the setting that MLflow gave them."""

from __future__ import annotations

from typing_extensions import override

from ..config import TEXT_TYPES, ProviderSchema, Setting
from ..dialects.codec import Manners
from ..vocabulary import EMBEDDINGS, SERVING, SERVING_VECTORS, Operation
from .base import Headers, Provider
from .openai import json_headers


class MlflowModelServing(Provider):
    """One model at its scoring server; everything is translated.

    Source: https://mlflow.org/docs/latest/deployment/deploy-model-locally (read 2026-11).
    """

    schema = ProviderSchema(
        name="mlflow-model-serving",
        settings=(
            Setting("model_server_url", "url", required=True, help="The address of the scoring server."),
            Setting(
                "model_server_format",
                "choice",
                default="inputs",
                choices=("inputs", "chat"),
                help="What the model takes: inputs and params, or messages.",
            ),
        ),
        endpoint_types=frozenset(TEXT_TYPES),
        model_name_required=False,
    )
    translates = (SERVING, SERVING_VECTORS)

    @override
    def speaks(self, endpoint_type: str) -> frozenset[Operation]:
        return frozenset({SERVING_VECTORS if endpoint_type == EMBEDDINGS.endpoint_type else SERVING})

    @override
    def url(self, operation: Operation) -> str:
        return f"{self.settings['model_server_url']}{operation.path}"

    @override
    def manners(self) -> Manners:
        is_chat = self.settings["model_server_format"] == "chat"
        return Manners(model=self.model_name or "", is_chat=is_chat, takes_user=False, names_model=False)

    @override
    def headers(self) -> Headers:
        return json_headers()
