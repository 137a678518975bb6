// What a person does and looks for in the browser.
import assert from 'node:assert/strict';

export const { START_URL, ENTRA_URL } = process.env;
export const ada = 'ada@contoso.example';

export const demandHeading = async (page, text) =>
  assert.match(await page.getByRole('heading', { level: 1 }).innerText(), text);

/// From the start page to Entra's.
export async function toEntra(page, start) {
  await page.goto(start);
  await page.getByRole('link', { name: 'Sign in', exact: true }).click();
  await page.waitForURL(`${ENTRA_URL}/**`);
}

/// Presses a button of Entra's page, which leads back to the server.
export async function answer(page, start, button) {
  await page.getByRole('button', { name: button }).click();
  await page.waitForURL(`${start}auth/complete**`);
}

export async function signIn(page, start) {
  await toEntra(page, start);
  await answer(page, start, ada);
  await demandHeading(page, /You are signed in/);
}
