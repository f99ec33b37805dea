"""`python -m demo`: a JupyterHub with the gateway, on this machine, with the best model that is there."""
