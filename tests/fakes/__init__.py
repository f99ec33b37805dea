"""Servers that stand in for what the gateway talks to: real sockets, strict manners, scripted failures."""
