"""Servers: toolsets and worlds over HTTP, MCP and WebSocket."""
