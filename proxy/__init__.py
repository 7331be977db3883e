"""wiretape: a recording reverse proxy for LLM APIs. ARCHITECTURE.md is the map."""

__version__ = "0.1.0"
