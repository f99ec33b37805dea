"""What one call makes of the Hub's configuration, beside whatever the operator wrote there."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jupyterhub.app import JupyterHub
from jupyterhub.spawner import LocalProcessSpawner, Spawner
from traitlets.config import Config

from jupyterhub_ai_gateway.errors import ConfigFault
from jupyterhub_ai_gateway.hub_config import configure, server_token
from jupyterhub_ai_gateway.vocabulary import OPERATIONS

ACCESS = "access:services!service=ai-gateway"
FULL = "custom:ai-gateway:full-access"
CHAT = "custom:ai-gateway:chat:create"
PREMIUM = "custom:ai-gateway:premium"
SELF_URL = "http://127.0.0.1:5000/services/ai-gateway"
SERVER = ["users:activity!user", "access:servers!server"]
EXTERNAL: dict[str, Any] = {"url": "http://10.0.0.7:8000", "api_token": "the-secret-of-both"}


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text("endpoints: []\n")
    return path


@pytest.fixture
def managed(config_file: Path) -> Callable[..., Config]:
    """Return what configures a Hub, a fresh one if none is given, with a gateway that it starts."""

    def run(c: Config | None = None, **options: Any) -> Config:
        c = Config() if c is None else c
        configure(c, config_file=config_file, **options)
        return c

    return run


def role(c: Config, name: str) -> dict[str, Any]:
    (found,) = [role for role in c.JupyterHub.load_roles if role["name"] == name]
    assert isinstance(found, dict)
    return found


def environment_in(c: Config, spawner_class: type[Spawner] = LocalProcessSpawner) -> dict[str, Any]:
    """Return what JupyterHub's own classes make of the configuration."""
    environment: dict[str, Any] = spawner_class(config=c, parent=None).environment
    return environment


# The service


def test_managed_service(managed: Callable[..., Config], config_file: Path) -> None:
    (service,) = managed().JupyterHub.services
    assert service == {
        "name": "ai-gateway",
        "url": "http://127.0.0.1:5000",
        "command": [sys.executable, "-m", "jupyterhub_ai_gateway", "--config", str(config_file)],
        "oauth_no_confirm": True,
        "oauth_client_allowed_scopes": [
            f"custom:ai-gateway:{operation}" for operation in (*OPERATIONS, "admin", "group-usage")
        ],
    }


def test_managed_service_with_all_that_it_takes(managed: Callable[..., Config], config_file: Path) -> None:
    c = managed(
        name="llm", host="hub", port=5001, arguments=["--metrics"], environment={"OPENAI_API_KEY": "sk-1"}
    )
    (service,) = c.JupyterHub.services
    assert (service["name"], service["url"]) == ("llm", "http://hub:5001")
    assert service["command"][3:] == ["--config", str(config_file), "--metrics"]
    assert service["environment"] == {"OPENAI_API_KEY": "sk-1"}


def test_directory_lets_the_gateway_read_groups_and_roles(managed: Callable[..., Config]) -> None:
    c = managed(directory=True)
    found = role(c, "ai-gateway-directory")
    assert found["services"] == ["ai-gateway"]
    assert "read:groups" in found["scopes"]
    assert not [each for each in managed().JupyterHub.load_roles if each["name"] == "ai-gateway-directory"]


def test_traits_file_instead_of_a_configuration_file() -> None:
    c = Config()
    configure(c, arguments=["-f", "gateway.py"])
    assert c.JupyterHub.services[0]["command"][3:] == ["-f", "gateway.py"]


def test_external_service() -> None:
    c = Config()
    setup = configure(c, **EXTERNAL)
    (service,) = c.JupyterHub.services
    assert (service["url"], service["api_token"]) == ("http://10.0.0.7:8000", "the-secret-of-both")
    assert "command" not in service
    assert setup.server_url == "http://10.0.0.7:8000/services/ai-gateway"
    assert "JUPYTERHUB_SERVICE_PREFIX=/services/ai-gateway/" in setup.explain()


def test_operators_services_stay(managed: Callable[..., Config]) -> None:
    c = Config()
    c.JupyterHub.services = [{"name": "culler", "command": ["cull"]}]
    assert [service["name"] for service in managed(c).JupyterHub.services] == ["culler", "ai-gateway"]


def test_services_that_were_only_appended_stay(managed: Callable[..., Config]) -> None:
    c = Config()
    c.JupyterHub.services.append({"name": "culler", "command": ["cull"]})
    assert [service["name"] for service in managed(c).JupyterHub.services] == ["culler", "ai-gateway"]


def test_operators_own_entry_is_completed() -> None:
    """The Hub's Helm chart makes the entry, with a token that it invents."""
    c = Config()
    c.JupyterHub.services = [
        {"name": "ai-gateway", "api_token": "invented", "display": False, "oauth_no_confirm": False}
    ]
    configure(c, url="http://ai-gateway:8000")
    (service,) = c.JupyterHub.services
    assert (service["api_token"], service["url"]) == ("invented", "http://ai-gateway:8000")
    assert (service["display"], service["oauth_no_confirm"]) == (False, False)
    assert CHAT in service["oauth_client_allowed_scopes"]


@pytest.mark.parametrize("key", ["url", "api_token"])
def test_operators_own_entry_that_disagrees(key: str) -> None:
    c = Config()
    c.JupyterHub.services = [{"name": "ai-gateway", key: "http://something.else"}]
    before = repr(c)
    with pytest.raises(ConfigFault, match=f"ai-gateway: {key}: was set before") as caught:
        configure(c, **EXTERNAL)
    assert "the-secret-of-both" not in str(caught.value)
    assert repr(c) == before


def test_second_call_changes_nothing(managed: Callable[..., Config], config_file: Path) -> None:
    c = managed(endpoint_scopes=["premium"], clients=["openai", "anthropic"])
    c.LocalProcessSpawner.server_token_scopes = lambda spawner: ["self"]
    managed(c, endpoint_scopes=["premium"], clients=["openai", "anthropic"])
    before = repr(c)
    options: dict[str, Any] = {"endpoint_scopes": ["premium"], "clients": ["openai", "anthropic"]}
    assert configure(c, config_file=config_file, **options).changes == ()
    assert repr(c) == before


# Scopes


def test_every_scope_is_defined(managed: Callable[..., Config]) -> None:
    defined = managed(endpoint_scopes={"premium": "Use what is expensive"}).JupyterHub.custom_scopes
    operations = [f"custom:ai-gateway:{operation}" for operation in OPERATIONS]
    staff = {"custom:ai-gateway:admin", "custom:ai-gateway:group-usage"}
    assert set(defined) == {FULL, *operations, PREMIUM, *staff}
    assert defined[FULL]["subscopes"] == operations  # neither the administrators' nor an endpoint's
    assert defined[PREMIUM]["description"] == "Use what is expensive"
    assert all(each["description"] for each in defined.values())


def test_operators_own_definitions_stay(managed: Callable[..., Config]) -> None:
    c = Config()
    c.JupyterHub.custom_scopes = {
        FULL: {"description": "Use the models", "subscopes": ["custom:ours:too"]},
        "custom:ours:too": {"description": "Ours"},
    }
    defined = managed(c).JupyterHub.custom_scopes
    assert defined["custom:ours:too"] == {"description": "Ours"}
    assert defined[FULL]["description"] == "Use the models"
    assert {"custom:ours:too", CHAT} <= set(defined[FULL]["subscopes"])


def test_definitions_that_were_only_updated_stay(managed: Callable[..., Config]) -> None:
    c = Config()
    c.JupyterHub.custom_scopes.update({"custom:ours:too": {"description": "Ours"}})
    assert {"custom:ours:too", CHAT} <= set(managed(c).JupyterHub.custom_scopes)


# Who may


def test_everybody_may(managed: Callable[..., Config]) -> None:
    assert managed().JupyterHub.load_roles == [
        {"name": "user", "scopes": ["self", ACCESS, FULL]},
        {"name": "server", "scopes": [*SERVER, ACCESS, FULL]},
    ]


def test_some_may_some(managed: Callable[..., Config]) -> None:
    c = managed(
        users=["alice"], groups=["ai"], scopes=["chat:create", "premium"], endpoint_scopes=["premium"]
    )
    assert c.JupyterHub.load_roles == [
        {
            "name": "ai-gateway-user",
            "scopes": [ACCESS, CHAT, PREMIUM],
            "users": ["alice"],
            "groups": ["ai"],
        },
        {"name": "server", "scopes": [*SERVER, ACCESS, FULL, PREMIUM]},
    ]


def test_no_scopes_leave_it_to_the_operators_roles(managed: Callable[..., Config]) -> None:
    assert [role["name"] for role in managed(scopes=[]).JupyterHub.load_roles] == ["server"]


def test_operators_roles_are_extended(managed: Callable[..., Config]) -> None:
    c = Config()
    theirs = [
        {"name": "user", "description": "All of us", "scopes": ["self", "read:hub"]},
        {"name": "server", "scopes": ["access:servers!server"]},
        {"name": "culler", "scopes": ["servers"]},
    ]
    c.JupyterHub.load_roles = theirs
    managed(c)
    assert role(c, "user") == {
        "name": "user",
        "description": "All of us",
        "scopes": ["self", "read:hub", ACCESS, FULL],
    }
    assert role(c, "server")["scopes"] == ["access:servers!server", ACCESS, FULL]
    assert role(c, "culler")["scopes"] == ["servers"]
    assert theirs[0]["scopes"] == ["self", "read:hub"]  # another file may use it again


def test_role_without_scopes_keeps_its_default(managed: Callable[..., Config]) -> None:
    c = Config()
    c.JupyterHub.load_roles = [{"name": "user", "description": "All of us"}]
    assert role(managed(c), "user")["scopes"] == ["self", ACCESS, FULL]


@pytest.mark.parametrize("form", [set, list])
def test_extra_user_scopes_are_not_silenced(managed: Callable[..., Config], form: type) -> None:
    c = Config()
    c.JupyterHub.extra_user_scopes = form(["read:hub"])
    assert set(managed(c).JupyterHub.extra_user_scopes) == {"read:hub", ACCESS, FULL}
    assert [role["name"] for role in c.JupyterHub.load_roles] == ["server"]


def test_extra_user_scopes_that_were_only_added_stay(managed: Callable[..., Config]) -> None:
    c = Config()
    c.JupyterHub.extra_user_scopes.add("read:hub")
    assert set(managed(c).JupyterHub.extra_user_scopes) == {"read:hub", ACCESS, FULL}


def test_roles_that_the_authenticator_manages(managed: Callable[..., Config]) -> None:
    c = Config()
    c.GenericOAuthenticator.manage_roles = True
    with pytest.raises(ConfigFault, match=r"c\.GenericOAuthenticator\.manage_roles"):
        managed(c, groups=["ai"])
    managed(c)


def test_server_token_scopes_are_extended_where_they_are(managed: Callable[..., Config]) -> None:
    c = Config()
    c.Spawner.server_token_scopes = ["self"]
    c.KubeSpawner.server_token_scopes = ["read:hub"]
    managed(c, server_url="http://proxy/services/ai-gateway")
    assert c.Spawner.server_token_scopes == ["self", ACCESS, FULL]
    assert c.KubeSpawner.server_token_scopes == ["read:hub", ACCESS, FULL]
    assert "server" not in [role["name"] for role in c.JupyterHub.load_roles]


def test_server_token_scopes_from_a_function_are_extended(managed: Callable[..., Config]) -> None:
    c = Config()
    c.Spawner.server_token_scopes = lambda spawner: ["self", f"read:users!user={spawner.name}"]
    asked = managed(c).Spawner.server_token_scopes(SimpleNamespace(name="alice"))
    assert asked == ["self", "read:users!user=alice", ACCESS, FULL]


# What a notebook server finds


def test_environment(managed: Callable[..., Config]) -> None:
    environment = environment_in(managed())
    assert environment == {"OPENAI_BASE_URL": f"{SELF_URL}/v1", "OPENAI_API_KEY": server_token}
    assert server_token(SimpleNamespace(api_token="t0ken")) == "t0ken"


def test_environment_of_the_anthropic_clients(managed: Callable[..., Config]) -> None:
    environment = environment_in(managed(clients=["anthropic"]))
    assert environment == {"ANTHROPIC_BASE_URL": SELF_URL, "ANTHROPIC_AUTH_TOKEN": server_token}


def test_environment_of_google_s_clients(managed: Callable[..., Config]) -> None:
    environment = environment_in(managed(clients=["gemini"]))
    assert environment == {"GOOGLE_GEMINI_BASE_URL": SELF_URL, "GEMINI_API_KEY": server_token}


def test_environment_of_mlflow_s_clients(managed: Callable[..., Config]) -> None:
    assert environment_in(managed(clients=["mlflow"])) == {
        "MLFLOW_GATEWAY_URI": SELF_URL,
        "MLFLOW_DEPLOYMENTS_TARGET": SELF_URL,
        "MLFLOW_TRACKING_TOKEN": server_token,
    }


@pytest.mark.parametrize("section", ["Spawner", "LocalProcessSpawner"])
@pytest.mark.parametrize("is_lazy", [True, False])
def test_operators_environment_stays(managed: Callable[..., Config], section: str, is_lazy: bool) -> None:
    """A section of a spawner's own takes the place of Spawner's."""
    c = Config()
    if is_lazy:
        c[section].environment.update({"LANG": "C.UTF-8"})
    else:
        c[section].environment = {"LANG": "C.UTF-8"}
    environment = environment_in(managed(c))
    assert environment["LANG"] == "C.UTF-8"
    assert environment["OPENAI_BASE_URL"] == f"{SELF_URL}/v1"


def test_lazy_section_does_not_hide_another(managed: Callable[..., Config]) -> None:
    c = Config()
    c.Spawner.environment = {"LANG": "C.UTF-8"}
    c.LocalProcessSpawner.environment.update({"EDITOR": "vi"})
    assert set(environment_in(managed(c))) == {"LANG", "EDITOR", "OPENAI_BASE_URL", "OPENAI_API_KEY"}


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "OPENAI_BASE_URL"])
def test_operators_own_key_is_not_sent_to_the_gateway(
    managed: Callable[..., Config], config_file: Path, variable: str
) -> None:
    c = Config()
    c.Spawner.environment = {variable: "theirs"}
    setup = configure(c, config_file=config_file, clients=["openai", "anthropic"])
    assert set(environment_in(c)) == {variable, "ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN"}
    assert f"c.Spawner.environment sets {variable}" in setup.explain()


# Where servers find it


@pytest.mark.parametrize(
    ("hub", "options", "server_url"),
    [
        ({}, {}, SELF_URL),
        ({"spawner_class": "simple"}, {"port": 5001}, "http://127.0.0.1:5001/services/ai-gateway"),
        ({"base_url": "/jupyter"}, {}, "http://127.0.0.1:5000/jupyter/services/ai-gateway"),
        ({"bind_url": "http://:80/j/"}, {}, "http://127.0.0.1:5000/j/services/ai-gateway"),
        ({"spawner_class": LocalProcessSpawner}, {"host": "::1"}, "http://[::1]:5000/services/ai-gateway"),
        ({}, EXTERNAL, "http://10.0.0.7:8000/services/ai-gateway"),
        ({"spawner_class": "kubespawner.KubeSpawner"}, EXTERNAL, "http://proxy-public/services/ai-gateway"),
        (
            {"spawner_class": type("KubeSpawner", (), {}), "base_url": "/a/b/"},
            EXTERNAL,
            "http://proxy-public/a/b/services/ai-gateway",
        ),
        ({"spawner_class": "docker"}, EXTERNAL, "http://10.0.0.7:8000/services/ai-gateway"),
        ({"spawner_class": "docker", "hub_ip": "hub"}, {}, "http://hub:8000/services/ai-gateway"),
        (
            {
                "spawner_class": "dockerspawner.SwarmSpawner",
                "hub_ip": "0.0.0.0",
                "hub_connect_ip": "jupyterhub",
                "bind_url": "http://:9000",
            },
            {},
            "http://jupyterhub:9000/services/ai-gateway",
        ),
        ({"spawner_class": "docker"}, {"server_url": "https://hub.example/x/v1/"}, "https://hub.example/x"),
        ({"spawner_class": "docker"}, {"server_url": "http://gw:5000"}, "http://gw:5000"),
    ],
)
def test_address(config_file: Path, hub: dict[str, Any], options: dict[str, Any], server_url: str) -> None:
    c = Config({"JupyterHub": hub})
    file = {} if "url" in options else {"config_file": config_file}
    setup = configure(c, **file, **options)
    assert setup.server_url == server_url
    assert c.Spawner.environment["OPENAI_BASE_URL"] == f"{server_url}/v1"


@pytest.mark.parametrize(
    ("hub", "options", "problem"),
    [
        ({"spawner_class": "docker"}, {}, "server_url=….: is needed"),
        ({"spawner_class": "docker", "hub_ip": "0.0.0.0"}, {}, "server_url=….: is needed"),
        ({"spawner_class": "kubespawner.KubeSpawner"}, {}, "url=….: is needed on Kubernetes"),
        ({"internal_ssl": True}, {}, "url=….: is needed with c.JupyterHub.internal_ssl"),
        ({}, {"host": "0.0.0.0"}, "host=….: must be a name or an address"),
        ({}, {"name": "AI"}, "name=….: must begin with a letter"),
        ({}, {"name": "ai/gateway"}, "name"),
        ({}, {"port": 0}, "port=….: must be a number from 1 to 65535"),
        ({}, {"port": "5000"}, "port"),
        ({}, {"server_url": "hub:8000"}, "server_url=….: must begin with http"),
        ({}, {"scopes": ["chat"]}, "scopes=….: must be of full-access, models:list, .*found 'chat'"),
        ({}, {"scopes": ["admin"]}, "scopes=….: must be of"),
        ({}, {"endpoint_scopes": ["Premium"]}, "endpoint_scopes=….: must be short names"),
        ({}, {"endpoint_scopes": ["full-access"]}, "endpoint_scopes=….: must be short names"),
        ({}, {"endpoint_scopes": "premium"}, "endpoint_scopes=….: must be a list"),
        ({}, {"clients": ["cohere"]}, "clients=….: must be of openai, anthropic, gemini, mlflow"),
        ({}, {"api_token": "x"}, "api_token=….: is for a gateway that runs by itself"),
        ({}, {"environment": {"KEY": None}}, "environment=….: must have texts only; KEY is NoneType"),
        ({}, {"arguments": "--metrics"}, "arguments=….: must be a list"),
        ({}, {"config_file": "no/such.yaml"}, r"config_file=….: .*no/such.yaml is not a file"),
        ({}, {"config_file": None}, "config_file=….: is needed"),
        ({}, {"url": "http://gw:5000"}, "url=….: means that the gateway runs by itself"),
        ({}, {"url": "http://gw:5000", "config_file": None}, "api_token=….: is needed with url"),
        ({}, {"url": "gw:5000", "config_file": None}, "url=….: must begin with http"),
    ],
)
def test_fault_leaves_all_as_it_was(
    config_file: Path, hub: dict[str, Any], options: dict[str, Any], problem: str
) -> None:
    c = Config({"JupyterHub": hub})
    with pytest.raises(ConfigFault, match=problem):
        configure(c, **{"config_file": config_file, **options})
    assert c == Config({"JupyterHub": hub})


# What it says of itself


def test_explanation_is_the_long_form(managed: Callable[..., Config], config_file: Path) -> None:
    options: dict[str, Any] = {"groups": ["ai"], "endpoint_scopes": ["premium"]}
    short = Config()
    text = configure(short, config_file=config_file, **options).explain()
    long = Config()
    exec(text, {"c": long})
    assert long.JupyterHub.services.get_value([]) == short.JupyterHub.services
    assert long.JupyterHub.load_roles.get_value([]) == short.JupyterHub.load_roles
    assert long.JupyterHub.custom_scopes.get_value({}) == short.JupyterHub.custom_scopes
    environment = long.Spawner.environment.get_value({})
    assert environment["OPENAI_BASE_URL"] == short.Spawner.environment["OPENAI_BASE_URL"]
    assert environment["OPENAI_API_KEY"](SimpleNamespace(api_token="t0ken")) == "t0ken"


def test_explanation_is_logged_without_secrets(config_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        setup = configure(Config(), config_file=config_file, environment={"OPENAI_API_KEY": "sk-1"})
        other = configure(Config(), **EXTERNAL)
    assert setup.explain() in caplog.text
    assert "'OPENAI_API_KEY': '...'" in setup.explain()
    for text in (caplog.text, repr(setup), repr(other)):
        assert "sk-1" not in text
        assert "the-secret-of-both" not in text


def test_page_shows_what_the_call_does(managed: Callable[..., Config]) -> None:
    """The long form in the documentation stays true."""
    page = Path(__file__).parent.parent / "docs" / "howto" / "configure-by-hand.md"
    code = page.read_text().split("```python\n")[2].split("```")[0]
    by_hand = Config()
    exec(code, {"c": by_hand})
    by_call = managed()
    (theirs,), (ours,) = by_hand.JupyterHub.services, by_call.JupyterHub.services
    assert {**theirs, "command": None} == {**ours, "command": None}
    assert theirs["command"][1:-1] == ours["command"][1:-1]
    assert by_hand.JupyterHub.custom_scopes == by_call.JupyterHub.custom_scopes
    assert by_hand.JupyterHub.load_roles == by_call.JupyterHub.load_roles
    assert by_hand.Spawner.environment.keys() == by_call.Spawner.environment.keys()
    assert by_hand.Spawner.environment["OPENAI_BASE_URL"] == by_call.Spawner.environment["OPENAI_BASE_URL"]


def test_hub_takes_it(managed: Callable[..., Config]) -> None:
    """Its own class accepts each value."""
    c = managed(clients=["openai", "anthropic"])
    hub = JupyterHub(config=c)
    assert [service["name"] for service in hub.services] == ["ai-gateway"]
    assert FULL in hub.custom_scopes


def test_import_is_cheap() -> None:
    """The Hub's process gets nothing but this, and only from the standard library."""
    code = (
        "import sys; import jupyterhub_ai_gateway.hub_config; "
        "ours = {name.partition('.')[0] for name in sys.modules}; "
        "print(sorted(ours - sys.stdlib_module_names - before))"
    )
    code = "import sys; before = {name.partition('.')[0] for name in sys.modules}; " + code
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['jupyterhub_ai_gateway']"
