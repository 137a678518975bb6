// The official TypeScript SDK with an equivalent tool: `server.mjs PORT BACKEND`.
import { createServer } from "node:http";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { z } from "zod";

const [port, backend] = process.argv.slice(2);

function server() {
  const mcp = new McpServer({ name: "bench", version: "1" });
  mcp.registerTool(
    "api_get_request",
    {
      description: "Gets a resource of the API.",
      inputSchema: { endpoint: z.string(), headers: z.record(z.string(), z.string()).optional() },
    },
    async ({ endpoint, headers }) => {
      const url = backend + endpoint;
      const answer = await fetch(url, { headers: { authorization: "Bearer bench", ...headers } });
      const result = { success: answer.ok, status: answer.status, endpoint: url, data: await answer.json() };
      return { content: [{ type: "text", text: JSON.stringify(result) }], structuredContent: result };
    },
  );
  return mcp;
}

// Without sessions, each request has a server of its own, as the SDK's own example does it.
createServer(async (request, response) => {
  const [mcp, transport] = [server(), new StreamableHTTPServerTransport({ enableJsonResponse: true })];
  response.on("close", () => transport.close());
  await mcp.connect(transport);
  await transport.handleRequest(request, response);
}).listen(Number(port), "127.0.0.1");
