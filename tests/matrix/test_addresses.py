"""To which addresses the gateway connects for a request: the provider's, and no other, whatever is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from expected import ExpectedLog
from fakes.upstream import FakeUpstream
from handlers.certificates import write_certificate
from served import WAYS, served

from jupyterhub_ai_gateway.upstream.base import Client
from matrix.bedrock import AT_BEDROCK
from matrix.vendors import VENDORS as USUAL
from matrix.vendors import Seen, Vendor

VENDORS: dict[str, type[Vendor]] = {**USUAL, **AT_BEDROCK}
every_vendor = pytest.mark.parametrize("back", VENDORS)
TEXT = {"type": "text", "text": "What is this?"}


def user(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def bodies(url: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return requests in which a caller names an address, by what they are."""
    image = {"type": "image", "source": {"type": "url", "url": url}}
    document = {"type": "document", "source": {"type": "url", "url": url}}
    chat = {"type": "image_url", "image_url": {"url": url}}
    responses = {"type": "input_text", "text": "What is this?"}
    gemini = {"fileData": {"mimeType": "image/png", "fileUri": url}}
    tool = {"type": "mcp", "server_label": "x", "server_url": url}
    return {
        "an image in a chat": ("v1/chat/completions", {"messages": user(TEXT, chat)}),
        "an image in a message": ("v1/messages", {"max_tokens": 9, "messages": user(TEXT, image)}),
        "a document in a message": ("v1/messages", {"max_tokens": 9, "messages": user(TEXT, document)}),
        "an image in a response": (
            "v1/responses",
            {"input": user(responses, {"type": "input_image", "image_url": url, "detail": "auto"})},
        ),
        "a file in a response": (
            "v1/responses",
            {"input": user(responses, {"type": "input_file", "file_url": url})},
        ),
        "a tool's server": ("v1/responses", {"input": "Hi", "tools": [tool]}),
        "a file in Gemini's format": (
            "v1beta/models/model:generateContent",
            {"contents": [{"role": "user", "parts": [{"text": "What is this?"}, gemini]}]},
        ),
    }


@every_vendor
async def test_what_a_caller_names_by_its_address_is_never_fetched_by_the_gateway(back: str) -> None:
    with FakeUpstream(is_strict=False) as up, FakeUpstream(is_strict=False) as elsewhere:
        vendor = VENDORS[back](up)
        vendor.read = lambda document: Seen()  # type: ignore[method-assign]  # it knows bytes alone
        async with served(None, [vendor.endpoint()]) as running:
            assert (await running.chat(model="model")).status == 200
            for what, (path, body) in bodies(f"{elsewhere.url}/secret.png").items():
                whole = body if "generateContent" in path else {"model": "model", **body}
                answer = await running.ask("POST", path, whole)
                assert answer.status in (200, 400), (what, answer.body)
        assert elsewhere.connections == 0


async def used(client: Client, up: FakeUpstream) -> None:
    assert (client.open_connections, up.connections) == (0, 0)


@pytest.mark.parametrize("way", ["fast", "stock"])
@every_vendor
async def test_a_provider_that_has_to_be_public_is_not_asked_at_a_private_address(
    back: str, way: str, expected_log: ExpectedLog
) -> None:
    with FakeUpstream(is_strict=False) as up:
        own = VENDORS[back](up).endpoint()
        own["model"]["addresses"] = "public"
        async with served(None, [own], **WAYS[way]) as running:
            for is_stream in (False, True):
                answer = await running.chat(model="model", stream=is_stream)
                assert (answer.status, answer.error["code"]) == (502, "upstream_unreachable")
                assert "not at a public address" in answer.error["message"]
                assert "127.0.0.1" not in answer.body.decode()
            await used(running.service.client, up)
    lines = [line for line in expected_log._recorder.lines if "which is this machine" in line]
    assert len(lines) == 2
    expected_log.take("upstream_unreachable")


@every_vendor
async def test_all_that_is_asked_of_a_provider_is_asked_as_its_configuration_says(
    back: str, tmp_path: Path
) -> None:
    certificate, _ = write_certificate(tmp_path)
    with FakeUpstream(is_strict=False) as up:
        own = VENDORS[back](up).endpoint()
        own["model"] |= {"addresses": "public", "tls": {"ca_file": str(certificate)}}
        async with served(None, [own]) as running:
            deployment = running.service.gateway.catalogue.all[0].deployment
            targets = [*deployment.targets.values(), *deployment.stream_targets.values()]
            assert len(targets) > 3
            for each in targets:
                assert each.origin.public_only
                assert each.origin.tls is not None
                assert each.origin.tls.ca_file == str(certificate)
