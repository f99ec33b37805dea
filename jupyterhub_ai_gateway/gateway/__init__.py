"""The story of one request: identify, admit, choose, send, relay, settle.

story        `Gateway`: who asks, for what; counted and settled once, however it ends
admitted     from the limits to the last byte
attempts     one deployment after the other, keys and slots
attempt      one of them: what is sent, what comes back
stream       a streamed answer on its way out
serving, answering   the request itself, and what its caller is told of it
stored       responses that providers keep
substitute   who serves it once a budget is used up
parameters   what an endpoint's parameters make of it
"""

from .call import ARRAY, EVENTS, Call, Headers, Reply, Running
from .faults import answer_fault
from .rooms import Rooms
from .story import Gateway

__all__ = [
    "ARRAY",
    "EVENTS",
    "Call",
    "Gateway",
    "Headers",
    "Reply",
    "Rooms",
    "Running",
    "answer_fault",
]
