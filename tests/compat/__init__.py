"""Clients of other systems in the versions that people have, each in an environment of its own."""
