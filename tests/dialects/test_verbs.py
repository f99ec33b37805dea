"""Every field that a vendor publishes has a verb, and every kind of item is known, be it to be refused."""

from __future__ import annotations

import typing
from typing import Any

import anthropic.types as anthropic_types
import openai.types.chat as chat_types
import openai.types.responses as responses_types
import pytest
from anthropic.types import (
    assistant_message_param,
    message_create_params,
    tool_union_param,
    user_message_param,
)
from fakes.strictly import fields_of
from openai.types import completion_create_params as completions
from openai.types.chat import (
    chat_completion_content_part_image_param,
    chat_completion_content_part_input_audio_param,
    chat_completion_content_part_param,
    chat_completion_custom_tool_param,
    chat_completion_message_custom_tool_call_param,
    chat_completion_message_function_tool_call_param,
    completion_create_params,
)
from openai.types.responses import response_create_params, response_input_item_param, tool_param
from openai.types.shared_params import FunctionDefinition, Reasoning, response_format_json_schema
from typing_extensions import is_typeddict

from jupyterhub_ai_gateway.dialects import chat_front, completions_front, messages_front, responses_front
from jupyterhub_ai_gateway.dialects.loss import Loss, Refused
from jupyterhub_ai_gateway.errors import RequestFault, Untranslatable

OURS = {"model", "stream"}

CHAT = {
    completion_create_params.CompletionCreateParamsBase: chat_front.REQUEST,
    chat_types.ChatCompletionSystemMessageParam: chat_front.SYSTEM,
    chat_types.ChatCompletionDeveloperMessageParam: chat_front.SYSTEM,
    chat_types.ChatCompletionUserMessageParam: chat_front.USER,
    chat_types.ChatCompletionAssistantMessageParam: chat_front.ASSISTANT,
    chat_types.ChatCompletionToolMessageParam: chat_front.TOOL,
    chat_types.ChatCompletionContentPartTextParam: chat_front.TEXT_PART,
    chat_types.ChatCompletionContentPartImageParam: chat_front.IMAGE_PART,
    chat_completion_content_part_image_param.ImageURL: chat_front.IMAGE_URL,
    chat_types.ChatCompletionContentPartInputAudioParam: chat_front.AUDIO_PART,
    chat_completion_content_part_input_audio_param.InputAudio: chat_front.AUDIO,
    chat_completion_content_part_param.File: chat_front.FILE_PART,
    chat_completion_content_part_param.FileFile: chat_front.FILE,
    chat_types.ChatCompletionContentPartRefusalParam: chat_front.REFUSAL_PART,
    chat_types.ChatCompletionMessageFunctionToolCallParam: chat_front.TOOL_CALL,
    chat_types.ChatCompletionMessageCustomToolCallParam: chat_front.TOOL_CALL,
    chat_completion_message_function_tool_call_param.Function: chat_front.FUNCTION_OF_CALL,
    chat_completion_message_custom_tool_call_param.Custom: chat_front.CUSTOM_OF_CALL,
    chat_types.ChatCompletionFunctionToolParam: chat_front.FUNCTION_TOOL,
    chat_types.ChatCompletionCustomToolParam: chat_front.FUNCTION_TOOL,
    FunctionDefinition: chat_front.FUNCTION,
    chat_completion_custom_tool_param.Custom: chat_front.CUSTOM,
    response_format_json_schema.ResponseFormatJSONSchema: chat_front.FORMAT,
    response_format_json_schema.JSONSchema: chat_front.SCHEMA,
    completions.CompletionCreateParamsBase: completions_front.REQUEST,
}
MESSAGES = {
    message_create_params.MessageCreateParamsBase: messages_front.REQUEST,
    user_message_param.UserMessageParam: messages_front.MESSAGE,
    assistant_message_param.AssistantMessageParam: messages_front.MESSAGE,
    anthropic_types.TextBlockParam: messages_front.TEXT,
    anthropic_types.ImageBlockParam: messages_front.IMAGE,
    anthropic_types.DocumentBlockParam: messages_front.DOCUMENT,
    anthropic_types.Base64ImageSourceParam: messages_front.SOURCE,
    anthropic_types.URLImageSourceParam: messages_front.SOURCE,
    anthropic_types.Base64PDFSourceParam: messages_front.SOURCE,
    anthropic_types.PlainTextSourceParam: messages_front.SOURCE,
    anthropic_types.ContentBlockSourceParam: messages_front.SOURCE,
    anthropic_types.URLPDFSourceParam: messages_front.SOURCE,
    anthropic_types.SearchResultBlockParam: messages_front.SEARCH_RESULT,
    anthropic_types.ThinkingBlockParam: messages_front.THINKING,
    anthropic_types.RedactedThinkingBlockParam: messages_front.REDACTED,
    anthropic_types.ToolUseBlockParam: messages_front.TOOL_USE,
    anthropic_types.ToolResultBlockParam: messages_front.TOOL_RESULT,
    anthropic_types.ToolParam: messages_front.TOOL,
    anthropic_types.ToolChoiceAutoParam: messages_front.CHOICE,
    anthropic_types.ToolChoiceAnyParam: messages_front.CHOICE,
    anthropic_types.ToolChoiceToolParam: messages_front.CHOICE,
    anthropic_types.ToolChoiceNoneParam: messages_front.CHOICE,
    anthropic_types.ThinkingConfigEnabledParam: messages_front.THINKING_CONFIG,
    anthropic_types.ThinkingConfigAdaptiveParam: messages_front.THINKING_CONFIG,
    anthropic_types.ThinkingConfigDisabledParam: messages_front.THINKING_CONFIG,
    anthropic_types.OutputConfigParam: messages_front.OUTPUT_CONFIG,
    anthropic_types.JSONOutputFormatParam: messages_front.FORMAT,
    anthropic_types.MetadataParam: messages_front.METADATA,
    anthropic_types.CacheControlEphemeralParam: messages_front.CACHE,
}
RESPONSES = {
    response_create_params.ResponseCreateParamsBase: responses_front.REQUEST,
    responses_types.EasyInputMessageParam: responses_front.MESSAGE,
    responses_types.ResponseOutputMessageParam: responses_front.MESSAGE,
    response_input_item_param.Message: responses_front.MESSAGE,
    responses_types.ResponseInputTextParam: responses_front.INPUT_TEXT,
    responses_types.ResponseOutputTextParam: responses_front.OUTPUT_TEXT,
    responses_types.ResponseInputImageParam: responses_front.INPUT_IMAGE,
    responses_types.ResponseInputFileParam: responses_front.INPUT_FILE,
    responses_types.ResponseOutputRefusalParam: responses_front.REFUSAL,
    responses_types.ResponseFunctionToolCallParam: responses_front.FUNCTION_CALL,
    responses_types.ResponseCustomToolCallParam: responses_front.CUSTOM_CALL,
    response_input_item_param.FunctionCallOutput: responses_front.OUTPUT,
    responses_types.ResponseCustomToolCallOutputParam: responses_front.OUTPUT,
    responses_types.ResponseReasoningItemParam: responses_front.REASONING_ITEM,
    responses_types.FunctionToolParam: responses_front.FUNCTION,
    responses_types.CustomToolParam: responses_front.CUSTOM,
    tool_param.NamespaceToolParam: responses_front.NAMESPACE,
    Reasoning: responses_front.REASONING,
    responses_types.ResponseTextConfigParam: responses_front.TEXT,
    responses_types.ResponseFormatTextJSONSchemaConfigParam: responses_front.FORMAT,
}
TABLES = {**CHAT, **MESSAGES, **RESPONSES}


@pytest.mark.parametrize(
    "kind", TABLES, ids=lambda kind: f"{kind.__module__.split('.')[0]}.{kind.__name__}"
)
def test_every_field_has_a_verb(kind: Any) -> None:
    assert fields_of(kind) - set(TABLES[kind]) - OURS == set()


def test_a_reason_is_the_end_of_a_sentence() -> None:
    for table in TABLES.values():
        for verb in table.values():
            if isinstance(verb, Refused):
                assert verb.why[0].islower()
                assert verb.why[-1] not in ".!"


def kinds(union: Any) -> list[str]:
    """Return the `type` of each member of a union of objects."""
    found = []
    for each in filter(is_typeddict, typing.get_args(union)):
        hints = typing.get_type_hints(each)
        found += typing.get_args(hints["type"])[:1] if "type" in hints else []
    return [kind for kind in found if isinstance(kind, str)]


def outcome(decode: Any, document: dict[str, Any]) -> str:
    """Say what becomes of a request: it is read, it lacks something, or it cannot be translated."""
    try:
        decode(document, Loss("the deployment chat/1"))
    except Untranslatable:
        return "refused"
    except RequestFault as fault:
        return (
            "unknown" if "must be text, image" in fault.public or "must be of" in fault.public else "wrong"
        )
    return "read"


def test_every_block_of_messages_is_known() -> None:
    content = typing.get_type_hints(user_message_param.UserMessageParam)["content"]
    blocks = typing.get_args(typing.get_args(content)[1])[0]
    names = kinds(blocks)
    assert len(names) > 10
    decode = messages_front.MessagesFront().decode_request
    for name in names:
        message = {"role": "user", "content": [{"type": name}]}
        assert outcome(decode, {"max_tokens": 1, "messages": [message]}) in ("refused", "wrong", "read"), (
            name
        )


def test_every_tool_of_messages_is_known() -> None:
    decode = messages_front.MessagesFront().decode_request
    for name in kinds(tool_union_param.ToolUnionParam):
        tool = {"type": name, "name": "x"}
        document = {"max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}], "tools": [tool]}
        assert outcome(decode, document) == ("wrong" if name == "custom" else "refused"), name


def test_every_item_and_tool_of_responses_is_known() -> None:
    decode = responses_front.ResponsesFront().decode_request
    items = set(kinds(response_input_item_param.ResponseInputItemParam))
    assert len(items) > 20
    read = {
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "custom_tool_call_output",
        "message",
    }
    for name in items:
        expected = ("wrong", "read") if name in read or name == "reasoning" else ("refused",)
        assert outcome(decode, {"input": [{"type": name}]}) in expected, name
    for name in kinds(tool_param.ToolParam):
        expected = ("wrong", "read") if name in ("function", "custom", "namespace") else ("refused",)
        assert outcome(decode, {"input": "Hi", "tools": [{"type": name}]}) in expected, name
