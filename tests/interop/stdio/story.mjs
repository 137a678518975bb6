// The official TypeScript SDK's stdio clients, in both of its lines: two programs share one token file, and the
// one that is the server is killed. Runs under with-demo, whose stand-ins for Entra and the API it uses, with the
// program in RELEASE_BINARY.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Client, StreamableHTTPClientTransport, UrlElicitationRequiredError } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { Client as OldClient } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport as OldTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { UrlElicitationRequiredError as OldError } from '@modelcontextprotocol/sdk/types.js';

const me = { name: 'stdio-story', version: '1' };
const directory = mkdtempSync(join(tmpdir(), 'stdio-'));
const tokenFile = join(directory, 'tokens.json');

const freePort = () =>
  new Promise(resolve => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });

/// The settings of the demo's server, for one of its own.
async function settings(port) {
  const demo = new Client(me);
  await demo.connect(new StreamableHTTPClientTransport(new URL(process.env.MCP_URL)));
  const { structuredContent: info } = await demo.callTool({ name: 'get_server_info', arguments: {} });
  await demo.close();
  return {
    AZURE_CLIENT_ID: info.client_id,
    AZURE_TENANT_ID: info.tenant,
    AZURE_AUTHORITY_HOST: info.authority,
    BACKEND_API_BASE_URL: info.backend_base_url,
    CUSTOM_API_SCOPE: info.scopes.split(' ').find(scope => scope.includes('://')),
    TOKEN_CACHE_FILE: tokenFile,
    SERVER_PORT: String(port),
    LOG_LEVEL: 'warn',
  };
}

const port = await freePort();
const env = await settings(port);
// The stories demand links of this origin.
process.env.MCP_URL = `http://localhost:${port}/mcp`;
const { ada, repeatedByTheProgram, repeatedByTheSdk, signIn } = await import('../sdk/elicitation.mjs');

/// The process that is the server; nothing while another one takes its place.
function serverPid() {
  try {
    return JSON.parse(readFileSync(`${tokenFile}.owner`)).pid;
  } catch {
    return undefined;
  }
}

/// Waits until one of `programs` is the server: to learn what the program speaks, the SDK may start one
/// more process, which is the server as long as it lives.
async function theServer(...programs) {
  for (;;) {
    const pid = serverPid();
    const server = programs.find(({ transport }) => transport.pid === pid);
    if (server) return server;
    await setTimeout(10);
  }
}

/// Waits until the process has ended and was reaped. What it had open is closed then.
async function end(pid) {
  for (;;) {
    try {
      process.kill(pid, 0);
    } catch {
      return;
    }
    await setTimeout(10);
  }
}

const program = { command: process.env.RELEASE_BINARY, args: ['stdio'], env };
const opensUrls = { capabilities: { elicitation: { url: {} } } };
const modern = { versionNegotiation: { mode: 'auto' } };

/// Waits in a call of `check_auth_status` for a sign-in that nobody begins; kills the server meanwhile.
async function lose(server, { call, ok }) {
  await ok('authenticate_user', { user_id: 'nobody' });
  let isUnderWay;
  const underWay = new Promise(resolve => (isUnderWay = resolve));
  const waiting = { name: 'check_auth_status', arguments: { user_id: 'nobody', wait_seconds: 60 } };
  const lost = call(waiting, { onprogress: isUnderWay }).then(assert.fail, error => error);
  await underWay;
  const { pid } = server.transport;
  process.kill(pid, 'SIGKILL');
  assert.match((await lost).message, /is not known/);
  await end(pid);
}

for (const [sdk, revision, ClientClass, Transport, options, elicitation, withOptions] of [
  [
    'sdk 1', '2025-11-25', OldClient, OldTransport, {},
    client => repeatedByTheProgram(client, (request, how) => client.callTool(request, undefined, how), OldError),
    client => (request, how) => client.callTool(request, undefined, how),
  ],
  [
    'client 2', '2025-11-25', Client, StdioClientTransport, {},
    client => repeatedByTheProgram(client, (...call) => client.callTool(...call), UrlElicitationRequiredError),
    client => (...call) => client.callTool(...call),
  ],
  [
    'client 2', '2026-07-28', Client, StdioClientTransport, modern,
    repeatedByTheSdk,
    client => (...call) => client.callTool(...call),
  ],
]) {
  const started = async more => {
    const client = new ClientClass(me, { ...options, ...more });
    const transport = new Transport(program);
    await client.connect(transport);
    const negotiated = client.getNegotiatedProtocolVersion?.() ?? transport.protocolVersion ?? revision;
    assert.equal(negotiated, revision);
    const call = withOptions(client);
    const ok = async (name, args = {}) => {
      const { structuredContent } = await call({ name, arguments: args });
      assert.equal(structuredContent.success, true, JSON.stringify(structuredContent));
      return structuredContent;
    };
    return { client, transport, call, ok };
  };
  const first = await started({});
  const second = await started({});
  const server = await theServer(first, second);
  const other = server === first ? second : first;
  const listed = await other.client.listTools();
  assert.ok(listed.tools.some(tool => tool.name === 'api_get_request'));
  await signIn((await other.ok('authenticate_user', { user_id: ada })).sign_in_url);
  for (const { ok } of [first, second]) {
    assert.equal((await ok('api_get_request', { endpoint: '/me' })).data.userPrincipalName, ada);
  }

  await lose(server, other);
  assert.equal((await other.ok('api_get_request', { endpoint: '/me' })).data.userPrincipalName, ada);
  assert.equal(serverPid(), other.transport.pid);
  const third = await started(opensUrls);
  await elicitation(third.client);

  // One that ends in order takes nothing with it.
  await other.client.close();
  await third.ok('ping');
  assert.equal(serverPid(), third.transport.pid);
  await third.client.close();
  console.log(`  TypeScript ${sdk}, stdio, ${revision}: two at a time, one of them killed, and signing in`);
}
rmSync(directory, { recursive: true });
