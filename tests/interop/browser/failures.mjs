// What a person sees when a sign-in goes wrong, and the page for a device code, in a real browser. Runs under
// with-demo, with RELEASE_BINARY in the environment.
import assert from 'node:assert/strict';
import { inspect, picture, withBrowser } from './chromium.mjs';
import { ENTRA_URL, START_URL, ada, answer, demandHeading, toEntra } from './person.mjs';
import { ask, freePort, withRelease } from './release.mjs';

const { MCP_URL } = process.env;
const guid = '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}';
const ids = new RegExp(`For Microsoft's support: correlation id ${guid}, trace id ${guid}, timestamp 20`);

/// The page has this heading and these texts, is well made, and the browser complains of its status alone.
async function demandPage({ page, complaints }, name, heading, ...texts) {
  await demandHeading(page, heading);
  const shown = await page.locator('body').innerText();
  for (const text of texts) assert.match(shown, text);
  assert.equal(complaints.length, 1, complaints.join('\n'));
  assert.match(complaints.pop(), /status of 400/);
  if (page.url().startsWith(ENTRA_URL)) await picture(page, name);
  else await inspect(page, name);
}

async function refused(visit) {
  const { page } = visit;
  await toEntra(page, START_URL);
  await picture(page, 'entra');
  await answer(page, START_URL, 'Deny consent');
  await demandPage(visit, 'declined', /Consent was declined/, /Sign in again and accept/, /AADSTS65004/, ids);

  await toEntra(page, START_URL);
  await answer(page, START_URL, 'carol@contoso.example');
  await demandPage(visit, 'refused', /A policy refuses the sign-in/, /Conditional Access/, /AADSTS53003/, ids);

  await page.getByRole('link', { name: 'To the start page' }).click();
  await page.getByText('Nobody yet').waitFor();
}

async function badLinks(visit) {
  const { page } = visit;
  const title = /This sign-in cannot begin/;
  const remedy = /Start the sign-in again from a new link/;
  await page.goto(`${START_URL}auth/login?ticket=unknown`);
  await demandPage(visit, 'unknown-link', title, /unknown or has expired/, remedy);

  const { sign_in_url } = await ask(MCP_URL, 'authenticate_user', { user_id: ada });
  await page.goto(sign_in_url);
  await answer(page, START_URL, ada);
  await demandHeading(page, /You are signed in/);
  await page.goto(sign_in_url);
  await demandPage(visit, 'used-link', title, /used already/, remedy);
  await ask(MCP_URL, 'logout_user');

  await page.goto(`${START_URL}auth/complete?sign_in=x`);
  await demandPage(visit, 'unknown-sign-in', /The sign-in could not be completed/, /unknown or has expired/, remedy);

  await page.goto(`${START_URL}auth/callback?code=from-somebody-else&state=unknown`);
  const warning = /they may be after your account/;
  await demandPage(visit, 'code-in-address', /This is not how a sign-in ends/, warning, remedy);
}

/// Microsoft shows it on a page of its own, so the help is on ours, to be found from there.
async function notRegistered(visit, start) {
  const { page } = visit;
  await toEntra(page, start);
  await demandPage(visit, 'own-page', /trouble signing you in/, /AADSTS50011/);
  await page.goto(start);
  await page.getByText('Errors that end on that page').click();
  const help = await page.getByRole('term').filter({ hasText: 'AADSTS50011' }).locator('+ dd').innerText();
  assert.match(help, /Register http:\/\/localhost\/not-registered under the platform/);
  await inspect(page, 'own-page-help');
}

async function deviceCode({ page }) {
  const { sign_in_url, user_code } = await ask(MCP_URL, 'authenticate_user', { user_id: ada, method: 'device_code' });
  await page.goto(sign_in_url);
  await picture(page, 'device');
  await page.getByRole('textbox', { name: 'Code' }).fill(user_code.toLowerCase());
  await page.getByRole('button', { name: ada }).click();
  await demandHeading(page, /You are done here/);
  const status = await ask(MCP_URL, 'check_auth_status', { user_id: ada, wait_seconds: 30 });
  assert.deepEqual([status.authenticated, status.username], [true, ada]);
  await ask(MCP_URL, 'logout_user');
}

const besides = { besides: `${ENTRA_URL}/favicon.ico` }; // the stand-in has no icon
await withBrowser(besides, refused);
console.log('  declined, refused by a policy: a page with title, remedy and ids, and nobody signed in');
await withBrowser(besides, badLinks);
console.log('  an unknown link, a used one, a code in the address: a page with title and remedy');
const port = await freePort();
const unknown = { SERVER_PORT: port, REDIRECT_URI: `http://localhost:${port}/not-registered` };
await withRelease(unknown, start => withBrowser(besides, visit => notRegistered(visit, start)));
console.log("  an error on Microsoft's own page: the start page has the help");
await withBrowser(besides, deviceCode);
console.log('  a device code, typed in the browser: signed in');
