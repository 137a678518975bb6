// A person's sign-in in a real browser: against the demo, and against the release binary with
// AUTH_RESPONSE_MODE=query. Runs under with-demo, with RELEASE_BINARY in the environment.
import assert from 'node:assert/strict';
import { inspect, withBrowser } from './chromium.mjs';
import { ENTRA_URL, START_URL, ada, demandHeading, signIn } from './person.mjs';
import { ask, withRelease } from './release.mjs';

const holdsCode = address => /[?&#]code=/.test(address);

/// The cookie and the status of the only request for `path`.
async function cookieAndStatus(requests, method, path) {
  const found = requests.filter(request => new URL(request.url()).pathname === path);
  assert.deepEqual(found.map(request => request.method()), [method], path);
  return [(await found[0].allHeaders()).cookie, (await found[0].response()).status()];
}

async function formPost({ page, requests, addresses, complaints, history }) {
  await page.goto(START_URL);
  await inspect(page, 'start');
  await signIn(page, START_URL);
  await inspect(page, 'signed-in');

  // Entra's POST is cross-site: the cookie of the sign-in comes only with the GET that follows it.
  assert.deepEqual(await cookieAndStatus(requests, 'POST', '/auth/callback'), [undefined, 303]);
  const [cookie, status] = await cookieAndStatus(requests, 'GET', '/auth/complete');
  assert.equal(status, 200);
  assert.ok(cookie, 'no cookie came with the GET');

  await page.reload();
  await demandHeading(page, /You are signed in/);
  await page.getByRole('link', { name: 'To the start page' }).click();
  await page.getByText(ada).waitFor();
  await inspect(page, 'start-signed-in');
  await page.getByRole('link', { name: 'Sign out' }).click();
  await page.waitForURL(`${START_URL}auth/logout-complete`);
  await demandHeading(page, /Signed out/);
  await inspect(page, 'signed-out');
  await page.goto(START_URL);
  assert.equal(await page.getByText(ada).count(), 0);

  const everywhere = [...addresses, ...await history(), ...requests.map(request => request.url())];
  assert.deepEqual(everywhere.filter(holdsCode), []);
  assert.deepEqual(complaints, []);
}

/// Another site leads the browser here: nothing happens until the person says so.
async function ledHere({ page }) {
  for (const [path, heading] of [['auth/login?user_id=eve', /Sign in\?/], ['auth/logout', /Not signed out/]]) {
    await page.goto(ENTRA_URL);
    await page.evaluate(address => location.assign(address), START_URL + path);
    await page.waitForURL(START_URL + path);
    await demandHeading(page, heading);
    await inspect(page, `led-to-${path.slice(5, 10)}`);
  }
}

async function query({ page, requests, complaints, history }, start) {
  await signIn(page, start);
  const [, status] = await cookieAndStatus(requests, 'GET', '/auth/callback');
  assert.equal(status, 303);
  assert.deepEqual((await history()).filter(holdsCode), []);
  assert.deepEqual(complaints, []);
  const me = await ask(`${start}mcp`, 'api_get_request', { endpoint: '/me' });
  assert.equal(me.data.userPrincipalName, ada);
}

const besides = { besides: `${ENTRA_URL}/favicon.ico` }; // the stand-in has no icon
await withBrowser(besides, formPost);
console.log('  form_post: signed in, reloaded, signed out; no code in any address, no complaint of the browser');
await withBrowser(besides, ledHere);
console.log('  led here by another site: asked before a sign-in, refused a sign-out');
await withRelease({ AUTH_RESPONSE_MODE: 'query' }, start => withBrowser(besides, visit => query(visit, start)));
console.log('  query, on the release binary: signed in, and GET /me answered');
