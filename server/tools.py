"""What tools share: refusing what they do not know, and the form of their answers."""

from __future__ import annotations

from typing import Any

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp_types import CallToolResult, TextContent, ToolAnnotations
from pydantic import BaseModel, ValidationError

__all__ = ["READ_ONLY", "StrictTool", "answer"]

READ_ONLY = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)


class StrictTool(Tool):
    """A tool that refuses arguments it does not know, where the SDK ignores them."""

    @classmethod
    def of(cls, fn: Any, *, title: str, description: str, annotations: ToolAnnotations) -> StrictTool:
        """Make a tool of ``fn``, which bears its name."""
        tool = cls.from_function(fn, title=title, description=description, annotations=annotations)
        assert isinstance(tool, cls)
        arguments = tool.fn_metadata.arg_model
        arguments.model_config["extra"] = "forbid"
        arguments.model_rebuild(force=True)
        tool.parameters = arguments.model_json_schema(by_alias=True)
        # The schema stays published. What a tool returns is made from the very model it describes.
        tool.fn_metadata.output_model = None
        return tool

    async def run(self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False) -> Any:
        """Run the tool.

        Raises:
            ToolError: it cannot be run with these arguments, or refused.
        """
        try:
            return await super().run(arguments, context, convert_result)
        except ToolError as error:
            wrong = error.__cause__
            if not isinstance(wrong, ValidationError):
                raise
            problems = "; ".join(
                f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in wrong.errors()[:5]
            )
            known = ", ".join(self.parameters["properties"]) or "no arguments"
            raise ToolError(f"{problems}. {self.name} takes {known}; correct the call and send it again.") from wrong


def answer(text: str, output: BaseModel) -> CallToolResult:
    """A tool's answer: ``text`` for the model, ``output`` for programs."""
    return CallToolResult(
        content=[TextContent(type="text", text=text)], structured_content=output.model_dump(mode="json")
    )
