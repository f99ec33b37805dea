"""Commands for people who use a gateway, rather than run one: a token of their own, and a benchmark.

Nothing of the gateway imports this.
"""
