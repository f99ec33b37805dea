"""Where requests go, and where they never do: sockets, certificates, proxies, redirects."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from expected import ExpectedLog
from fakes.upstream import FakeUpstream, Reply
from handlers.certificates import write_certificate
from served import KEY, WAYS, endpoint, served

from jupyterhub_ai_gateway.config import DnsConfig, load, parse
from jupyterhub_ai_gateway.errors import ConfigFault
from jupyterhub_ai_gateway.providers.registry import Providers

every_way = pytest.mark.parametrize("way", WAYS)
PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy")


@every_way
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(way: str, status: int, expected_log: ExpectedLog) -> None:
    with FakeUpstream(key=KEY) as up, FakeUpstream(key=KEY) as elsewhere:
        up.always(Reply(status, [("Location", f"{elsewhere.url}/v1/chat/completions")]))
        async with served(up, **WAYS[way]) as running:
            for is_stream in (False, True):
                answer = await running.chat(stream=is_stream)
                assert (answer.status, answer.error["code"]) == (502, "upstream_error")
                assert "location" not in answer.headers
        assert elsewhere.connections == 0
    expected_log.take("upstream_error")


@every_way
async def test_a_model_behind_a_socket_of_this_machine(way: str, tmp_path: Path) -> None:
    with FakeUpstream(key=KEY, unix=tmp_path / "model.sock") as up:
        async with served(up, **WAYS[way]) as running:
            assert (await running.chat()).status == 200
            assert (await running.chat(stream=True)).status == 200
            assert up.requests[0].path == "/v1/chat/completions"


@every_way
async def test_certificates_of_one_s_own(way: str, tmp_path: Path, expected_log: ExpectedLog) -> None:
    certificate, key = write_certificate(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    with FakeUpstream(key=KEY, tls=server) as up:
        trusted, other = endpoint("chat", up), endpoint("other", up)
        trusted["model"]["tls"] = {"ca_file": str(certificate)}
        async with served(None, [trusted, other], **WAYS[way]) as running:
            assert (await running.chat()).status == 200
            answer = await running.chat(model="other")
            assert (answer.status, answer.error["code"]) == (502, "upstream_unreachable")
    expected_log.take("upstream_unreachable")


@pytest.mark.parametrize("is_asked", [False, True])
async def test_the_environment_s_proxies_count_only_when_the_configuration_says_so(
    is_asked: bool, monkeypatch: pytest.MonkeyPatch, expected_log: ExpectedLog
) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    with FakeUpstream(key=KEY) as up, FakeUpstream(is_strict=False) as proxy:
        proxy.always(Reply.error(503, "proxied"))
        monkeypatch.setenv("http_proxy", proxy.url)
        config: dict[str, Any] = {"proxy_from_environment": is_asked}
        async with served(up, config=config) as running:
            answer = await running.chat()
            assert answer.status == (503 if is_asked else 200)
            assert (len(proxy.requests), len(up.requests)) == ((1, 0) if is_asked else (0, 1))
            config["proxy_from_environment"] = not is_asked
    if is_asked:
        expected_log.take("upstream_overloaded")


@every_way
async def test_names_are_resolved_as_a_new_configuration_says(way: str) -> None:
    with FakeUpstream(key=KEY) as up:
        own = endpoint("chat", up)
        own["model"]["config"]["openai_api_base"] = f"http://localhost:{up.port}/v1"
        async with served(None, [own], config={"dns": {"family": "ipv4"}}, **WAYS[way]) as running:
            assert (await running.chat()).status == 200
            assert running.service.client.names.config == DnsConfig(family="ipv4")
            document = {"endpoints": [own], "ledger": False, "dns": {"connection_age_s": 1}}
            changed = parse(document, Providers.installed().schemas, {})
            object.__setattr__(running.service.options, "load", lambda: changed)
            assert await running.service.reload()
            assert running.service.client.names.config == DnsConfig(connection_age_s=1.0)
            assert (await running.chat()).status == 200


async def test_other_proxies_count_after_a_restart(expected_log: ExpectedLog) -> None:
    with FakeUpstream(key=KEY) as up:
        async with served(up) as running:
            read = running.service.options.load
            changed = parse(
                {"endpoints": [endpoint("chat", up)], "proxy_from_environment": True, "ledger": False},
                Providers.installed().schemas,
                {},
            )
            object.__setattr__(running.service.options, "load", lambda: changed)
            assert await running.service.reload()
            object.__setattr__(running.service.options, "load", read)
    expected_log.take("proxy_from_environment is new")


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    (tmp_path / "junk.pem").write_text("no certificate")
    wrong: list[tuple[Any, str]] = [
        ({}, "tls.ca_file: is required"),
        ({"ca_file": "missing.pem"}, "tls.ca_file: names no file"),
        ({"ca_file": str(tmp_path / "junk.pem")}, "tls.ca_file: holds no certificates"),
        ({"cert_file": str(certificate)}, "tls.cert_file: and key_file"),
        ({"cert_file": str(key), "key_file": str(key)}, "tls.cert_file: and key_file"),
        ({"key_file": str(key)}, "tls.cert_file: is required beside key_file"),
        ({"ca_file": str(certificate), "verify": False}, "tls.verify"),
    ]
    for tls, text in wrong:
        own = endpoint("chat", None)
        own["model"]["tls"] = tls
        with pytest.raises(ConfigFault) as caught:
            parse({"endpoints": [own]}, Providers.installed().schemas, {})
        assert f"endpoints[0].model.{text}" in str(caught.value)


def test_certificates_are_watched_like_the_configuration(tmp_path: Path) -> None:
    certificate, _ = write_certificate(tmp_path)
    file = tmp_path / "config.yaml"
    file.write_text(
        "endpoints:\n  - name: chat\n    endpoint_type: llm/v1/chat\n"
        "    model: {provider: echo, tls: {ca_file: certificate.pem}}\n"
    )
    config = load(file, Providers.installed().schemas, {})
    assert certificate in config.files
    tls = config.endpoints[0].model.tls
    assert tls is not None
    assert tls.ca_file == str(certificate)


@pytest.mark.parametrize("url", ["http+unix://run/x.sock/v1", "http+unix:///run/x.sock", "http+unix://%2F"])
def test_a_wrong_socket_is_named(url: str) -> None:
    model = {"provider": "vllm", "name": "m", "config": {"api_base": url}}
    own = {"name": "chat", "endpoint_type": "llm/v1/chat", "model": model}
    with pytest.raises(ConfigFault, match=r"api_base: must be http\+unix://"):
        parse({"endpoints": [own]}, Providers.installed().schemas, {})
