"""Tornado's only home: read a request, find its dialect, hand it to the gateway, write what comes back.

The HTTP/1 server in front lives in `connection`, its framing in `framing`, the few calls that hot paths
use to write an answer in `wire`.
"""
