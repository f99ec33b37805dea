"""Record a real server that runs on this machine: `python -m tools.record mlflow`, or another of `RECIPES`.

Makes an environment of its own with the server's packages, starts it with a model that is made on the spot,
asks each question over a bare socket, and keeps what came, byte for byte, in tests/recordings/own/: the
answer in NAME.http, its head and the lengths of its chunks included, and beside it NAME.json, which says of
what server, when and what for. What the model says is nonsense; how it is said is the server's.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "tests" / "recordings" / "own"
READY_S = 300.0
ANSWER_S = 120.0


@dataclass(frozen=True)
class Question:
    """What is asked. `operation` is what the gateway calls it."""

    name: str
    operation: str
    path: str
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Recipe:
    """A server. `prepare` is a program that makes its model in the folder where it runs.

    `command` is of a program of the environment; `{port}` stands for the port.
    """

    packages: Sequence[str]
    version_of: str
    prepare: str
    command: Sequence[str]
    questions: Sequence[Question]


_MLFLOW_MODELS = """
import mlflow
from mlflow.pyfunc import ChatModel, PythonModel
from mlflow.types.llm import ChatChoice, ChatCompletionResponse, ChatMessage, TokenUsageStats

class Echo(PythonModel):
    def predict(self, context, model_input: list[str], params=None) -> list[str]:
        return [f"You said: {text}" for text in model_input]

class Chat(ChatModel):
    def predict(self, context, messages, params):
        said = ChatMessage(role="assistant", content=f"You said: {messages[-1].content}")
        usage = TokenUsageStats(prompt_tokens=9, completion_tokens=4, total_tokens=13)
        choices = [ChatChoice(index=0, message=said)]
        return ChatCompletionResponse(model="chat", choices=choices, usage=usage)

mlflow.pyfunc.save_model("completions", python_model=Echo(), pip_requirements=[])
mlflow.pyfunc.save_model("chat", python_model=Chat(), pip_requirements=[])
"""
_TINY_MODEL = """
from tokenizers import Tokenizer, models, pre_tokenizers, decoders, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
import torch
torch.manual_seed(7)
plain = Tokenizer(models.BPE())
plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
plain.decoder = decoders.ByteLevel()
special = ["<s>", "</s>", "<|user|>", "<|assistant|>"]
words = ["the cat sat on a mat", "hello and good morning to everybody", "a model of no sense at all"]
trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special,
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
plain.train_from_iterator(words, trainer)
tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, bos_token="<s>", eos_token="</s>")
tokenizer.chat_template = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] if m['content'] is string else "
    "m['content'][0]['text'] }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
tokenizer.save_pretrained("tiny")
config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
    num_attention_heads=2, max_position_embeddings=512)
LlamaForCausalLM(config).save_pretrained("tiny")
"""
_HELLO = [{"role": "user", "content": "Hello!"}]


def _served(name: str, body: Mapping[str, Any]) -> Question:
    return Question(f"mlflow-{name}", "serving", "/invocations", body)


def _mlflow(model: str, *questions: Question) -> Recipe:
    serve = ["mlflow", "models", "serve", "-m", model, "-p", "{port}", "--env-manager", "local"]
    return Recipe(["mlflow==3.17.2"], "mlflow", _MLFLOW_MODELS, serve, questions)


RECIPES: Mapping[str, Recipe] = {
    "mlflow": _mlflow(
        "completions",
        _served("texts", {"inputs": ["Hello!"], "params": {}}),
        _served("texts-two", {"inputs": ["Hello!", "And you?"]}),
        _served("refused", {"messages": _HELLO}),
    ),
    "mlflow-chat": _mlflow(
        "chat",
        _served("chat", {"messages": _HELLO, "max_tokens": 16}),
        _served("chat-refused", {"inputs": ["Hello!"]}),
    ),
    "transformers": Recipe(
        ["torch==2.13.0", "accelerate", "transformers[serving]==5.24.0"],
        "transformers",
        _TINY_MODEL,
        ["transformers", "serve", "--port", "{port}", "--device", "cpu"],
        [
            Question(
                f"transformers-{name}{'-streamed' if is_stream else ''}",
                name,
                path,
                {"model": "tiny", **body, "stream": is_stream},
            )
            for name, path, body in (
                ("chat", "/v1/chat/completions", {"messages": _HELLO, "max_tokens": 12}),
                ("responses", "/v1/responses", {"input": "Hello!", "max_output_tokens": 12}),
            )
            for is_stream in (False, True)
        ],
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--python", type=Path, help="an environment that has the packages already")
    given = parser.parse_args(arguments)
    recipe = RECIPES[given.recipe]
    with tempfile.TemporaryDirectory() as folder:
        python = given.python or _environment(Path(folder) / "environment", recipe)
        subprocess.run([python, "-c", recipe.prepare], cwd=folder, check=True)
        _record(recipe, python, folder)
    return 0


def _environment(folder: Path, recipe: Recipe) -> Path:
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *recipe.packages], check=True)
    return python


def _record(recipe: Recipe, python: Path, folder: str) -> None:
    port = _free_port()
    program, *rest = [each.format(port=port) for each in recipe.command]
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    server = subprocess.Popen(
        [python.parent / program, *rest],
        cwd=folder,
        env={**os.environ, "PATH": path},
        start_new_session=True,
    )
    try:
        _wait_for(port, server)
        for question in recipe.questions:
            _ask(question, port, f"{recipe.version_of} {_version(python, recipe.version_of)}")
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + READY_S
    while time.monotonic() < until and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.5)
    raise SystemExit("the server did not start")


def _version(python: Path, package: str) -> str:
    told = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run([python, "-c", told], check=True, capture_output=True, text=True).stdout.strip()


def _ask(question: Question, port: int, server: str) -> None:
    body = json.dumps(question.body).encode()
    head = (
        f"POST {question.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), ANSWER_S) as connection:
        connection.sendall(head.encode() + body)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    note = {
        "server": server,
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "operation": question.operation,
        "path": question.path,
        "request": question.body,
    }
    (FOLDER / f"{question.name}.http").write_bytes(answer)
    (FOLDER / f"{question.name}.json").write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
    status, _, _ = answer.partition(b"\r\n")
    print(f"{question.name}: {status.decode()}, {len(answer)} bytes")


if __name__ == "__main__":
    sys.exit(main())
