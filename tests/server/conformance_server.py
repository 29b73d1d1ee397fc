"""The server with what the official conformance suite wants to find: named tools, resources and prompts.

They are the suite's, not Shoptalk's; everything around them is the server as it is served.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import Any

import anyio
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts.base import Message, UserMessage
from mcp.shared.exceptions import MCPError
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    ClientCapabilities,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    MissingRequiredClientCapabilityErrorData,
    SamplingCapability,
    TextContent,
    TextResourceContents,
)

__all__ = ["with_fixtures"]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


PNG = b"\x89PNG\r\n\x1a\n" + b"".join(
    [
        _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)),
        _chunk(b"IDAT", zlib.compress(b"\0\xff\0\0")),
        _chunk(b"IEND", b""),
    ]
)
WAV = b"RIFF" + struct.pack("<I", 36) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8)
WAV += b"data" + struct.pack("<I", 0)
IMAGE = ImageContent(type="image", data=base64.b64encode(PNG).decode(), mime_type="image/png")
AUDIO = AudioContent(type="audio", data=base64.b64encode(WAV).decode(), mime_type="audio/wav")


def text(said: str) -> TextContent:
    return TextContent(type="text", text=said)


def embedded(uri: str, mime_type: str, said: str) -> EmbeddedResource:
    contents = TextResourceContents(uri=uri, mime_type=mime_type, text=said)
    return EmbeddedResource(type="resource", resource=contents)


def with_fixtures(server: MCPServer[None]) -> MCPServer[None]:
    """Add the suite's fixtures to ``server`` and return it."""
    _add_tools(server)
    _add_resources(server)
    _add_prompts(server)
    return server


def _add_tools(server: MCPServer[None]) -> None:
    @server.tool(description="Simple text.")
    def test_simple_text() -> TextContent:
        return text("This is a simple text response for testing.")

    @server.tool(description="Image content.")
    def test_image_content() -> ImageContent:
        return IMAGE

    @server.tool(description="Audio content.")
    def test_audio_content() -> AudioContent:
        return AUDIO

    @server.tool(description="Embedded resource.")
    def test_embedded_resource() -> EmbeddedResource:
        return embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")

    @server.tool(description="Multiple content types.")
    def test_multiple_content_types() -> list[ContentBlock]:
        resource = embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}')
        return [text("Multiple content types test:"), IMAGE, resource]

    @server.tool(description="Error handling.")
    def test_error_handling() -> str:
        raise ToolError("This tool intentionally returns an error for testing")

    @server.tool(description="Tool with progress.")
    async def test_tool_with_progress(ctx: Context[None, Any]) -> str:
        for done in (0, 50, 100):
            await ctx.report_progress(done, 100, None)
            await anyio.sleep(0.05)
        return "done"

    @server.tool(description="Needs a client that can sample.")
    def test_missing_capability(ctx: Context[None, Any]) -> str:
        if not ctx.client_capabilities or ctx.client_capabilities.sampling is None:
            needed = ClientCapabilities(sampling=SamplingCapability())
            data = MissingRequiredClientCapabilityErrorData(required_capabilities=needed)
            raise MCPError(
                code=MISSING_REQUIRED_CLIENT_CAPABILITY,
                message="This needs a client that can sample.",
                data=data.model_dump(by_alias=True, mode="json", exclude_none=True),
            )
        return "it can"

    @server.tool(description="Tell subscribers that the tools changed.")
    async def test_trigger_tool_change(ctx: Context[None, Any]) -> str:
        await ctx.notify_tools_changed()
        return "told"

    @server.tool(description="Tell subscribers that the prompts changed.")
    async def test_trigger_prompt_change(ctx: Context[None, Any]) -> str:
        await ctx.notify_prompts_changed()
        return "told"


def _add_resources(server: MCPServer[None]) -> None:
    @server.resource("test://static-text", mime_type="text/plain")
    def static_text() -> str:
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", mime_type="image/png")
    def static_binary() -> bytes:
        return PNG

    @server.resource("test://template/{id}/data", mime_type="application/json")
    def template(id: str) -> str:
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def _add_prompts(server: MCPServer[None]) -> None:
    @server.prompt(description="Simple prompt.")
    def test_simple_prompt() -> str:
        return "This is a simple prompt for testing."

    @server.prompt(description="Prompt with arguments.")
    def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @server.prompt(description="Prompt with embedded resource.")
    def test_prompt_with_embedded_resource(resourceUri: str) -> list[Message]:  # noqa: N803
        resource = embedded(resourceUri, "text/plain", "Embedded resource content for testing.")
        return [UserMessage(resource), UserMessage("Please process the embedded resource above.")]

    @server.prompt(description="Prompt with image.")
    def test_prompt_with_image() -> list[Message]:
        return [UserMessage(IMAGE), UserMessage("Please analyze the image above.")]
