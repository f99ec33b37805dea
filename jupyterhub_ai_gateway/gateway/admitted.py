"""From the limits to the last byte: a request that has an endpoint is admitted, aimed and answered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ..config.model import DataRuleConfig
from ..errors import Draining, Fault, LimitFault, Stopped
from ..limits import Admission
from .attempts import try_each, try_one
from .faults import CallerGone
from .serving import Serving
from .substitute import admit_instead


async def serve(serving: Serving, data_rules: Sequence[DataRuleConfig]) -> None:
    """Serve it; a fault is answered, and told in the outcome."""
    serving.headers.append(("x-request-id", serving.call.id))
    if serving.dialect.id_header is not None:
        serving.headers.append((serving.dialect.id_header, serving.call.id))
    try:
        serving.state_needs(data_rules)
        try:
            admission = serving.rooms.gate.admit(serving.demand())
            if not isinstance(admission, Admission):
                admission = await admission
        except LimitFault as refused:
            admission = await admit_instead(serving, refused, data_rules)
        serving.admission = admission
        if admission.states or serving.used_up is not None:
            serving.headers += serving.limit_headers(admission)
        serving.outcome.admitted = serving.rooms.clock()
        if serving.endpoint.has_choice or serving.pinned is not None:
            await try_each(serving)
        else:
            await try_one(serving)
    except Fault as fault:
        serving.fail(fault)
    except CallerGone:
        return
    except asyncio.CancelledError:
        _cut(serving)
        raise
    finally:
        if serving.stream is not None:
            serving.stream.close()


def _cut(serving: Serving) -> None:
    """Tell a caller who is still there why the request was cancelled."""
    if serving.is_stopped:
        serving.fail(_stopped())
    elif serving.rooms.is_stopping:
        serving.fail(Draining("The gateway is restarting; please send the request again."))


def _stopped() -> Stopped:
    text = "Somebody who looks after this gateway stopped the request. Ask them before you send it again."
    return Stopped(text, headers=[("x-should-retry", "false")])
