// The pages that no sign-in leads to, and the start page with several accounts, in a real browser. Runs under
// with-demo, with RELEASE_BINARY in the environment.
import assert from 'node:assert/strict';
import { inspect, withBrowser } from './chromium.mjs';
import { ENTRA_URL, answer, ada, demandHeading, signIn } from './person.mjs';
import { withRelease } from './release.mjs';

async function elsewhere({ page }, start) {
  for (const [path, status, heading] of [
    ['nowhere', 404, /There is nothing here/],
    ['mcp', 405, /This address is for MCP clients/],
    ['auth/callback?admin_consent=True&tenant=t', 200, /An administrator has answered/],
  ]) {
    const response = await page.goto(start + path);
    assert.equal(response.status(), status);
    await demandHeading(page, heading);
    await inspect(page, path.split(/[/?]/).slice(0, 2).join('-'));
    await page.getByRole('link', { name: 'To the start page' }).click();
    await page.waitForURL(start);
  }
}

/// Cookies go to every port of a host.
async function tooManyCookies({ page }, start) {
  const cookies = Array.from({ length: 20 }, (_, at) => ({ name: `other${at}`, value: 'x'.repeat(1000), url: start }));
  await page.context().addCookies(cookies);
  await page.goto(start);
  await demandHeading(page, /Too many cookies/);
  await inspect(page, 'too-many-cookies');
}

async function severalAccounts({ page }, start) {
  await signIn(page, start);
  await page.goto(start);
  await page.getByRole('link', { name: 'Sign in another account' }).click();
  await page.waitForURL(`${ENTRA_URL}/**`);
  await answer(page, start, ada);
  await page.getByText('No second one was made').waitFor();
  await inspect(page, 'same-person');
  await page.getByRole('link', { name: 'Try again' }).click();
  await page.waitForURL(`${ENTRA_URL}/**`);
  await answer(page, start, 'grace@contoso.example');
  await demandHeading(page, /You are signed in/);
  await page.goto(start);
  await page.getByText('Clients call this account account-2.').waitFor();
  await inspect(page, 'several-accounts');
}

/// One click selects all of a box, and nothing else.
async function oneClick({ page }, start) {
  await page.goto(start);
  await page.getByText('Claude Code', { exact: true }).click();
  const box = page.locator('pre', { hasText: 'claude mcp add' });
  await box.click();
  const selected = await page.evaluate(() => getSelection().toString());
  assert.equal(selected.trim(), (await box.innerText()).trim());
}

const besides = { besides: `${ENTRA_URL}/favicon.ico` }; // the stand-in has no icon
await withRelease({}, async start => {
  await withBrowser(besides, visit => elsewhere(visit, start));
  console.log('  a wrong path, the endpoint, an administrator\'s answer: pages, and axe finds nothing');
  await withBrowser(besides, visit => tooManyCookies(visit, start));
  console.log('  too many cookies of other programs: a page that says so');
  await withBrowser(besides, visit => severalAccounts(visit, start));
  console.log('  two accounts side by side; the same person was not made a second one');
  await withBrowser(besides, visit => oneClick(visit, start));
  console.log('  one click selects a box');
});
