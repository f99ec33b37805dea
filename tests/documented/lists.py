"""Which blocks of the documentation are not run by `test_pages` or `test_yaml`: by name, with the reason.

`ELSEWHERE` says which test runs a block; `CANNOT` why none does. A block that is in neither is run.
"""

from __future__ import annotations

from collections.abc import Mapping

_AGENTS = "tests/compat/test_agents.py::"
_CELLS = "tests/handlers/test_snippets.py::"  # which tests/compat/test_cells.py executes
_SERVICE = "tests/documented/test_services.py::"
_WORDS = "tests/documented/test_words.py::"
_TUTORIAL = "tests/documented/test_tutorial.py::"
_FIRST_ANSWER = "tools/first_answer.py::main"  # `make first-answer`
_RELEASE = "installs a release from the Python package index; the tests run this checkout"
_CLUSTER = "needs a Kubernetes cluster; tests/test_docs.py holds the files against the configuration"
_HOST = "changes the machine: needs root, accounts or systemd"

CANNOT: Mapping[str, str] = {
    "README.md: make test": "is what runs this test",
    "README.md: pip install jupyterhub-ai-gateway": _RELEASE,
    "CONTRIBUTING.md: __main__ → cli → commands → app → handlers → batches → gateway": (
        "is a drawing; setup.cfg holds it as a contract"
    ),
    "howto/gemini.md: pip install 'jupyterhub-ai-gateway[vertex]'": _RELEASE,
    "howto/tljh.md: sudo /opt/tljh/hub/bin/python -m pip install jupyterhub-ai-gateway": _RELEASE,
    "howto/tljh.md: sudo install -m 600 /dev/stdin /opt/tljh/config/openai.key <<< 'sk-...'": (
        "opens an editor, as root"
    ),
    "howto/tljh.md: sudo tljh-config reload hub": "needs The Littlest JupyterHub",
    "howto/zero-to-jupyterhub.md: kubectl create secret generic ai-gateway \\": _CLUSTER,
    "howto/zero-to-jupyterhub.md: kubectl apply -f ai-gateway.yaml": _CLUSTER,
    "howto/own-gpus.md: vllm serve meta-llama/Llama-3.3-70B-Instruct --served-model-name llama --port 8000 "
    '--api-key "$VLLM_API_KEY" \\': "needs a GPU, and downloads a model",
    "howto/external-service.md: sudo useradd --system --no-create-home --shell /usr/sbin/nologin "
    "jupyterhub-ai-gateway": _HOST,
    "howto/external-service.md: sudo install -d -m 750 -g jupyterhub-ai-gateway "
    "/etc/jupyterhub-ai-gateway": _HOST,
    "howto/external-service.md: sudo systemctl daemon-reload": _HOST,
}
ELSEWHERE: Mapping[str, str] = {
    **{
        f"howto/jupyter-ai-and-r.md: {first}": f"{_CELLS}test_the_guide_has_the_home_page_s_cells"
        for first in (
            "%load_ext jupyter_ai_magic_commands",
            "%%ai hub",
            "%load_ext jupyter_ai_magics",
            "%%ai openai-chat-custom:chat",
            "library(httr2)",
        )
    },
    "README.md: make demo": _FIRST_ANSWER,
    "tutorial/first-call.md: make demo": _FIRST_ANSWER,
    "tutorial/first-call.md: from openai import OpenAI": f"{_TUTORIAL}test_the_first_call",
    "tutorial/first-call.md: OPENAI_API_KEY=sk-... make demo": "tests/test_demo.py::test_key_comes_first",
    'howto/codex.md: model = "chat"': f"{_AGENTS}test_codex_works_as_the_guide_says",
    "howto/opencode.md: {": f"{_AGENTS}test_opencode_works_as_the_guide_says",
    'howto/gemini.md: {"security": {"auth": {"selectedType": "gemini-api-key"}}}': (
        "tests/compat/test_gemini_cli.py::test_gemini_cli"
    ),
    "howto/gemini.md: gemini --model gemini-flash": "tests/compat/test_gemini_cli.py::test_gemini_cli",
    "howto/add-a-provider.md: from jupyterhub_ai_gateway.config import ENDPOINT_TYPES, ProviderSchema, "
    "Setting": f"{_SERVICE}test_the_provider_of_the_guide_answers",
    'howto/add-a-provider.md: [project.entry-points."jupyterhub_ai_gateway.providers"]': (
        f"{_SERVICE}test_the_provider_of_the_guide_answers"
    ),
    'howto/configure-by-hand.md: {"name": "ai-gateway-user", "scopes": [ACCESS, FULL_ACCESS], '
    '"groups": ["ai"]}': (f"{_WORDS}test_the_role_for_some_takes_the_place_of_that_for_all"),
    "howto/docker.md: jupyterhub-ai-gateway --config /etc/ai-gateway/config.yaml --host 0.0.0.0 "
    "--port 5000": (f"{_SERVICE}test_the_command_of_a_container_serves"),
    "howto/external-service.md: JUPYTERHUB_API_URL=http://127.0.0.1:8081/hub/api": (
        f"{_SERVICE}test_the_external_service_serves_a_hub"
    ),
    "howto/external-service.md: curl -fsS http://127.0.0.1:5000/health": (
        f"{_SERVICE}test_the_external_service_serves_a_hub"
    ),
    "howto/behind-an-ingress.md: JUPYTERHUB_OAUTH_CALLBACK_URL=https://ai.example.org/oauth_callback": (
        f"{_SERVICE}test_the_login_comes_back_to_an_address_of_its_own"
    ),
    "reference/command-line.md: jupyterhub-ai-gateway --config config.yaml": (
        f"{_SERVICE}test_the_command_alone_serves"
    ),
    "reference/compatibility-openai-gateway.md: API_KEYS=key1,key2 CONFIG=config.json "
    "jupyterhub-ai-gateway openai-gateway": f"{_SERVICE}test_the_command_for_callers_with_keys",
    'explanation/limits.md: {"who": "user:alice", "resource": "cost_usd", "amount": 20, '
    '"reason": "thesis", "ends": "2026-11-27"}': f"{_WORDS}test_an_override_is_what_the_api_takes",
    'howto/courses-and-budgets.md: {"ai_gateway": {"policies": [{"resource": "cost_usd", "limit": 80, '
    '"window": "month", "count": "group"}]}}': f"{_WORDS}test_policies_in_a_group_s_properties_are_read",
    'reference/errors.md: {"error": {"message": "…", "type": "…", "param": "model", '
    '"code": "model_not_found"}, "detail": "…"}': f"{_WORDS}test_errors_have_the_shape_that_the_page_shows",
    'reference/errors.md: {"type": "error", "error": {"type": "not_found_error", "message": "…", "code": '
    '"model_not_found"}, "request_id": "…"}': f"{_WORDS}test_errors_have_the_shape_that_the_page_shows",
    'reference/errors.md: {"error": {"message": "…", "type": "…", "param": null, "code": "access_denied", '
    '"info": {"code": "insufficient_scope"}}, "detail": "…"}': (
        f"{_WORDS}test_errors_have_the_shape_that_the_page_shows"
    ),
}
"""The Hub's blocks (`configure`, `c.JupyterHub`) are run by `test_hub_blocks`, YAML by `test_yaml`."""
WHOLE_PAGES: Mapping[str, str] = {
    "tutorial/a-class-of-thirty.md": f"{_TUTORIAL}test_a_class_of_thirty",
}
"""Pages that a test types from top to bottom."""
