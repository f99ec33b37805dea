"""Hosts of models: where they are, how they are asked, what is odd about them."""
