"""The engine as MCP tools."""
