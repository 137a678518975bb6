// The main job with the official TypeScript SDK, in both of its lines: version 1, which speaks the
// revisions up to 2025-11-25, and version 2, which speaks 2026-07-28. Runs under with-demo.
import assert from 'node:assert/strict';
import { Client, StreamableHTTPClientTransport, UrlElicitationRequiredError } from '@modelcontextprotocol/client';
import { Client as OldClient } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport as OldTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { UrlElicitationRequiredError as OldError } from '@modelcontextprotocol/sdk/types.js';
import { ada, repeatedByTheProgram, repeatedByTheSdk, signIn } from './elicitation.mjs';

const url = new URL(process.env.MCP_URL);
const me = { name: 'story', version: '1' };
// Those of the server, and those of the demo's description.
const tools = [
  'api_delete_request', 'api_get_request', 'api_patch_request', 'api_post_request', 'api_put_request',
  'authenticate_user', 'check_auth_status', 'get_server_info', 'logout_user', 'ping', 'view_userid',
  'changeTask', 'createTask', 'deleteTask', 'getMe', 'getReport', 'getTask', 'listMessages', 'listTasks',
].sort();

async function story(client) {
  const call = async (name, args = {}) => {
    const { content, structuredContent, isError } = await client.callTool({ name, arguments: args });
    assert.equal(structuredContent.success, !isError, JSON.stringify(structuredContent));
    return { ...structuredContent, content };
  };
  const ok = async (name, args) => {
    const answer = await call(name, args);
    assert.equal(answer.success, true, JSON.stringify(answer));
    return answer;
  };
  const fails = async (name, args) => {
    const answer = await call(name, args);
    assert.equal(answer.success, false, JSON.stringify(answer));
    return answer;
  };

  const listed = await client.listTools();
  assert.deepEqual(listed.tools.map(tool => tool.name).sort(), tools);
  assert.match(client.getInstructions(), /sign/i);
  await ok('ping');

  // Nobody is signed in: the call gives the link.
  const refused = await fails('api_get_request', { endpoint: '/me' });
  assert.equal(refused.error, 'sign_in_required');
  assert.equal(new URL(refused.sign_in_url).origin, url.origin);

  // The tool waits while the person signs in.
  const begun = await ok('authenticate_user', { user_id: ada });
  const waiting = ok('check_auth_status', { user_id: ada, wait_seconds: 60 });
  await signIn(begun.sign_in_url);
  const status = await waiting;
  assert.deepEqual([status.authenticated, status.can_refresh, status.username], [true, true, ada]);
  assert.equal((await ok('view_userid')).user_id, ada);

  // Reading, a page at a time.
  assert.equal((await ok('api_get_request', { endpoint: '/me' })).data.userPrincipalName, ada);
  const page = await ok('api_get_request', { endpoint: '/me/messages', params: { $top: 20 } });
  const rest = await ok('api_get_request', { endpoint: page.data['@odata.nextLink'] });
  assert.deepEqual([page.data.value.length, rest.data.value.length], [20, 5]);

  // Creating, changing, deleting.
  const created = await ok('api_post_request', { endpoint: '/tasks', data: { title: 'Write' } });
  assert.equal(created.status, 201);
  const endpoint = `/tasks/${created.data.id}`;
  const headers = { 'If-Match': created.headers.etag };
  const changed = await ok('api_patch_request', { endpoint, data: { done: true }, headers });
  assert.deepEqual(changed.data, { ...created.data, done: true });
  const late = await fails('api_patch_request', { endpoint, data: { done: false }, headers });
  assert.equal(late.status, 412);
  const replaced = await ok('api_put_request', { endpoint, data: { title: 'Read' } });
  assert.equal(replaced.data.title, 'Read');
  assert.deepEqual((await ok('api_get_request', { endpoint })).data, replaced.data);
  assert.equal((await ok('api_delete_request', { endpoint })).status, 204);
  assert.equal((await fails('api_get_request', { endpoint })).status, 404);

  // An image is an image.
  const photo = (await ok('api_get_request', { endpoint: '/photo' })).content.find(part => part.type === 'image');
  assert.equal(photo.mimeType, 'image/png');
  assert.equal(Buffer.from(photo.data, 'base64').subarray(1, 4).toString(), 'PNG');

  // The token goes nowhere else, and signing out forgets it.
  const away = await fails('api_get_request', { endpoint: 'https://evil.example/v1.0/me' });
  assert.equal(away.error, 'invalid_request');
  assert.match((await ok('logout_user')).logout_url, /\/oauth2\/v2\.0\/logout/);
  assert.equal((await fails('api_get_request', { endpoint: '/me' })).error, 'sign_in_required');
}

async function connected(client, transport, revision) {
  await client.connect(transport);
  assert.equal(client.getNegotiatedProtocolVersion?.() ?? transport.protocolVersion, revision);
  return client;
}

const opensUrls = { capabilities: { elicitation: { url: {} } } };
const modern = { versionNegotiation: { mode: 'auto' } };
for (const [sdk, revision, connect, elicitation] of [
  [
    'sdk 1', '2025-11-25',
    options => [new OldClient(me, options), new OldTransport(url)],
    client =>
      repeatedByTheProgram(client, (request, options) => client.callTool(request, undefined, options), OldError),
  ],
  [
    'client 2', '2025-11-25',
    options => [new Client(me, options), new StreamableHTTPClientTransport(url)],
    client => repeatedByTheProgram(client, (...call) => client.callTool(...call), UrlElicitationRequiredError),
  ],
  [
    'client 2', '2026-07-28',
    options => [new Client(me, { ...modern, ...options }), new StreamableHTTPClientTransport(url)],
    repeatedByTheSdk,
  ],
]) {
  for (const [options, tell] of [[{}, story], [opensUrls, elicitation]]) {
    const client = await connected(...connect(options), revision);
    await tell(client);
    await client.close();
  }
  console.log(`  TypeScript ${sdk}: the whole story, and signing in by elicitation, in revision ${revision}`);
}
