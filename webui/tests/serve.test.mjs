// The page out of the real program: FATHOM_BINARY names it. Skipped where it has no page or no serve.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { answered, launch, open, send } from './browser.mjs';
import { obstacle, Serve } from './serve.mjs';

let why = obstacle(process.env.FATHOM_BINARY);
let serve, browser;

before(async () => {
  if (why) return;
  serve = new Serve(process.env.FATHOM_BINARY);
  await serve.start('--cache-dir', join(serve.folder, 'cache'), '--cache-disk', '64M');
  const page = await fetch(serve.url);
  if (!/type="module"/.test(await page.text())) why = 'the program was built without the page';
  else browser = await launch();
});
after(async () => {
  await browser?.close();
  await serve?.close();
});

/** A model with random weights seldom ends by itself. */
async function longest(page, tokens) {
  await page.getByRole('button', { name: 'Settings' }).click();
  await page.getByLabel('Longest answer').fill(tokens);
  await page.getByRole('button', { name: 'Done' }).click();
}

test('the page is served as it was built: compressed, typed, under its policy', async (t) => {
  if (why) return t.skip(why);
  const page = await fetch(serve.url);
  assert.match(page.headers.get('content-type'), /^text\/html/);
  assert.equal(page.headers.get('content-encoding'), 'gzip');
  assert.match(page.headers.get('content-security-policy'), /script-src 'self'/);
  const html = await page.text();
  for (const [, path] of html.matchAll(/(?:src|href)="\.\/([^"]+)"/g)) {
    const asset = await fetch(new URL(path, serve.url));
    assert.equal(asset.status, 200, path);
    assert.match(asset.headers.get('cache-control') ?? '', /immutable/, path);
    assert.ok((await asset.arrayBuffer()).byteLength > 0);
  }
  assert.match(await (await fetch(new URL('assets/licences.txt', serve.url))).text(), /marked/);
  const plain = await fetch(serve.url, { headers: { 'Accept-Encoding': 'identity' } });
  assert.equal(plain.headers.get('content-encoding'), null);
  assert.equal(await plain.text(), html);
});

test('a chat with the real server: answers, numbers, known tokens, stop, reload, restart', async (t) => {
  if (why) return t.skip(why);
  const { page, context, problems } = await open(browser, serve.url);
  const known = async (answer) => /^([\d,]+) of ([\d,]+)/.exec(await answer.locator('[data-stat=known]').textContent()).slice(1)
    .map((text) => Number(text.replaceAll(',', '')));
  await longest(page, '24');

  const question = `Tell me about the deep sea. ${'It is dark and cold down there. '.repeat(12)}`;
  await send(page, question);
  const first = await answered(page);
  assert.equal(await first.getByRole('alert').count(), 0, await first.textContent());
  assert.match(await first.locator('[data-stat=tokens]').textContent(), /^\d+ tokens?$/);
  const [, total] = await known(first);
  assert.ok(total > 64, `${total} prompt tokens`);

  await send(page, 'And what lives there?');
  const second = await answered(page);
  const [knownNow, totalNow] = await known(second);
  assert.ok(totalNow > total && knownNow >= 64, `${knownNow} of ${totalNow} known in the second turn`);

  await page.locator('[data-number=hit-tokens]').waitFor();
  await sleep(2500);
  assert.doesNotMatch(await page.locator('[data-number=hit-tokens]').textContent(), /^0 of/);
  assert.ok((await page.locator('.tier h3').allTextContents()).includes('SSD'));

  await longest(page, '');
  await send(page, 'Go on for ever.');
  await sleep(700);
  await page.keyboard.press('Escape');
  await answered(page);
  await page.reload();
  await page.locator('.message').first().waitFor();
  assert.equal(await page.locator('.message').count(), 6);

  // After a restart the conversation is known from the SSD.
  await serve.stop();
  await serve.start('--cache-dir', join(serve.folder, 'cache'), '--cache-disk', '64M');
  const again = await open(browser, serve.url);
  await longest(again.page, '8');
  await send(again.page, question);
  const [fromDisk] = await known(await answered(again.page));
  assert.ok(fromDisk >= 64, `${fromDisk} known after a restart`);

  // Deleted with the server's cache, nothing of it is known any more (but how every chat begins).
  await again.page.locator('.conversations li').first().hover();
  await again.page.getByRole('button', { name: /^Delete Tell me/ }).click();
  await again.page.getByRole('checkbox', { name: /^Erase it from the server/ }).check();
  await again.page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await again.page.locator('[role=status]', { hasText: /has erased [1-9]\d* blocks/ }).waitFor({ state: 'attached' });
  await send(again.page, question);
  const [afterwards] = await known(await answered(again.page));
  assert.ok(afterwards < 16, `${afterwards} still known`);
  await again.context.close();
  await context.close();
  assert.deepEqual([...problems, ...again.problems], []);
});

test('with keys required, the page asks for one', async (t) => {
  if (why) return t.skip(why);
  await serve.stop();
  const { createHash } = await import('node:crypto');
  const { writeFileSync } = await import('node:fs');
  const key = 'fsk-test-key-of-the-page';
  const file = join(serve.folder, 'keys');
  writeFileSync(file, `tester ${createHash('sha256').update(key).digest('hex')} tester admin\n`);
  await serve.start('--api-keys', file);
  const { page, context, problems } = await open(browser, serve.url);
  const dialog = page.getByRole('dialog', { name: 'API key' });
  await dialog.waitFor();
  await dialog.getByLabel('Key', { exact: true }).fill(key);
  await page.keyboard.press('Enter');
  await page.getByLabel('Thinking').waitFor();
  await longest(page, '8');
  await send(page, 'hello');
  const answer = await answered(page);
  assert.equal(await answer.getByRole('alert').count(), 0, await answer.textContent());
  await context.close();
  assert.deepEqual(problems, []);
});
