// Debian's Chromium with a fresh profile, and a record of what happens in it.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
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
  const directory = process.env.SCREENSHOTS;
  if (!directory) return;
  for (const [look, colorScheme, width] of [['light', 'light', 1000], ['dark', 'dark', 1000], ['phone', 'light', 360]]) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height: 740 });
    await page.screenshot({ path: join(directory, `${name}-${look}.png`), fullPage: true });
  }
}
