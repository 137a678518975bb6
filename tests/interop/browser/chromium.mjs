// Debian's Chromium with a fresh profile, and a record of what happens in it; and how our pages look there.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import assert from 'node:assert/strict';
import axe from 'axe-core';
import { chromium } from 'playwright-core';

const flags = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];

/// Runs `visit` with a page, and with what was requested, what the address bar has held, and what
/// the browser complained of. What it says of an address that starts with `besides` does not count.
export async function withBrowser({ besides }, visit) {
  const profile = await mkdtemp(join(tmpdir(), 'chromium-'));
  try {
    const context = await chromium.launchPersistentContext(profile, {
      executablePath: '/usr/bin/chromium', headless: true, args: flags, timeout: 60_000,
    });
    try {
      context.setDefaultTimeout(20_000);
      const [page] = context.pages();
      const devtools = await context.newCDPSession(page);
      await visit({ page, ...await record(page, devtools, besides), history: () => history(devtools) });
    } finally {
      await context.close();
    }
  } finally {
    await rm(profile, { recursive: true, force: true });
  }
}

async function record(page, devtools, besides) {
  const [requests, addresses, complaints] = [[], [], []];
  page.on('request', request => requests.push(request));
  page.on('framenavigated', frame => addresses.push(frame.url()));
  page.on('pageerror', error => complaints.push(String(error)));
  page.on('console', message => {
    const { url } = message.location();
    if (['error', 'warning'].includes(message.type()) && !url.startsWith(besides)) {
      complaints.push(`${message.text()} ${url}`);
    }
  });
  // What the console does not tell: refused cookies, blocked content.
  devtools.on('Audits.issueAdded', ({ issue }) => complaints.push(JSON.stringify(issue)));
  await devtools.send('Audits.enable');
  return { requests, addresses, complaints };
}

/// The addresses that Back and Forward lead to.
async function history(devtools) {
  const { entries } = await devtools.send('Page.getNavigationHistory');
  return entries.map(entry => entry.url);
}

/// With SCREENSHOTS=DIRECTORY in the environment, keeps pictures of the page.
export async function picture(page, name) {
  await inEveryLook(page, look => screenshot(page, `${name}-${look}`));
}

/// Demands of a page of ours that axe finds nothing, in light and dark, on a phone and on a desktop, with
/// everything unfolded; and that it is no wider than the screen. Keeps pictures as above.
export async function inspect(page, name) {
  await inEveryLook(page, async look => {
    await screenshot(page, `${name}-${look}`);
    await page.evaluate(() => document.querySelectorAll('details').forEach(details => { details.open = true; }));
    const beyond = await page.evaluate(() => {
      const { scrollWidth, clientWidth } = document.documentElement;
      return scrollWidth - clientWidth;
    });
    assert.equal(beyond, 0, `${name}-${look} is wider than the screen`);
    await demandNothingFound(page, `${name}-${look}`);
    await page.evaluate(() => document.querySelectorAll('details').forEach(details => { details.open = false; }));
  });
}

async function demandNothingFound(page, name) {
  await page.evaluate(axe.source);
  const options = { preload: false, rules: { 'target-size': { enabled: true } } };
  const { violations, passes } = await page.evaluate(options => globalThis.axe.run(document, options), options);
  assert(passes.length > 10, `${name}: axe has checked nothing`);
  const found = violations.flatMap(({ id, nodes }) => nodes.map(node => `${id}: ${node.html} ${node.failureSummary}`));
  assert.deepEqual(found, [], name);
}

async function inEveryLook(page, act) {
  const before = page.viewportSize();
  for (const [device, width] of [['phone', 390], ['desktop', 1200]]) {
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width, height: 844 });
      await act(`${device}-${colorScheme}`);
    }
  }
  await page.emulateMedia({ colorScheme: 'light' });
  if (before) await page.setViewportSize(before);
}

async function screenshot(page, name) {
  const directory = process.env.SCREENSHOTS;
  if (directory) await page.screenshot({ path: join(directory, `${name}.png`), fullPage: true });
}
