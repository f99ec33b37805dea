"""A working JupyterHub with the AI gateway, on this machine alone.

    jupyterhub -f jupyterhub_config.example.py

Open http://127.0.0.1:8000, log in with any name, start a notebook, and run

    from openai import OpenAI
    OpenAI().chat.completions.create(model="chat", messages=[{"role": "user", "content": "Hello"}])
"""

import os
import sys
from pathlib import Path

from jupyterhub_ai_gateway.hub_config import configure

c = get_config()  # noqa: F821 - JupyterHub defines it
HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("DEMO_FOLDER", "jupyterhub-example")).absolute()

# A Hub for trying things out: everybody on this machine may log in, servers are plain processes
c.JupyterHub.bind_url = "http://127.0.0.1:8000"
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = os.environ.get("DEMO_PASSWORD", "")
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = str(FOLDER / "home" / "{username}")
c.Spawner.cmd = [str(Path(sys.executable).with_name("jupyterhub-singleuser"))]
c.Spawner.args = ["--allow-root"] if os.geteuid() == 0 else []
c.Spawner.notebook_dir = os.environ.get("DEMO_NOTEBOOKS", "")
c.Spawner.default_url = os.environ.get("DEMO_URL", "/lab")

# The AI gateway: its service, scopes and roles, and what a notebook finds in its environment
setup = configure(
    c,
    config_file=os.environ.get("AI_GATEWAY_CONFIG", HERE / "config.example.yaml"),
    port=int(os.environ.get("AI_GATEWAY_PORT", "5000")),
    environment={name: os.environ[name] for name in ("OPENAI_API_KEY",) if name in os.environ},
)
