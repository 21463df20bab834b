"""OpenAI-compatible servers as policies."""
