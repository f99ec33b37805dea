"""The tutorial, typed from top to bottom: a first call, and a class of thirty on a real Hub."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
import yaml
from integration.hub import RunningHub, free_ports, start_hub

from tools.first_answer import first_cell, told

from .blocks import ROOT, page
from .stories import PROGRAMS, environ
from .world import World, configuration

pytestmark = pytest.mark.hub


@contextmanager
def demonstration(home: Path) -> Iterator[tuple[str, str]]:
    """Do what `make demo` does once everything is installed."""
    given = {**environ(home, {}), "PORT": "0", "PATH": os.environ["PATH"]}
    demo = subprocess.Popen(
        [sys.executable, "-m", "demo"],
        cwd=ROOT,
        env=given,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield told(demo)
    finally:
        os.killpg(demo.pid, signal.SIGINT)
        demo.wait(60)
        assert demo.stdout is not None
        demo.stdout.close()


def test_the_first_call(tmp_path: Path) -> None:
    text = page("tutorial/first-call.md").block("python", "from openai import OpenAI")
    with demonstration(tmp_path) as (url, password):
        said = first_cell(url, password, text)
    assert said.startswith("You said: Hello")


class Class:
    """A Hub that the tutorial's blocks configure, and the folder that stands for /srv/jupyterhub."""

    def __init__(self, folder: Path) -> None:
        self.lesson = page("tutorial/a-class-of-thirty.md")
        self.folder = folder
        self.port = free_ports(1)[0]

    def here(self, text: str) -> str:
        return text.replace("/srv/jupyterhub", str(self.folder))

    def start(self) -> RunningHub:
        """Put the two blocks where the tutorial says; the tests' own users come between."""
        first = self.lesson.block("python", "students = ")
        last = self.here(self.lesson.block("python", "from jupyterhub_ai_gateway"))
        last = last.replace("configure(c, ", f"configure(c, port={self.port}, ")
        return start_hub(
            self.folder / "hub", config_text=f"{first}\n{last}", environment={"PYTHONPATH": str(ROOT)}
        )


def test_a_class_of_thirty(tmp_path: Path) -> None:
    course = Class(tmp_path)
    lesson = course.lesson
    with World() as world:
        (tmp_path / "openai.key").write_text("sk-provider-key-0123456789")
        text = course.here(lesson.block("yaml", "endpoints:"))
        (tmp_path / "ai-gateway.yaml").write_text(text)
        check = course.here(lesson.block("shell", "jupyterhub-ai-gateway check"))
        said = subprocess.run(
            ["bash", "-c", check], env=environ(tmp_path, {}), capture_output=True, text=True, check=True
        )
        assert said.stdout == lesson.block("text", "chat")
        document = configuration(text, world, tmp_path)
        (tmp_path / "ai-gateway.yaml").write_text(yaml.safe_dump(document))
        hub = course.start()
        try:
            lesson_is_held(course, hub, world)
        finally:
            hub.stop()


def lesson_is_held(course: Class, hub: RunningHub, world: World) -> None:
    url, students = f"{hub.url}services/ai-gateway/", [f"student-{number:02}" for number in range(1, 31)]
    hub.login("student-01")
    hub.spawn("student-01")
    cell = course.lesson.block("python", "from openai import OpenAI\n")
    assert hub.run_in_kernel("student-01", cell).strip() == world.text
    tokens = [hub.token(student) for student in students]
    with ThreadPoolExecutor(30) as pool:
        statuses = list(pool.map(lambda token: ask(url, token).status_code, tokens))
    assert statuses == [200] * 30
    loop = course.lesson.block("python", "from openai import OpenAI, RateLimitError")
    number, _, message = hub.run_in_kernel("student-01", loop).strip().partition(" ")
    assert int(number) < 25
    assert re.search(r"20 requests per minute", message), message
    assert re.search(r"again in \d+ second", message), message
    used = course.lesson.block("bash", "curl").replace("https://hub.example.org", hub.url.rstrip("/"))
    given = environ(course.folder, {"TOKEN": hub.token("ira"), "PATH": f"{PROGRAMS}:{os.environ['PATH']}"})
    told_by = subprocess.run(["bash", "-c", used], env=given, capture_output=True, text=True, check=True)
    rows = yaml.safe_load(told_by.stdout)["usage"]
    assert {row["user"] for row in rows} == {f"user:{student}" for student in students}
    home = hub.login("student-02").get(url, timeout=30)
    assert home.status_code == 200
    staff = hub.login("ira").get(f"{url}staff", timeout=30)
    assert staff.status_code == 200


def ask(url: str, token: str) -> requests.Response:
    body = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"Authorization": f"Bearer {token}"}
    return requests.post(f"{url}v1/chat/completions", json=body, headers=headers, timeout=60)
