"""The kinds of files that MLflow's own documents show, of every version, read as they stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from jupyterhub_ai_gateway.config import parse
from jupyterhub_ai_gateway.providers.registry import Providers

SCHEMAS = Providers.installed().schemas


def entry(
    name: str, kind: str, provider: str, model: str | None, *, list_key: str = "endpoints", **config: Any
) -> dict[str, Any]:
    """Make a file of one entry, in the words of a version."""
    type_key = {"endpoints": "endpoint_type", "routes": "route_type", "first": "type"}[list_key]
    described = {"provider": provider, **({"name": model} if model else {}), "config": config}
    return {
        "routes" if list_key != "endpoints" else "endpoints": [
            {"name": name, type_key: f"llm/v1/{kind}", "model": described}
        ]
    }


KEY = "$A_KEY"
AZURE = {
    "openai_api_key": KEY,
    "openai_deployment_name": "d",
    "openai_api_base": "https://r.openai.azure.com/",
    "openai_api_version": "2023-05-15",
}
AWS = {"aws_region": "us-east-1", "aws_access_key_id": KEY, "aws_secret_access_key": KEY}

SAMPLES = {
    "before 2.5": entry(
        "gpt-3.5-turbo-completions",
        "completions",
        "openai",
        "gpt-3.5-turbo",
        list_key="first",
        openai_api_base="https://api.openai.com/v1",
        openai_api_key=KEY,
    ),
    "2.5": entry("chat", "chat", "openai", "gpt-4", list_key="routes", openai_api_key=KEY),
    "2.9": entry("chat", "chat", "openai", "gpt-4o-mini", openai_api_key=KEY),
    "azure": entry("chat", "chat", "openai", "gpt-4o-mini", openai_api_type="azure", **AZURE),
    "azuread": entry("text", "completions", "openai", "gpt-4o-mini", openai_api_type="AzureAD", **AZURE),
    "azure vectors": entry(
        "v", "embeddings", "openai", "text-embedding-ada-002", openai_api_type="azure", **AZURE
    ),
    "anthropic": entry("text", "completions", "anthropic", "claude-1.3-100k", anthropic_api_key=KEY),
    "cohere": entry("v", "embeddings", "cohere", "embed-english-light-v2.0", cohere_api_key=KEY),
    "bedrock": entry("text", "completions", "amazon-bedrock", "amazon.titan-tg1-large", aws_config=AWS),
    "served": entry(
        "fillmask",
        "completions",
        "mlflow-model-serving",
        "mask-fill",
        list_key="routes",
        model_server_url="http://127.0.0.1:9010",
    ),
    "served without a name": entry(
        "v", "embeddings", "MLflow-Model-Serving", None, model_server_url="http://127.0.0.1:9020"
    ),
    "tgi": entry(
        "text",
        "completions",
        "huggingface-text-generation-inference",
        "falcon-7b-instruct",
        hf_server_url="http://127.0.0.1:8080",
    ),
    "mistral": entry("text", "completions", "mistral", "mistral-tiny", mistral_api_key=KEY),
    "together": entry(
        "chat", "chat", "togetherai", "mistralai/Mixtral-8x7B-Instruct-v0.1", togetherai_api_key=KEY
    ),
    "ai21": entry("text", "completions", "ai21labs", "jamba-mini", ai21labs_api_key=KEY),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_sample_is_taken_as_it_stands(name: str, tmp_path: Path) -> None:
    text = yaml.safe_dump(SAMPLES[name])
    config = parse(yaml.safe_load(text), SCHEMAS, {"A_KEY": "sk-x"}, base_dir=tmp_path)
    assert len(config.endpoints) == 1
    assert config.warnings == ()
