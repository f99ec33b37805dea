"""What becomes of other gateways' configurations, and that no key of theirs is written down."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from migrate_samples import (
    FIRST,
    KEYS,
    LITELLM,
    LLAMA,
    MLFLOW,
    OPENAI_GATEWAY_FIRST,
    OPENAI_GATEWAY_SECOND,
)
from served import served

from jupyterhub_ai_gateway.config import parse
from jupyterhub_ai_gateway.migrate import SOURCES, Migration, NotThisFormat, as_text, checked
from jupyterhub_ai_gateway.providers.registry import Providers

AUTHORIZED = {"client_id": "c", "client_secret": "s", "refresh_token": "r"}
SCHEMAS = Providers.installed().schemas
SAMPLES: dict[str, tuple[str, Any]] = {
    "litellm": ("litellm", yaml.safe_load(LITELLM)),
    "mlflow": ("mlflow", yaml.safe_load(MLFLOW)),
    "openai-gateway 1": ("openai-gateway", OPENAI_GATEWAY_FIRST),
    "openai-gateway 2": ("openai-gateway", OPENAI_GATEWAY_SECOND),
    "first": ("first", FIRST),
}


def migrated(sample: str) -> Migration:
    source, document = SAMPLES[sample]
    return checked(SOURCES[source](document), SCHEMAS)


def endpoints(migration: Migration) -> dict[str, Any]:
    return {entry["name"]: entry for entry in migration.document["endpoints"]}


def has_note(migration: Migration, *parts: str) -> bool:
    return any(all(part in note for part in parts) for note in migration.notes)


@pytest.mark.parametrize("sample", SAMPLES)
def test_result_is_taken_and_holds_no_key(sample: str, tmp_path: Path) -> None:
    found = migrated(sample)
    text = as_text(found, SAMPLES[sample][0])
    assert [key for key in KEYS if key in text] == []
    document = yaml.safe_load(text)
    assert document == found.document
    secret = tmp_path / "key"
    secret.write_text("sk-x")
    where = json.loads(json.dumps(document).replace("/run/secrets/anthropic", str(secret)))
    environ = dict.fromkeys(found.variables, "https://stand-in.example.org")
    environ["VERTEX_CREDENTIALS"] = json.dumps({"type": "authorized_user", **AUTHORIZED})
    config = parse(where, SCHEMAS, environ)
    assert config.warnings == ()
    assert len(config.endpoints) == len(document["endpoints"]) > 0
    for name in found.variables:
        assert f"#   {name}\n" in text


def test_litellm_s_groups_become_endpoints_with_deployments() -> None:
    found = migrated("litellm")
    ours = endpoints(found)
    assert list(ours) == [
        "gpt-4o",
        "anthropic-claude",
        "vllm-models",
        "meta-llama-Llama-3.3-70B",
        "local",
        "fast",
        "embed",
        "gpt-instruct",
        "bedrock-claude",
        "gemini-flash",
        "vertex-gemini",
        "dbrx",
    ]
    assert ours["gemini-flash"]["model"]["config"] == {"gemini_api_key": "$GEMINI_API_KEY"}
    assert ours["vertex-gemini"]["model"]["config"] == {
        "vertex_project": "my-project",
        "vertex_location": "us-central1",
        "vertex_credentials": "$VERTEX_CREDENTIALS",
    }
    assert ours["dbrx"]["model"]["config"]["host"] == "https://adb-1.azuredatabricks.net"
    assert ours["bedrock-claude"]["model"] == {
        "provider": "bedrock",
        "name": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "config": {
            "aws_config": {
                "aws_region": "us-east-1",
                "aws_access_key_id": "$AWS_ID",
                "aws_secret_access_key": "$AZURE_KEY",
            }
        },
    }
    europe, canada = ours["gpt-4o"]["deployments"]
    assert europe["model"]["config"] == {
        "openai_api_type": "azure",
        "openai_api_key": "$AZURE_API_KEY_EU",
        "openai_api_base": "https://my-endpoint-europe.openai.azure.com",
        "openai_api_version": "2024-10-21",
        "openai_deployment_name": "gpt-4o-eu",
    }
    assert canada["model"]["config"]["openai_api_base"] == "$AZURE_API_BASE_CA"
    assert canada["model"]["config"]["openai_api_key"] == "$AZURE_KEY"
    assert (europe["priority"], canada["priority"]) == (1, 2)
    assert (ours["gpt-4o"]["order"], ours["gpt-4o"]["retries"]) == ("least_in_flight", 2)
    assert ours["gpt-4o"]["fallbacks"] == ["anthropic-claude"]
    assert ours["gpt-4o"]["aliases"] == ["gpt-4"]
    assert ours["anthropic-claude"]["price"] == {"input_per_mtok": 3.0, "output_per_mtok": 15.0}
    assert ours["anthropic-claude"]["timeouts"] == {"first_byte_s": 300, "idle_s": 300}
    assert ours["vllm-models"]["model"] == {
        "provider": "openai-compatible",
        "name": "facebook/opt-125m",
        "config": {"api_key": "$OPENAI_COMPATIBLE_KEY", "api_base": "http://0.0.0.0:4000/v1"},
    }
    llama = ours["meta-llama-Llama-3.3-70B"]
    assert llama["aliases"] == ["meta-llama/Llama-3.3-70B"]
    assert (llama["scope"], llama["model"]["provider"]) == ("beta-models", "vllm")
    assert ours["local"]["model"]["config"] == {"api_base": "http://localhost:11434/v1"}
    assert ours["fast"]["model"]["config"] == {"api_key": "$GROQ_API_KEY"}
    assert ours["embed"]["endpoint_type"] == "llm/v1/embeddings"
    assert ours["gpt-instruct"]["endpoint_type"] == "llm/v1/completions"
    assert found.document["timeouts"] == {"first_byte_s": 600, "idle_s": 600}
    assert [(each["name"], each["resource"], each["limit"]) for each in found.document["policies"]] == [
        ("gpt-4o rpm", "requests", 10),
        ("meta-llama-Llama-3.3-70B tpm", "tokens", 100000),
    ]


@pytest.mark.parametrize(
    "parts",
    [
        ("pictures", "not served here"),
        ("sagemaker", "no provider"),
        ("vllm-models", "temperature"),
        ("fast", "headers Authorization"),
        ("gpt-4o: cannot fall back to embed",),
        ("gpt-4o: cannot fall back to nobody",),
        ("lost: is an alias of nobody",),
        ("beta-models", "scope"),
        ("master_key", "tokens of the Hub"),
        ("success_callback",),
        ("context_window_fallbacks",),
        ("redis_host", "store.url"),
        ("environment_variables.REDIS_PASSWORD",),
        ("the key stood in the file", "variable AZURE_KEY"),
    ],
)
def test_what_litellm_has_and_we_have_not_is_listed(parts: tuple[str, ...]) -> None:
    assert has_note(migrated("litellm"), *parts), migrated("litellm").notes


def test_mlflow_s_routes_and_splits_are_carried() -> None:
    found = migrated("mlflow")
    ours = endpoints(found)
    assert list(ours) == ["completions", "chat", "other"]
    assert ours["completions"]["model"]["config"] == {"openai_api_key": "$OPENAI_KEY"}
    assert ours["chat"]["model"]["config"]["openai_api_key"] == "$OPENAI_API_KEY"
    assert ours["chat"]["limit"] == {"calls": 10, "renewal_period": "minute"}
    assert ours["other"]["model"]["config"] == {"anthropic_api_key": {"file": "/run/secrets/anthropic"}}
    assert [each["name"] for each in found.document["routes"]] == ["split"]
    assert has_note(found, "old: left out", "PaLM")
    assert has_note(found, "broken: left out", "'old' is no endpoint")
    assert has_note(found, "chat", "by address")
    assert has_note(found, "other: extra")
    assert found.variables == ("OPENAI_KEY", "OPENAI_API_KEY")


def test_key_of_the_file_gets_no_name_that_is_in_use() -> None:
    def entry(name: str, key: str) -> dict[str, Any]:
        model = {"provider": "openai", "name": "m", "config": {"openai_api_key": key}}
        return {"name": name, "endpoint_type": "llm/v1/chat", "model": model}

    keys = [KEYS[0], "$OPENAI_KEY", KEYS[1], KEYS[0]]
    document = {"endpoints": [entry(f"e{index}", key) for index, key in enumerate(keys)]}
    ours = endpoints(checked(SOURCES["mlflow"](document), SCHEMAS)).values()
    assert [each["model"]["config"]["openai_api_key"] for each in ours] == [
        "$OPENAI_KEY_2",
        "$OPENAI_KEY",
        "$OPENAI_KEY_3",
        "$OPENAI_KEY_2",
    ]


def test_openai_gateway_s_namespaces_become_aliases() -> None:
    found = migrated("openai-gateway 1")
    ours = endpoints(found)
    assert set(ours) == {"gpt-4o", "gpt-4o-mini", "hf-org-model-7b", "azure-gpt-4o"}
    assert [each["model"]["provider"] for each in ours["gpt-4o"]["deployments"]] == [
        "openai",
        "openai-compatible",
    ]
    assert ours["gpt-4o"]["aliases"] == ["default/gpt-4o"]
    assert ours["hf-org-model-7b"]["aliases"] == ["hf/org/model-7b"]
    assert ours["azure-gpt-4o"]["aliases"] == ["azure/gpt-4o"]
    assert ours["azure-gpt-4o"]["model"]["config"]["openai_deployment_name"] == "gpt-4o"
    assert has_note(found, "gpt-4o", "2 times")
    assert has_note(found, "azure: extra")
    assert has_note(found, "API_KEYS")


def test_openai_gateway_s_second_generation_has_aliases_of_its_own() -> None:
    found = migrated("openai-gateway 2")
    ours = endpoints(found)
    assert ours["azure-gpt-4o"]["aliases"] == ["azure/gpt-4o", "foo/azure-4o"]
    assert ours["deepseek-chat"]["aliases"] == ["default/deepseek-chat", "foo/deepseek"]
    assert ours["text-embedding-3-small"]["endpoint_type"] == "llm/v1/embeddings"
    assert has_note(found, "foo/no: is an alias of x/y")


def test_first_s_places_become_deployments_and_stay_closed() -> None:
    found = migrated("first")
    ours = endpoints(found)
    llama = ours["meta-llama-Meta-Llama-3.1-8B-Instruct"]
    assert llama["aliases"] == [LLAMA]
    assert llama["description"] == "Everywhere."
    assert [each["name"] for each in llama["deployments"]] == ["metis-vllm", "sophia-vllm"]
    assert [each["model"]["config"] for each in llama["deployments"]] == [
        {"api_base": "https://metis/v1", "api_key": "$METIS_KEY"},
        {"api_base": "https://sophia:8000/v1", "api_key": "$METIS_KEY"},
    ]
    assert [(each["cluster"], each["framework"]) for each in llama["deployments"]] == [
        ("metis", "vllm"),
        ("sophia", "vllm"),
    ]
    assert llama["deployments"][0]["probe"] == {"kind": "first", "url": "https://metis/status"}
    assert "probe" not in llama["deployments"][1]
    secret = ours["argonne-Secret-70B"]
    assert secret["cluster"] == "sophia"
    assert ours["nobody-M-1B"]["scope"] == "nobody-m-1b"
    assert has_note(found, "nobody/M-1B: was for alcf.anl.gov, anl.gov alone")
    assert (secret["scope"], secret["hidden"]) == ("argonne-secret-70b", True)
    (policy,) = found.document["policies"]
    assert (policy["resource"], policy["limit"], policy["count"]) == ("tokens", 60000, "user")
    assert has_note(found, "mistral/M-7B at polaris-vllm", "Globus Compute", "http://HOST:8001/v1")
    assert has_note(found, "federated model was left out")
    assert has_note(found, "was for a-b", "grant that")


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    "document", [None, [], {}, "x", {"a": 1}, [1], {"endpoints": 7}, {"model_list": "x"}]
)
def test_something_else_is_refused_in_one_sentence(source: str, document: Any) -> None:
    with pytest.raises(NotThisFormat):
        SOURCES[source](document)


async def test_migrated_configuration_is_served() -> None:
    found = migrated("first")
    ours = list(found.document["endpoints"])
    for entry in ours:
        for each in entry.get("deployments", [entry]):
            each["model"]["config"]["api_key"] = "sk-x"
    async with served(None, ours) as running:
        listed = (await running.ask("GET", "v1/models")).json["data"]
        assert [each["aliases"] for each in listed if "aliases" in each] == [[LLAMA]]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jupyterhub_ai_gateway", "import", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_command_writes_a_file_that_check_takes(tmp_path: Path) -> None:
    theirs, ours = tmp_path / "litellm.yaml", tmp_path / "config.yaml"
    theirs.write_text(LITELLM)
    done = run("litellm", str(theirs), "-o", str(ours))
    assert (done.returncode, done.stdout) == (0, "")
    assert "pictures: left out" in done.stderr
    assert str(ours) in done.stderr
    assert not any(key in ours.read_text() + done.stderr for key in KEYS)
    again = run("litellm", str(theirs), "-o", str(ours))
    assert again.returncode != 0
    assert "exists already" in again.stderr
    shown = run("litellm", str(theirs))
    assert yaml.safe_load(shown.stdout) == yaml.safe_load(ours.read_text())


@pytest.mark.parametrize(
    ("arguments", "content", "part"),
    [
        (("litellm",), None, "needs a source and a file"),
        (("other", "FILE"), "{}", "litellm, mlflow, openai-gateway or first"),
        (("litellm", "FILE"), "{}", "no model_list"),
        (("litellm", "FILE"), "a: [", "not valid YAML"),
        (("first", "nowhere.json"), None, "cannot be read"),
    ],
)
def test_command_says_what_is_wrong(
    arguments: tuple[str, ...], content: str | None, part: str, tmp_path: Path
) -> None:
    file = tmp_path / "theirs"
    if content is not None:
        file.write_text(content)
    done = run(*(str(file) if each == "FILE" else each for each in arguments))
    assert done.returncode != 0
    assert part in done.stderr
    assert "Traceback" not in done.stderr
