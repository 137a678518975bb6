// The release binary on the stand-ins of the demo.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

/// What a tool of the server at `url` answers.
export async function ask(url, name, args = {}) {
  const client = new Client({ name: 'browser', version: '1' });
  await client.connect(new StreamableHTTPClientTransport(new URL(url)));
  const { structuredContent } = await client.callTool({ name, arguments: args });
  await client.close();
  return structuredContent;
}

/// For a server that must know its port before it starts.
export async function freePort() {
  const server = createServer().listen(0, 'localhost');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  return String(port);
}

/// Starts RELEASE_BINARY with `settings` and, but for those, the ones that the demo tells of itself.
/// Runs `use` with the address of the start page, and demands that the server then ends well.
export async function withRelease(settings, use) {
  const { MCP_URL, ENTRA_URL, RELEASE_BINARY } = process.env;
  const demo = await ask(MCP_URL, 'get_server_info');
  const directory = await mkdtemp(join(tmpdir(), 'release-'));
  const server = spawn(RELEASE_BINARY, [], {
    cwd: directory,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {
      AZURE_CLIENT_ID: demo.client_id,
      AZURE_TENANT_ID: demo.tenant,
      AZURE_AUTHORITY_HOST: ENTRA_URL,
      BACKEND_API_BASE_URL: demo.backend_base_url,
      CUSTOM_API_SCOPE: demo.scopes,
      SERVER_PORT: '0',
      LOG_LEVEL: 'warn',
      ...settings,
    },
  });
  const ended = once(server, 'exit');
  try {
    for await (const line of createInterface(server.stdout)) {
      const start = /start page +(\S+)/.exec(line)?.[1];
      if (start) {
        await use(start);
        break;
      }
    }
  } finally {
    server.kill('SIGTERM');
    const [code] = await ended;
    await rm(directory, { recursive: true, force: true });
    assert.equal(code, 0);
  }
}
