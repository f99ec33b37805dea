"""What people do with `mlflow.deployments` (2.9 and later), as a program: prints one JSON document.

The address is in MLFLOW_DEPLOYMENTS_TARGET. Runs in an environment with MLflow and nothing of ours.
"""

import json

import mlflow
from mlflow.deployments import get_deploy_client

HI = [{"role": "user", "content": "Hi"}]


def failure(call):
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def endpoint(found):
    limit = getattr(found, "limit", None)
    return {
        "name": found.name,
        "endpoint_type": str(getattr(found.endpoint_type, "value", found.endpoint_type)),
        "provider": found.model.provider,
        "model": found.model.name,
        "endpoint_url": found.endpoint_url,
        "limit": None if limit is None else dict(limit),
    }


def main():
    client = get_deploy_client()
    found = {
        "version": mlflow.__version__,
        "endpoints": [endpoint(each) for each in client.list_endpoints()],
        "endpoint": endpoint(client.get_endpoint("chat")),
        "chat": client.predict(endpoint="chat", inputs={"messages": HI, "temperature": 0.5, "n": 2}),
        "text": client.predict(endpoint="text", inputs={"prompt": "Hi"}),
        "vectors": client.predict(endpoint="vectors", inputs={"input": ["a", "b"]}),
        "split": client.predict(endpoint="split", inputs={"messages": HI}),
        "unknown": failure(lambda: client.predict(endpoint="nope", inputs={"messages": HI})),
        "wrong": failure(lambda: client.predict(endpoint="chat", inputs={"messages": HI, "model": "x"})),
    }
    print(json.dumps(found))


main()
