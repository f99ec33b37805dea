"""The process: what the operator sets, how the rooms are joined, how it starts, reloads and stops."""
