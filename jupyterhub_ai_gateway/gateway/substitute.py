"""Who serves a request once a budget for the model that was asked for is used up."""

from __future__ import annotations

from collections.abc import Sequence

from ..config.model import DataRuleConfig
from ..errors import Fault, LimitFault
from ..limits import BUDGET_USED_UP, Admission
from ..router import Endpoint
from .parameters import applied
from .serving import NEVER, Serving


async def admit_instead(
    serving: Serving, refused: LimitFault, rules: Sequence[DataRuleConfig]
) -> Admission:
    """Admit the request at the first endpoint of `at_limit` that can serve it; `refused` where none can.

    Each is asked by its own limits, scope and class of data. A fault of one that has only too little time
    left, and no budget used up, is told instead: then it helps to wait.
    """
    asked, wait = serving.endpoint, None
    for other in _others(serving, refused):
        kept = serving.endpoint, serving.needs, serving.key, serving.deadline_s
        try:
            serving.turn_to(other, rules)
            admission = serving.rooms.gate.admit(serving.demand())
            if not isinstance(admission, Admission):
                admission = await admission
        except BaseException as fault:
            serving.endpoint, serving.needs, serving.key, serving.deadline_s = kept
            if not isinstance(fault, Fault):
                raise
            if isinstance(fault, LimitFault) and fault.slug != BUDGET_USED_UP:
                wait = wait or fault
            continue
        serving.admission = admission
        _tell(serving, asked, refused)
        return admission
    raise wait or refused


def _others(serving: Serving, refused: LimitFault) -> list[Endpoint]:
    """Return the endpoints that may serve it: none where waiting helps, or it has to be the same model."""
    call, wishes = serving.call, serving.call.wishes
    is_bound = serving.pinned is not None or serving.owned is not None or call.is_batch
    is_unwanted = wishes is not None and wishes.substitute == NEVER
    if refused.slug != BUDGET_USED_UP or is_bound or is_unwanted:
        return []
    return [
        each
        for each in serving.endpoint.instead_for(serving.caller)
        if call.operation in each.cells and not (call.upload is not None and each.parameters is not None)
    ]


def _tell(serving: Serving, asked: Endpoint, refused: LimitFault) -> None:
    """Say who serves it in whose place, and which budget is used up."""
    serving.asked_endpoint = asked.name
    parameters = serving.endpoint.parameters
    if parameters is not None:
        serving.tell(applied(parameters, serving.call, serving.asked))
    serving.headers.append(("x-ai-gateway-model-substituted", serving.endpoint.name))
    serving.used_up = str(refused.more["rule"])
