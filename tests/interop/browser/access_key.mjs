// A server with an access key in a real browser, and for a client of the official SDK. Runs under with-demo, with
// RELEASE_BINARY in the environment.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { inspect, withBrowser } from './chromium.mjs';
import { ENTRA_URL, ada, answer, demandHeading } from './person.mjs';
import { withRelease } from './release.mjs';

const key = randomBytes(32).toString('hex');

async function enter(page, text) {
  await demandHeading(page, /Access key/);
  await page.getByLabel('Access key').fill(text);
  await page.getByRole('button', { name: 'Go on' }).click();
}

/// From a link to sign in over a wrong and the right key to Entra and back; the form's policy does not stop it.
async function signIn({ page, requests, complaints, history }, start) {
  await page.goto(`${start}auth/login?user_id=${ada}`);
  await inspect(page, 'key');
  await enter(page, 'wrong');
  await page.getByText('not the access key').waitFor();
  await inspect(page, 'key-wrong');
  await enter(page, key);
  await page.getByRole('link', { name: `Sign in as ${ada}` }).click();
  await page.waitForURL(`${ENTRA_URL}/**`);
  await answer(page, start, ada);
  await demandHeading(page, /You are signed in/);
  await page.getByRole('link', { name: 'To the start page' }).click();
  await page.getByText('Authorization: Bearer …').first().waitFor();
  await inspect(page, 'key-home');

  const [cookie] = (await page.context().cookies(start)).filter(({ name }) => name.startsWith('entra_auth_mcp_'));
  assert(cookie.httpOnly && cookie.sameSite === 'Strict' && !cookie.value.includes(key), JSON.stringify(cookie));
  const everywhere = [...await history(), ...requests.map(request => request.url())];
  assert.deepEqual(everywhere.filter(address => address.includes(key)), []);
  assert(complaints.length === 2 && complaints.every(text => /status of 401/.test(text)), complaints.join('\n'));
}

/// What another site leads to comes without the cookie.
async function ledHere({ page }, start) {
  await page.goto(ENTRA_URL.replace('localhost', '127.0.0.1'));
  await page.evaluate(address => location.assign(address), `${start}auth/logout?user_id=${ada}`);
  await page.waitForURL(`${start}auth/logout**`);
  await enter(page, key);
  await page.getByText(ada).first().waitFor();
  // Nor does it choose the label there.
  assert.equal(page.url(), start);
}

async function ask(start, headers) {
  const client = new Client({ name: 'access key', version: '1' });
  await client.connect(new StreamableHTTPClientTransport(new URL(`${start}mcp`), { requestInit: { headers } }));
  const { structuredContent } = await client.callTool({ name: 'api_get_request', arguments: { endpoint: '/me' } });
  await client.close();
  return structuredContent;
}

const besides = { besides: ENTRA_URL };
await withRelease({ SERVER_ACCESS_KEY: key }, start => withBrowser(besides, async visit => {
  await signIn(visit, start);
  console.log('  signed in behind the key; it is in no address, no cookie, and nothing stops the way to Entra');
  await ledHere(visit, start);
  console.log('  led here by another site: asked for the key, and nothing done');
  assert.equal((await ask(start, { Authorization: `Bearer ${key}` })).data.userPrincipalName, ada);
  await assert.rejects(ask(start, {}));
  await assert.rejects(ask(start, { Authorization: 'Bearer wrong' }));
  console.log('  the official SDK: let in with the key alone');
}));
