"""What an endpoint's parameters make of a request."""

from __future__ import annotations

from ..dialects import gemini_request
from ..dialects.opening import Asked
from ..dialects.parameters import Parameters, Told
from ..errors import RequestFault
from ..vocabulary import COUNT_CONTENT, GENERATE_CONTENT
from .call import Call


def applied(parameters: Parameters, call: Call, asked: Asked) -> Told:
    """Change what is asked as the endpoint's parameters say."""
    if call.upload is not None:
        text = "The operator of this gateway has set this model's parameters, which a form would pass by. "
        raise RequestFault(text + "Send JSON.", slug="unsupported_content_type", status=415)
    if asked.format.operation in (GENERATE_CONTENT, COUNT_CONTENT):
        asked.fields, told = gemini_request.apply(parameters, asked.fields)
    else:
        asked.fields, told = parameters.apply(asked.fields)
    return told
