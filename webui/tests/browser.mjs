// Chromium for the tests: Debian's, or the one that FATHOM_CHROMIUM names.
import { existsSync } from 'node:fs';

export function chromiumPath() {
  return [process.env.FATHOM_CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser'].find((path) => path && existsSync(path));
}

export async function launch() {
  const { chromium } = await import('playwright-core');
  return chromium.launch({
    executablePath: chromiumPath(), headless: true,
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
           '--disable-component-update', '--disable-sync'],
  });
}

/** A fresh page of a fresh profile; `problems` collects what no run may show. */
export async function open(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1320, height: 860 }, ...options });
  await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: new URL(url).origin });
  const page = await context.newPage();
  page.setDefaultTimeout(Number(process.env.FATHOM_PAGE_TIMEOUT_MS ?? 15000));
  const problems = [];
  page.on('pageerror', (error) => problems.push(`exception: ${error.message}`));
  page.on('console', (message) => {
    // Refusals are part of what is tested; the browser logs each.
    if (message.type() === 'error' && !/Failed to load resource|net::ERR_/.test(message.text())) problems.push(message.text());
  });
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== new URL(url).origin) problems.push(`asked elsewhere: ${request.url()}`);
  });
  await page.goto(url);
  await page.getByRole('textbox', { name: 'Message' }).waitFor();
  return { page, context, problems };
}

export async function send(page, text) {
  await page.getByRole('textbox', { name: 'Message' }).fill(text);
  await page.keyboard.press('Enter');
}

const lastAnswer = new WeakMap();  // of each page, the answer that answered() gave last

/** The next answer once it is whole. Never one given before: under load the page still shows that when Enter was pressed already. */
export async function answered(page) {
  const last = page.locator('.message.assistant').last();
  const before = lastAnswer.get(page);
  await last.and(page.locator(before ? `[aria-busy=false]:not([data-id="${before}"])` : '[aria-busy=false]')).waitFor();
  lastAnswer.set(page, await last.getAttribute('data-id'));
  return last;
}
