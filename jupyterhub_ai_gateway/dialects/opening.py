"""A request of a caller's: opened at its top level only, so that all inside it stays as it came.

A key that is there twice, be it spelled with escapes, counts once, and the last one wins, for us and for
the provider: the body that is sent is always written anew from the fields that were read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from ..errors import RequestFault
from ..vocabulary import (
    CHAT,
    COHERE_CHAT,
    COHERE_EMBED,
    COMPLETIONS,
    COUNT_CONTENT,
    COUNT_TOKENS,
    COUNTING,
    EMBEDDINGS,
    FIM,
    GENERATE_CONTENT,
    IMAGE_EDITS,
    IMAGE_VARIATIONS,
    IMAGES,
    INPUT_TOKENS,
    MESSAGES,
    MISTRAL_CHAT,
    MISTRAL_EMBED,
    MODERATIONS,
    RERANK,
    RESPONSES,
    SPEECH,
    TRANSCRIPTIONS,
    TRANSLATIONS,
    WITHOUT_OUTPUT,
    Operation,
)
from . import gemini_request
from .foreign import is_foreign, native
from .policy import (
    CHAT_VERBS,
    COHERE_CHAT_VERBS,
    COHERE_EMBED_VERBS,
    COMPLETIONS_VERBS,
    EMBEDDINGS_VERBS,
    GEMINI_VERBS,
    IMAGE_EDITS_VERBS,
    IMAGES_VERBS,
    INNER,
    INPUT_TOKENS_VERBS,
    MESSAGES_VERBS,
    MISTRAL_CHAT_VERBS,
    MISTRAL_VERBS,
    MODERATIONS_VERBS,
    OVERWRITE,
    OVERWRITE_USER_ID,
    REFUSE,
    REFUSE_FILE_IDS,
    REFUSE_FILES,
    REFUSE_SHARED_TOOLS,
    REFUSE_WITHIN,
    RERANK_VERBS,
    RESPONSES_VERBS,
    SHARED_TOOLS,
    SPEECH_VERBS,
    TRANSCRIPTIONS_VERBS,
    UNSTORED,
    Verbs,
    file_named_in,
    refused,
    typed_items,
)

Fields = dict[str, msgspec.Raw]

MAX_MODEL_CHARS = 256

_TELL_USAGE = (MESSAGES, RESPONSES, GENERATE_CONTENT, COHERE_CHAT, MISTRAL_CHAT, FIM)
"""Their streams always tell usage, so there is nothing to ask for, and nothing to hide."""
_GEMINI = (GENERATE_CONTENT, COUNT_CONTENT)
_MLFLOW_LEGACY = {"candidate_count": "n", "text": "input", "texts": "input"}
_WITHOUT_STREAMS = WITHOUT_OUTPUT | {SPEECH} | COUNTING
_MODEL_OPTIONAL = (IMAGES, IMAGE_EDITS, IMAGE_VARIATIONS, MODERATIONS, RERANK)
"""Whose vendors have a usual model; ours is the only one that a caller may use."""
_TRUE: Final = b"true"
_NOTHING: Final = (b"null", b"false")
_LIST, _TEXT, _OBJECT = b"["[0], b'"'[0], b"{"[0]

_FILE_ID = re.compile(rb'"file_id"\s*:|\\u')

_fields = msgspec.json.Decoder(Fields).decode
_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Format:
    """What an operation's request looks like: the field that must be there, of which JSON kinds.

    Where one of `instead` is there, the field need not be.
    """

    operation: Operation
    content: str
    kinds: bytes
    kinds_text: str
    verbs: Verbs
    instead: tuple[str, ...] = ()


FORMATS: Mapping[Operation, Format] = {
    CHAT: Format(CHAT, "messages", b"[", "a list of messages", CHAT_VERBS),
    COMPLETIONS: Format(COMPLETIONS, "prompt", b'["', "text or a list", COMPLETIONS_VERBS),
    EMBEDDINGS: Format(EMBEDDINGS, "input", b'["', "text or a list", EMBEDDINGS_VERBS),
    MESSAGES: Format(MESSAGES, "messages", b"[", "a list of messages", MESSAGES_VERBS),
    COUNT_TOKENS: Format(COUNT_TOKENS, "messages", b"[", "a list of messages", MESSAGES_VERBS),
    RESPONSES: Format(RESPONSES, "input", b'["', "text or a list", RESPONSES_VERBS),
    GENERATE_CONTENT: Format(GENERATE_CONTENT, "contents", b"[{", "a list of contents", GEMINI_VERBS),
    COUNT_CONTENT: Format(
        COUNT_CONTENT, "contents", b"[{", "a list of contents", GEMINI_VERBS, ("generateContentRequest",)
    ),
    INPUT_TOKENS: Format(INPUT_TOKENS, "input", b'["', "text or a list", INPUT_TOKENS_VERBS),
    IMAGES: Format(IMAGES, "prompt", b'"', "text", IMAGES_VERBS),
    IMAGE_EDITS: Format(IMAGE_EDITS, "prompt", b'"', "text", IMAGE_EDITS_VERBS),
    SPEECH: Format(SPEECH, "input", b'"', "text", SPEECH_VERBS),
    MODERATIONS: Format(MODERATIONS, "input", b'["', "text or a list", MODERATIONS_VERBS),
    RERANK: Format(RERANK, "documents", b"[", "a list of documents", RERANK_VERBS),
    COHERE_CHAT: Format(COHERE_CHAT, "messages", b"[", "a list of messages", COHERE_CHAT_VERBS),
    COHERE_EMBED: Format(
        COHERE_EMBED, "texts", b"[", "a list of texts", COHERE_EMBED_VERBS, ("inputs", "images")
    ),
    MISTRAL_CHAT: Format(MISTRAL_CHAT, "messages", b"[", "a list of messages", MISTRAL_CHAT_VERBS),
    MISTRAL_EMBED: Format(MISTRAL_EMBED, "input", b'["', "text or a list", MISTRAL_VERBS),
    FIM: Format(FIM, "prompt", b'"', "text", MISTRAL_VERBS),
}

FORMS: Mapping[Operation, Format] = {
    IMAGE_EDITS: Format(IMAGE_EDITS, "image", b"", "a file", IMAGES_VERBS),
    IMAGE_VARIATIONS: Format(IMAGE_VARIATIONS, "image", b"", "a file", IMAGES_VERBS),
    TRANSCRIPTIONS: Format(TRANSCRIPTIONS, "file", b"", "a file", TRANSCRIPTIONS_VERBS),
    TRANSLATIONS: Format(TRANSLATIONS, "file", b"", "a file", TRANSCRIPTIONS_VERBS),
}
"""What is asked by a form, multipart/form-data, whose fields pass without being opened."""


STORED = replace(
    FORMATS[RESPONSES],
    verbs={
        name: verb
        for name, verb in RESPONSES_VERBS.items()
        if name not in ("store", "previous_response_id")
    },
)
"""Responses that the provider may keep, where an endpoint allows it."""


@dataclass(slots=True)
class Asked:
    """What a caller asks for. `fields` are the body's, still as the caller wrote them.

    `wants_usage` is true when the stream's usage is for the caller to see: asked for, or always there,
    as in Anthropic's format. `wants_base64` is true when embeddings were asked for as base64,
    `is_foreign` when it holds what a translation has left in the conversation. Without a model
    `asked_model` is "", where a vendor has a usual one. Of a form nothing but the model was read.
    """

    format: Format
    fields: Fields
    asked_model: str
    is_stream: bool
    wants_usage: bool
    wants_base64: bool
    is_foreign: bool = False

    @property
    def tuning(self) -> Fields:
        """Return the fields that say how long an answer may be, and of how many choices."""
        is_gemini = self.format.operation is GENERATE_CONTENT
        return gemini_request.tuning(self.fields) if is_gemini else self.fields


def open_request(
    operation: Operation, body: bytes, path_model: str | None = None, *, path_streams: bool = False
) -> Asked:
    """Read what the gateway has to know of a request. `RequestFault` says what is wrong with it.

    `path_model` is the model of a path that names one, as MLflow's do; then the body must not. Paths of
    Google's also say whether the answer is a stream: `path_streams`.
    """
    format_ = FORMATS.get(operation)
    if format_ is None:
        text = "This is asked by a form with a file: send it as multipart/form-data."
        raise RequestFault(text, slug="unsupported_content_type", status=415)
    fields = _open(body)
    if operation in _GEMINI:
        asked_model = gemini_request.put_model(fields, path_model)
    elif path_model:
        asked_model = _model_of_path(fields, path_model)
    elif operation in _MODEL_OPTIONAL and bytes(fields.get("model", b"null")) == b"null":
        asked_model = ""
    else:
        asked_model = _model(fields.get("model"))
    is_stream = _is_stream(operation, fields, path_streams=path_streams)
    _require_content(fields, format_)
    return Asked(
        format_,
        fields,
        asked_model,
        is_stream,
        operation in _TELL_USAGE
        or (is_stream and "stream_options" in fields and _wants_usage(fields["stream_options"])),
        operation is EMBEDDINGS and _is_base64(fields.get("encoding_format")),
        is_foreign(operation, body),
    )


def _is_stream(operation: Operation, fields: Fields, *, path_streams: bool) -> bool:
    if operation in _GEMINI:
        return path_streams and operation is GENERATE_CONTENT
    if operation is SPEECH:
        return bytes(fields.get("stream_format", b"")) == b'"sse"'
    return operation not in _WITHOUT_STREAMS and _flag(fields, "stream")


def open_form(operation: Operation, model: str | None, path_model: str | None = None) -> Asked:
    """Do as `open_request` does, for a form whose field `model` is this; None for one without."""
    if path_model and model is not None:
        raise _model_beside_path()
    if model is None and not path_model and operation not in _MODEL_OPTIONAL:
        raise _no_model()
    asked_model = path_model or model or ""
    if model is not None and not 0 < len(model) <= MAX_MODEL_CHARS:
        raise RequestFault(f"model must be text of 1 to {MAX_MODEL_CHARS} characters.", param="model")
    return Asked(FORMS[operation], {}, asked_model, False, True, False)


def form_fields(
    asked: Asked,
    sent_model: msgspec.Raw | None,
    pseudonym: Callable[[], str],
    amend: Callable[[Operation, Fields], None],
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the fields that a form gets, and those that it gets where it has one of that name."""
    fields: Fields = {} if sent_model is None else {"model": sent_model}
    amend(asked.format.operation, fields)
    given = {name: _as_text(raw) for name, raw in fields.items()}
    verbs = asked.format.verbs.items()
    return given, {name: pseudonym() for name, verb in verbs if verb is OVERWRITE}


def _as_text(raw: msgspec.Raw) -> str:
    return _text(raw) if memoryview(raw)[0] == _TEXT else bytes(raw).decode()


def close_request(
    asked: Asked,
    sent_model: msgspec.Raw | None,
    pseudonym: Callable[[], str],
    *,
    asks_for_usage: bool = True,
    amend: Callable[[Operation, Fields], None] | None = None,
) -> bytes:
    """Write the body for a provider, with the fields of the policy set, and what `amend` changes.

    `sent_model` is the provider's name of the model as JSON; None for a provider whose URL says it. May
    be called once for each attempt: what `asked` holds stays as it is. `RequestFault` for a field that
    is refused.
    """
    fields = policed(asked, pseudonym)
    if asked.is_foreign:
        fields = native(asked.format.operation, fields)
    if sent_model is None:
        fields.pop("model", None)
    else:
        fields["model"] = sent_model
    if asked.is_stream and asks_for_usage and not asked.wants_usage:
        fields["stream_options"] = _with_usage(fields.get("stream_options"))
    if amend is not None:
        amend(asked.format.operation, fields)
    return _encode(fields)


def close_translated(
    operation: Operation,
    body: Mapping[str, object],
    sent_model: msgspec.Raw | None,
    *,
    asks_for_usage: bool,
    amend: Callable[[Operation, Fields], None],
) -> bytes:
    """Write the body for a provider from a translation into the format of `operation`."""
    fields: Fields = {name: msgspec.Raw(_encode(value)) for name, value in body.items()}
    if sent_model is not None:
        fields = {"model": sent_model, **fields}
    if asks_for_usage and operation is CHAT:
        fields["stream_options"] = _with_usage(None)
    amend(operation, fields)
    return _encode(fields)


def estimated_count(operation: Operation, tokens: int) -> bytes:
    """Write the answer to a request for a number of tokens, when the number is a guess of ours."""
    if operation is COUNT_CONTENT:
        return _encode({"totalTokens": tokens})
    kind = {"object": "response.input_tokens"} if operation is INPUT_TOKENS else {}
    return _encode({**kind, "input_tokens": tokens, "estimated": True})


def policed(asked: Asked, pseudonym: Callable[[], str]) -> Fields:
    """Return the fields of a request with its policy followed. `RequestFault` for one that is refused."""
    fields = asked.fields.copy()
    for name, verb in asked.format.verbs.items():
        if name in fields or verb is UNSTORED:
            _apply(verb, name, fields, pseudonym)
    return fields


def _apply(verb: str, name: str, fields: Fields, pseudonym: Callable[[], str]) -> None:
    """Do to a field what its verb says. `RequestFault` for one that is refused."""
    if verb is OVERWRITE:
        fields[name] = msgspec.Raw(_encode(pseudonym()))
    elif verb is OVERWRITE_USER_ID:
        fields[name] = _with_user_id(fields[name], pseudonym)
    elif verb is UNSTORED:
        if bytes(fields.get(name, b"")) == _TRUE:
            raise refused(name)
        fields[name] = msgspec.Raw(b"false")
    elif verb is REFUSE_FILES:
        place = file_named_in(name, fields[name])
        if place is not None:
            raise refused(name, place)
    elif verb is REFUSE_WITHIN:
        gemini_request.check(name, fields[name])
    elif verb is INNER:
        fields[name] = gemini_request.inner(fields[name])
    elif _reaches_beyond(verb, fields[name]):
        raise refused(name)


def _reaches_beyond(verb: str, raw: msgspec.Raw) -> bool:
    """Say whether a field names something of the account's, as far as its verb cares."""
    if verb is REFUSE_FILE_IDS:
        return _FILE_ID.search(bytes(raw)) is not None
    if verb is REFUSE_SHARED_TOOLS:
        return any(kind in SHARED_TOOLS for _, kind in typed_items(raw))
    return verb is REFUSE and bytes(raw) not in _NOTHING


def _open(body: bytes) -> Fields:
    if not body:
        raise RequestFault("The request has no body; it must be a JSON object.", slug="invalid_json")
    try:
        return _fields(body)
    except msgspec.ValidationError:
        raise RequestFault("The request's body must be a JSON object.", slug="invalid_json") from None
    except msgspec.DecodeError as error:
        raise RequestFault(
            f"The request's body is not valid JSON: {_place_of(error)}.", slug="invalid_json"
        ) from None
    except (RecursionError, UnicodeDecodeError):
        raise RequestFault(
            "The request's body is not JSON that can be read: it is nested too deeply, or not UTF-8.",
            slug="invalid_json",
        ) from None


def _place_of(error: msgspec.DecodeError) -> str:
    """Pass msgspec's sentence: it says what and where, and quotes nothing but single characters."""
    return str(error).removeprefix("JSON is malformed: ").rstrip(".")


def _model(raw: msgspec.Raw | None) -> str:
    if raw is None:
        raise _no_model()
    if memoryview(raw)[0] != _TEXT:
        raise RequestFault("model must be text.", param="model")
    try:
        model = _text(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise RequestFault("model is not valid text.", param="model") from None
    if not model or len(model) > MAX_MODEL_CHARS:
        raise RequestFault(f"model must be text of 1 to {MAX_MODEL_CHARS} characters.", param="model")
    return model


def _model_of_path(fields: Fields, path_model: str) -> str:
    """Take the path's word; what older MLflow clients write in place of OpenAI's fields is named."""
    if "model" in fields:
        raise _model_beside_path()
    for name, newer in _MLFLOW_LEGACY.items():
        if name in fields:
            text = f"{name} is of MLflow's format before 2.9, which is not served; send {newer} instead."
            raise RequestFault(text, param=name)
    fields["model"] = msgspec.Raw(_encode(path_model))
    return path_model


def _no_model() -> RequestFault:
    return RequestFault("model is missing: name one of the models of GET /v1/models.", param="model")


def _model_beside_path() -> RequestFault:
    return RequestFault(
        "The parameter 'model' is not permitted to be passed: the path names the model already.",
        status=422,
        param="model",
    )


def _require_content(fields: Fields, format_: Format) -> None:
    name = format_.content
    raw = fields.get(name)
    if raw is None and any(each in fields for each in format_.instead):
        return
    if raw is None:
        raise RequestFault(f"{name} is missing: it must be {format_.kinds_text}.", param=name)
    content = memoryview(raw)
    if content[0] not in format_.kinds:
        raise RequestFault(f"{name} must be {format_.kinds_text}.", param=name)
    if content[0] == _LIST and len(content) < 64 and not bytes(content)[1:-1].strip():
        raise RequestFault(f"{name} must not be empty.", param=name)


def _flag(fields: Fields, name: str) -> bool:
    raw = fields.get(name)
    if raw is None:
        return False
    value = bytes(raw)
    if value == _TRUE:
        return True
    if value not in _NOTHING:
        raise RequestFault(f"{name} must be true or false.", param=name)
    return False


def _wants_usage(raw: msgspec.Raw) -> bool:
    return _flag(_options(raw), "include_usage")


def _options(raw: msgspec.Raw | None) -> Fields:
    """Open the object of `stream_options`; null is nothing."""
    if raw is None or bytes(raw) == b"null":
        return {}
    if memoryview(raw)[0] != _OBJECT:
        raise RequestFault("stream_options must be an object.", param="stream_options")
    return _open(bytes(raw))


def _with_usage(raw: msgspec.Raw | None) -> msgspec.Raw:
    if raw is None:
        return msgspec.Raw(b'{"include_usage":true}')
    options = _options(raw)
    options["include_usage"] = msgspec.Raw(_TRUE)
    return msgspec.Raw(_encode(options))


def _with_user_id(raw: msgspec.Raw, pseudonym: Callable[[], str]) -> msgspec.Raw:
    """Rewrite `metadata`: who the caller is to the provider is for us to say."""
    if memoryview(raw)[0] != _OBJECT:
        return raw  # the provider will say what it thinks of it
    metadata = _open(bytes(raw))
    if "user_id" not in metadata:
        return raw
    metadata["user_id"] = msgspec.Raw(_encode(pseudonym()))
    return msgspec.Raw(_encode(metadata))


def _is_base64(raw: msgspec.Raw | None) -> bool:
    if raw is None or bytes(raw) == b"null":
        return False
    if memoryview(raw)[0] != _TEXT:
        raise RequestFault("encoding_format must be float or base64.", param="encoding_format")
    return bytes(raw) == b'"base64"'
