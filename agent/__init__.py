"""Claude using those tools."""
