"""Wire formats: what callers and providers write, read and rewritten without any input or output."""
