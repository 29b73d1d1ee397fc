// node client2.mjs URL | node client2.mjs COMMAND ARGUMENT…: the session with @modelcontextprotocol/client 2.x.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { session } from "./session.mjs";

const [target, ...args] = process.argv.slice(2);
const transport = target.startsWith("http")
  ? new StreamableHTTPClientTransport(new URL(target))
  : new StdioClientTransport({ command: target, args, env: process.env });
const negotiation = { versionNegotiation: { mode: "auto" } };
await session((information) => Object.assign(new Client(information, negotiation), { sdk: 2 }), transport);
