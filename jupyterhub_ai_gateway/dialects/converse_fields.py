"""Every member of a Converse request, and what families of models take of them.

A table for each of Bedrock's structures has a verb for each member:

    MAPPED   written from what a caller asks for
    UNSAID   no caller's format says it, or it is for the operator to say; never written here

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html (read 2026-11).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from .canonical import Json
from .loss import DROPPED, MAPPED, Refused, Table, Verb

UNSAID: Final = "unsaid"

TABLES: Mapping[str, Table] = {
    "ConverseRequest": {
        "modelId": MAPPED,
        "messages": MAPPED,
        "system": MAPPED,
        "inferenceConfig": MAPPED,
        "toolConfig": MAPPED,
        "guardrailConfig": UNSAID,
        "additionalModelRequestFields": MAPPED,
        "promptVariables": UNSAID,
        "additionalModelResponseFieldPaths": UNSAID,
        "requestMetadata": MAPPED,
        "performanceConfig": UNSAID,
        "projectIdentifier": UNSAID,
        "serviceTier": MAPPED,
        "outputConfig": MAPPED,
    },
    "Message": {"role": MAPPED, "content": MAPPED},
    "ContentBlock": {
        "text": MAPPED,
        "image": MAPPED,
        "document": MAPPED,
        "video": UNSAID,
        "audio": MAPPED,
        "toolUse": MAPPED,
        "toolResult": MAPPED,
        "guardContent": UNSAID,
        "cachePoint": MAPPED,
        "reasoningContent": MAPPED,
        "citationsContent": UNSAID,
        "searchResult": UNSAID,
        "toolAddition": UNSAID,
        "toolRemoval": UNSAID,
    },
    "ImageBlock": {"format": MAPPED, "source": MAPPED, "error": UNSAID},
    "ImageSource": {"bytes": MAPPED, "s3Location": UNSAID},
    "DocumentBlock": {
        "format": MAPPED,
        "name": MAPPED,
        "source": MAPPED,
        "context": MAPPED,
        "citations": MAPPED,
    },
    "DocumentSource": {"bytes": MAPPED, "s3Location": UNSAID, "text": UNSAID, "content": UNSAID},
    "CitationsConfig": {"enabled": MAPPED},
    "AudioBlock": {"format": MAPPED, "source": MAPPED, "error": UNSAID},
    "AudioSource": {"bytes": MAPPED, "s3Location": UNSAID},
    "ToolUseBlock": {"toolUseId": MAPPED, "name": MAPPED, "input": MAPPED, "type": UNSAID},
    "ToolResultBlock": {"toolUseId": MAPPED, "content": MAPPED, "status": MAPPED, "type": UNSAID},
    "ToolResultContentBlock": {
        "json": UNSAID,
        "text": MAPPED,
        "image": MAPPED,
        "document": MAPPED,
        "video": UNSAID,
        "searchResult": UNSAID,
    },
    "CachePointBlock": {"type": MAPPED, "ttl": MAPPED},
    "ReasoningContentBlock": {"reasoningText": MAPPED, "redactedContent": MAPPED},
    "ReasoningTextBlock": {"text": MAPPED, "signature": MAPPED},
    "SystemContentBlock": {"text": MAPPED, "guardContent": UNSAID, "cachePoint": MAPPED},
    "InferenceConfiguration": {
        "maxTokens": MAPPED,
        "temperature": MAPPED,
        "topP": MAPPED,
        "stopSequences": MAPPED,
    },
    "ToolConfiguration": {"tools": MAPPED, "toolChoice": MAPPED},
    "Tool": {"toolSpec": MAPPED, "systemTool": UNSAID, "cachePoint": MAPPED},
    "ToolSpecification": {"name": MAPPED, "description": MAPPED, "inputSchema": MAPPED, "strict": MAPPED},
    "ToolInputSchema": {"json": MAPPED},
    "ToolChoice": {"auto": MAPPED, "any": MAPPED, "tool": MAPPED},
    "AutoToolChoice": {},
    "AnyToolChoice": {},
    "SpecificToolChoice": {"name": MAPPED},
    "ServiceTier": {"type": MAPPED},
    "OutputConfig": {"textFormat": MAPPED, "effort": MAPPED},
    "OutputFormat": {"type": MAPPED, "structure": MAPPED},
    "OutputFormatStructure": {"jsonSchema": MAPPED},
    "JsonSchemaDefinition": {"schema": MAPPED, "name": MAPPED, "description": MAPPED},
}

LACKS: Mapping[str, Verb] = {
    "n": Refused("asks for more than one answer"),
    "logprobs": Refused("asks for probabilities"),
    "top_logprobs": DROPPED,
    "seed": DROPPED,
    "frequency_penalty": DROPPED,
    "presence_penalty": DROPPED,
    "logit_bias": DROPPED,
    "verbosity": DROPPED,
    "cache_key": DROPPED,
}
"""What callers may ask for and a Converse request has no member for."""

IMAGES = ("png", "jpeg", "gif", "webp")
AUDIO: Mapping[str, str] = {
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/flac": "flac",
    "audio/ogg": "ogg",
    "audio/opus": "opus",
    "audio/aac": "aac",
    "audio/mp4": "mp4",
    "audio/m4a": "m4a",
    "audio/webm": "webm",
}
_OFFICE = "application/vnd.openxmlformats-officedocument."
DOCUMENTS: Mapping[str, str] = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    f"{_OFFICE}wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    f"{_OFFICE}spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
}
TIERS: Mapping[str, str] = {
    "default": "default",
    "standard_only": "default",
    "flex": "flex",
    "priority": "priority",
}

_REGIONS = re.compile(r"^(?:us-gov|us|eu|apac|ap|au|jp|ca|sa|me|af|il|mx|global)\.")
_EFFORTS: Mapping[str, str] = {"minimal": "low", "low": "low", "medium": "medium"}


@dataclass(frozen=True, slots=True)
class Family:
    """Whose model it is, by its id or the end of its ARN, and what such models take.

    Source: https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html, /prompt-caching.html
    and https://docs.aws.amazon.com/nova/latest/nova2-userguide/extended-thinking.html (read 2026-11).
    """

    vendor: str
    model: str

    @classmethod
    def named(cls, model: str) -> Family:
        own = _REGIONS.sub("", model.rpartition("/")[2])
        return cls(own.partition(".")[0] if "." in own else "", own)

    @property
    def is_claude(self) -> bool:
        return self.vendor == "anthropic"

    @property
    def is_nova(self) -> bool:
        return "nova" in self.model and self.vendor == "amazon"

    @property
    def maker(self) -> str:
        """Return who signs what these models think."""
        return self.vendor or "bedrock"

    @property
    def takes_cache(self) -> bool:
        """Say whether it may be told what to remember."""
        return self.is_claude or self.is_nova

    @property
    def takes_status(self) -> bool:
        """Say whether it may be told by a field that a tool has failed."""
        return self.is_claude or self.is_nova

    def top_k(self, value: int) -> dict[str, Json]:
        """Return how these models are told a top_k; empty where they cannot be."""
        if self.is_nova:
            return {"inferenceConfig": {"topK": value}}
        if self.vendor == "cohere":
            return {"k": value}
        return {"top_k": value} if self.vendor in ("anthropic", "mistral") else {}

    def effort(self, effort: str) -> dict[str, Json]:
        """Return how these models are told how hard to think; empty where they cannot be."""
        told = _EFFORTS.get(effort, "high")
        if self.is_nova and "nova-2" in self.model:
            return {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": told}}
        return {"reasoning_effort": told} if self.vendor == "openai" else {}
