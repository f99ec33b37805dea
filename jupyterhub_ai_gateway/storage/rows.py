"""What is written down, as plain values; a field for each column of the table of that name.

Times are milliseconds since 1970 in UTC, money is nanodollars. None is unknown. Never any content.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec


class RequestRow(msgspec.Struct, gc=False):
    """One request of a caller's, however it ended.

    `caller` is such as `user:alice`, `server` their notebook server ("" is the default one, None none),
    `charged_group` the group whose course or grant pays. `outcome` is `ok` or an error's code, `rules` the
    names of the rules that were asked, `refused_by` the one that said no, `shadow` those that would have.
    `asked_endpoint` is what the caller asked for, where `endpoint` served it in its place.
    `price_source` says whose price it was. `wait_ms` is how long it waited here, `upstream_ms` how long
    for the providers. `deployment` is the one that was asked last, `left_out` has a line for each that
    could not serve it: its name, a blank, and why.
    """

    request_id: str
    at_ms: int
    caller: str
    endpoint: str
    operation: str
    status: int
    outcome: str
    server: str | None = None
    charged_group: str | None = None
    provider: str | None = None
    sent_model: str | None = None
    answered_model: str | None = None
    is_stream: bool = False
    attempts: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    reasoning_tokens: int | None = None
    input_audio_tokens: int | None = None
    input_image_tokens: int | None = None
    output_audio_tokens: int | None = None
    is_estimated: bool = False
    cost_nanousd: int | None = None
    price_source: str | None = None
    took_ms: float = 0.0
    first_byte_ms: float | None = None
    auth_ms: float = 0.0
    wait_ms: float = 0.0
    upstream_ms: float = 0.0
    rules: str | None = None
    refused_by: str | None = None
    shadow: str | None = None
    asked_endpoint: str | None = None
    deployment: str | None = None
    left_out: str | None = None


class AttemptRow(msgspec.Struct, gc=False):
    """One of several tries at a deployment. `number` counts from 1 within the request.

    A request that took one try is that try's row as well.
    """

    request_id: str
    number: int
    at_ms: int
    provider: str
    sent_model: str | None
    answered_model: str | None
    status: int
    outcome: str
    took_ms: float
    first_byte_ms: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    is_estimated: bool = False
    cost_nanousd: int | None = None
    deployment: str | None = None


class Counter(NamedTuple):
    """How much of a rule has been used in one slot of its window; from `expires_ms` on nobody asks."""

    key: str
    slot_ms: int
    amount: int
    expires_ms: int


class Batch(msgspec.Struct):
    """What is written in one transaction, once: a batch of the same `id` is not written again."""

    id: str
    requests: list[RequestRow]
    attempts: list[AttemptRow]
    counters: list[Counter]


class OverrideRow(msgspec.Struct):
    """A temporary change of a rule: `amount` more (or less) than its limit, in the rule's own unit.

    `who` is such as `user:alice` or `group:physics-101`, `policy` the name of the rule, None for every
    rule of the resource. It counts from `starts_ms` until `ends_ms`, unless revoked.
    """

    id: str
    who: str
    resource: str
    amount: int
    reason: str
    starts_ms: int
    ends_ms: int
    created_ms: int
    created_by: str
    policy: str | None = None
    revoked_ms: int | None = None
    revoked_by: str | None = None


class KeyRow(msgspec.Struct):
    """A gateway key, as far as it is kept: `hash` is the HMAC-SHA256 of it under `salt`, both in hex.

    `form` is "jaig" for a key of ours, "node" for one that the Node gateway made. `name` is whose it is:
    `key:NAME` in the ledger. `scopes` and `endpoints` are words with blanks between them. It counts until
    `expires_ms`, None for ever, unless revoked.
    """

    id: str
    form: str
    name: str
    salt: str
    hash: str
    scopes: str
    endpoints: str
    created_ms: int
    created_by: str
    owner: str | None = None
    note: str | None = None
    expires_ms: int | None = None
    revoked_ms: int | None = None
    revoked_by: str | None = None
    used_ms: int | None = None


class AuditRow(msgspec.Struct):
    """What somebody with rights did: `action` on `object`; `detail` is JSON."""

    at_ms: int
    actor: str
    action: str
    object: str
    detail: str


class FileRow(msgspec.Struct):
    """A file of a caller's, whose content is on disk under its `id`. `purpose` is OpenAI's word."""

    id: str
    owner: str
    filename: str
    purpose: str
    bytes: int
    created_ms: int
    expires_ms: int


class JobRow(msgspec.Struct):
    """A batch.

    `form` is "openai" or "first": whose paths made it. `caller` is the JSON of who did, as they were then.
    `status` is OpenAI's word; `ending` is the one that it will have once the files are written. `url` is
    the path that all lines name, None where each says its own; `model` is that of all lines, None for the
    same. `input` is a file's id, or a path. `keep_s` is how long the caller wants the answers kept, `notes`
    their metadata and `errors` what ended it, as JSON. `total` is 0 until the lines are counted.
    `output_file` and `error_file` are the names of files that are there once `has_output` and `has_errors`
    are true. The process `worker` has it until `lease_ms`; `epoch` counts who had it, `crashes` how often
    that ended in a bug.
    """

    id: str
    owner: str
    form: str
    caller: str
    input: str
    completion_window: str
    created_ms: int
    expires_ms: int
    output_file: str
    error_file: str
    status: str = "validating"
    ending: str | None = None
    url: str | None = None
    model: str | None = None
    cluster: str | None = None
    framework: str | None = None
    project: str | None = None
    output_folder: str | None = None
    keep_s: int | None = None
    notes: str | None = None
    errors: str | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    begun_ms: int | None = None
    finalizing_ms: int | None = None
    cancelling_ms: int | None = None
    ended_ms: int | None = None
    has_output: bool = False
    has_errors: bool = False
    worker: str | None = None
    lease_ms: int = 0
    epoch: int = 0
    crashes: int = 0
