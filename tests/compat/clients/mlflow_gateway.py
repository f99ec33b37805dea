"""What people do with `mlflow.gateway` (2.5 to 2.22), as a program: prints one JSON document.

Arguments: the gateway's address. Runs in an environment with an old MLflow and nothing of ours.
"""

import json
import sys

import mlflow
import mlflow.gateway
from mlflow.gateway import (
    MlflowGatewayClient,
    get_gateway_uri,
    get_route,
    query,
    search_routes,
    set_gateway_uri,
)

HI = [{"role": "user", "content": "Hi"}]


def failure(call):
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def plain(value):
    return str(getattr(value, "value", value))


def route(found):
    return {
        "name": found.name,
        "route_type": plain(found.route_type),
        "provider": plain(found.model.provider),
        "model": found.model.name,
        "route_url": found.route_url,
    }


def main(uri):
    set_gateway_uri(uri)
    client = MlflowGatewayClient(uri)
    found = {
        "version": mlflow.__version__,
        "uri": get_gateway_uri(),
        "routes": [route(each) for each in search_routes()],
        "route": route(get_route("chat")),
        "chat": query("chat", {"messages": HI, "temperature": 0.5}),
        "text": query("text", {"prompt": "Hi"}),
        "client_routes": [each.name for each in client.search_routes()],
        "client_chat": client.query("chat", {"messages": HI}),
        "old_chat": query("chat", {"messages": HI, "candidate_count": 2}),
        "old_vectors": query("vectors", {"text": ["a", "b"]}),
        "unknown_route": failure(lambda: get_route("nope")),
        "unknown_query": failure(lambda: query("nope", {"messages": HI})),
    }
    if tuple(map(int, mlflow.__version__.split(".")[:2])) >= (2, 8):
        limits = [{"calls": 7, "key": "user", "renewal_period": "hour"}]
        set_, got = client.set_limits("chat", limits), client.get_limits("chat")
        found["limits"] = [
            [each.calls, each.key, each.renewal_period] for each in (*set_.limits, *got.limits)
        ]
    print(json.dumps(found))


main(sys.argv[1])
