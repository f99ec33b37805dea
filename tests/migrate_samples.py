"""Configurations as people of other gateways have them; every key in them is in `KEYS`."""

from __future__ import annotations

from typing import Any

KEYS = ("sk-in-the-file-1234567890", "sk-another-0987654321", "azure-key-abcdef123456", "redis-pass-987")

LITELLM = f"""
model_list:
  - model_name: gpt-4o
    litellm_params:
      model: azure/gpt-4o-eu
      api_base: https://my-endpoint-europe.openai.azure.com/
      api_key: os.environ/AZURE_API_KEY_EU
      api_version: "2024-10-21"
      rpm: 6
      order: 1
  - model_name: gpt-4o
    litellm_params:
      model: azure/gpt-4o-ca
      api_base: os.environ/AZURE_API_BASE_CA
      api_key: {KEYS[2]}
      api_version: "2024-10-21"
      rpm: 4
      order: 2
  - model_name: anthropic-claude
    litellm_params:
      model: claude-sonnet-4-5
      api_key: {KEYS[0]}
      timeout: 300
      input_cost_per_token: 0.000003
      output_cost_per_token: 0.000015
  - model_name: vllm-models
    litellm_params:
      model: openai/facebook/opt-125m
      api_base: http://0.0.0.0:4000/v1
      api_key: none-needed-here
      temperature: 0.5
  - model_name: meta-llama/Llama-3.3-70B
    litellm_params:
      model: hosted_vllm/meta-llama/Llama-3.3-70B-Instruct
      api_base: http://gpu-1:8000/v1
      tpm: 100000
    model_info:
      access_groups: ["beta-models"]
  - model_name: local
    litellm_params:
      model: ollama/llama3.1
      api_base: http://localhost:11434
  - model_name: fast
    litellm_params:
      model: groq/llama-3.3-70b-versatile
      extra_headers: {{"Authorization": "{KEYS[1]}"}}
  - model_name: embed
    litellm_params:
      model: text-embedding-3-small
      api_key: {KEYS[0]}
    model_info:
      mode: embedding
  - model_name: gpt-instruct
    litellm_params:
      model: text-completion-openai/gpt-3.5-turbo-instruct
      api_key: os.environ/OPENAI_API_KEY
  - model_name: pictures
    litellm_params:
      model: dall-e-3
      api_key: os.environ/OPENAI_API_KEY
  - model_name: bedrock-claude
    litellm_params:
      model: bedrock/converse/us.anthropic.claude-sonnet-4-5-20250929-v1:0
      aws_region_name: us-east-1
      aws_access_key_id: os.environ/AWS_ID
      aws_secret_access_key: {KEYS[2]}
  - model_name: gemini-flash
    litellm_params:
      model: gemini/gemini-2.5-flash
  - model_name: vertex-gemini
    litellm_params:
      model: vertex_ai/gemini-2.5-pro
      vertex_project: my-project
      vertex_location: us-central1
      vertex_credentials: os.environ/VERTEX_CREDENTIALS
  - model_name: dbrx
    litellm_params:
      model: databricks/databricks-meta-llama-3-1-70b-instruct
      api_base: https://adb-1.azuredatabricks.net/serving-endpoints
      api_key: {KEYS[0]}
  - model_name: aws
    litellm_params:
      model: sagemaker/berri-benchmarking-Llama-2-70b
litellm_settings:
  drop_params: true
  num_retries: 2
  request_timeout: 600
  fallbacks: [{{"gpt-4o": ["anthropic-claude", "embed", "nobody"]}}]
  context_window_fallbacks: [{{"gpt-4o": ["anthropic-claude"]}}]
  success_callback: ["langfuse"]
router_settings:
  routing_strategy: least-busy
  redis_host: redis.example.org
  redis_password: {KEYS[3]}
  model_group_alias: {{"gpt-4": "gpt-4o", "lost": "nobody"}}
general_settings:
  master_key: {KEYS[1]}
environment_variables:
  REDIS_PASSWORD: {KEYS[3]}
"""

MLFLOW = f"""
routes:
  - name: completions
    route_type: llm/v1/completions
    model:
      provider: openai
      name: gpt-3.5-turbo-instruct
      config:
        openai_api_key: {KEYS[0]}
  - name: chat
    route_type: llm/v1/chat
    model:
      provider: OpenAI
      name: gpt-4
      config:
        openai_api_key: $OPENAI_API_KEY
        openai_api_type: azure
        openai_api_base: https://x.openai.azure.com
        openai_deployment_name: gpt4
        openai_api_version: "2024-10-21"
    limit:
      renewal_period: minute
      calls: 10
  - name: other
    route_type: llm/v1/chat
    model:
      provider: anthropic
      name: claude-sonnet-4-5
      config:
        anthropic_api_key: /run/secrets/anthropic
    extra: 1
  - name: old
    route_type: llm/v1/completions
    model:
      provider: palm
      name: text-bison
      config:
        palm_api_key: {KEYS[1]}
  - name: split
    task_type: llm/v1/chat
    destinations:
      - {{name: chat, traffic_percentage: 80}}
      - {{name: other, traffic_percentage: 20}}
    routing_strategy: TRAFFIC_SPLIT
  - name: broken
    task_type: llm/v1/completions
    destinations:
      - {{name: old, traffic_percentage: 100}}
"""

OPENAI_GATEWAY_FIRST: Any = {
    "config": {
        "default": [
            {
                "models": ["gpt-4o", "gpt-4o-mini"],
                "api_key": KEYS[0],
                "base_url": "https://api.openai.com/v1",
            },
            {"model_list": ["gpt-4o"], "api_key": KEYS[1], "base_url": "https://mirror.example.org/v1"},
        ],
        "hf": [{"models": ["org/model-7b"], "api_key": KEYS[1], "base_url": "http://vllm:8000/v1/"}],
    },
    "azure": [
        {
            "models": ["gpt-4o"],
            "is_azure": True,
            "api_key": KEYS[2],
            "base_url": "https://y.openai.azure.com/",
            "api_version": "2024-02-15-preview",
            "extra": 1,
        }
    ],
}

OPENAI_GATEWAY_SECOND: Any = {
    "default": [
        {
            "type": "openai",
            "models": ["deepseek-chat"],
            "api_key": KEYS[1],
            "base_url": "https://api.deepseek.com/v1",
        },
        {"type": "openai", "models": ["text-embedding-3-small"], "api_key": KEYS[0]},
    ],
    "azure": [
        {
            "type": "azure",
            "models": ["gpt-4o", "gpt-4o-mini"],
            "api_key": KEYS[2],
            "azure_endpoint": "https://y.openai.azure.com/",
            "api_version": "2024-02-15-preview",
        }
    ],
    "foo": [
        {
            "type": "alias",
            "alias": {"azure-4o": "azure/gpt-4o", "deepseek": "default/deepseek-chat", "no": "x/y"},
        }
    ],
}


def first_endpoint(cluster: str, model: str, **more: Any) -> dict[str, Any]:
    """Make a record of FIRST's fixtures, as Django writes it."""
    fields = {
        "endpoint_slug": f"{cluster}-vllm-x",
        "cluster": cluster,
        "framework": "vllm",
        "model": model,
        "endpoint_adapter": "resource_server_async.endpoints.direct_api.DirectAPIEndpoint",
        **more,
    }
    return {"model": "resource_server_async.endpoint", "pk": 1, "fields": fields}


def direct(url: str) -> dict[str, Any]:
    return {"api_url": url, "api_key_env_name": "METIS_KEY", "api_request_timeout": 120}


LLAMA = "meta-llama/Meta-Llama-3.1-8B-Instruct"
FIRST: Any = [
    {"model": "resource_server_async.cluster", "pk": 1, "fields": {"cluster_name": "sophia"}},
    {
        "model": "resource_server_async.cluster",
        "pk": 2,
        "fields": {"cluster_name": "metis", "config": {"status_url": "https://metis/status"}},
    },
    first_endpoint(
        "metis", LLAMA, config=direct("https://metis/v1/chat/completions"), tpm_user=60000, tpm_model=0
    ),
    first_endpoint("sophia", LLAMA, config=direct("https://sophia:8000/v1/")),
    first_endpoint(
        "sophia", "argonne/Secret-70B", config=direct("https://s/v1"), allowed_globus_groups=["a-b-c"]
    ),
    first_endpoint(
        "polaris", "mistral/M-7B", config={"api_port": 8001, "endpoint_uuid": "u", "function_uuid": "f"}
    ),
    {
        "model": "resource_server_async.cluster",
        "pk": 3,
        "fields": {"cluster_name": "closed", "allowed_domains": "anl.gov,alcf.anl.gov"},
    },
    first_endpoint("closed", "nobody/M-1B", config=direct("https://closed/v1")),
    {
        "model": "resource_server.federatedendpoint",
        "pk": 1,
        "fields": {"name": "L", "target_model_name": LLAMA, "description": "Everywhere.", "targets": []},
    },
    {
        "model": "resource_server.federatedendpoint",
        "pk": 2,
        "fields": {"name": "M", "target_model_name": "mistral/M-7B", "targets": []},
    },
]
