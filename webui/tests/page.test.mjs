// The page in Chromium against a server that follows a script (mock_server.mjs).
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { after, before, beforeEach, afterEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { answered, launch, open, send } from './browser.mjs';
import { buildPage } from './build.mjs';
import { MockServer } from './mock_server.mjs';

let dist, browser, mock, page, context, problems;

before(async () => {
  dist = await buildPage();
  browser = await launch();
});
after(async () => browser?.close());
beforeEach(async () => {
  mock = await new MockServer().start(0, dist);
  ({ page, context, problems } = await open(browser, mock.url));
});
afterEach(async () => {
  await context.close();
  await mock.stop();
  assert.deepEqual(problems, []);  // no exception, no violated policy, nothing asked from elsewhere
});

const message = () => page.getByRole('textbox', { name: 'Message' });
const number = (name) => page.locator(`[data-number=${name}]`);
const stat = (answer, name) => answer.locator(`[data-stat=${name}]`).textContent();

async function eventually(what, check, milliseconds = 20000) {
  const end = Date.now() + milliseconds;
  let last;
  while (Date.now() < end) {
    last = await check();
    if (last) return last;
    await sleep(50);
  }
  assert.fail(`never: ${what}`);
}

test('a question is sent and its answer streams in, with its numbers', async () => {
  await send(page, 'hello there');
  const answer = await answered(page);
  assert.match(await answer.textContent(), /You said: hello there/);
  assert.match(await stat(answer, 'tokens'), /^4 tokens$/);
  assert.match(await stat(answer, 'rate'), /^88 tok\/s$/);
  assert.match(await stat(answer, 'first'), /^first after \d/);
  assert.match(await stat(answer, 'known'), /^0 of \d+ prompt tokens known$/);
  const { stream, stream_options: options, messages } = mock.lastRequest;
  assert.deepEqual([stream, options, messages], [true, { include_usage: true }, [{ role: 'user', content: 'hello there' }]]);
  assert.equal(await page.title(), 'hello there · fathom');

  await send(page, 'and again');
  const second = await answered(page);
  assert.match(await stat(second, 'known'), /^[1-9]\d* of \d+ prompt tokens known \(7\d %\)$/);
  assert.deepEqual(mock.lastRequest.messages.map(({ role, content }) => [role, content]),
                   [['user', 'hello there'], ['assistant', 'You said: hello there'], ['user', 'and again']]);
});

test('Enter sends, Shift+Enter begins a line, an input method is left alone', async () => {
  await message().fill('one');
  await page.keyboard.press('Shift+Enter');
  await page.keyboard.type('two');
  await message().dispatchEvent('keydown', { key: 'Enter', keyCode: 229, isComposing: true, bubbles: true });
  assert.equal(await message().inputValue(), 'one\ntwo');
  await page.keyboard.press('Enter');
  await answered(page);
  assert.equal(mock.lastRequest.messages[0].content, 'one\ntwo');
  assert.equal(await message().inputValue(), '');
  await page.keyboard.press('Enter');  // nothing written: nothing sent
  assert.equal(await page.locator('.message').count(), 2);
});

test('thinking is folded, says what goes on, opens', async () => {
  await send(page, 'think slowly, please');
  const summary = page.locator('.thinking summary');
  await eventually('a live summary', async () => /^Thinking for .+/.test(await summary.textContent()));
  const early = await summary.locator('.last-line').textContent();
  await eventually('the summary moves', async () => (await summary.locator('.last-line').textContent()) !== early);
  assert.equal(await page.locator('.thoughts').isVisible(), false);
  const answer = await answered(page);
  assert.match(await summary.textContent(), /^Thought for /);
  await summary.click();
  assert.equal(await page.locator('.thoughts').isVisible(), true);
  assert.match(await page.locator('.thoughts').textContent(), /<b>Check<\/b>: 933 - 586 = 347\.$/);
  assert.equal(await answer.locator('.markdown strong').textContent(), '933');
  assert.equal(await answer.locator('.thoughts b').count(), 0);
  // Thoughts are not sent back.
  await send(page, 'next');
  await answered(page);
  assert.equal(mock.lastRequest.messages[1].content, 'It is **933**.');
});

test('the thinking switch is sent and kept', async () => {
  await page.getByRole('combobox', { name: 'Thinking' }).selectOption('off');
  await send(page, 'hi');
  await answered(page);
  assert.deepEqual(mock.lastRequest.thinking, { type: 'disabled' });
  await page.reload();
  assert.equal(await page.getByRole('combobox', { name: 'Thinking' }).inputValue(), 'off');
});

for (const [how, stop] of [['the button', () => page.getByRole('button', { name: 'Stop' }).click()],
                           ['Esc', () => page.keyboard.press('Escape')]]) {
  test(`${how} stops an answer, and the server learns of it`, async () => {
    await send(page, 'slow please');
    await eventually('words come', async () => /word5/.test(await page.locator('.message.assistant').textContent()));
    await stop();
    const answer = await answered(page);
    const kept = await answer.locator('.markdown').textContent();
    assert.match(kept, /^word0 .*word\d+ ?$/);
    assert.doesNotMatch(kept, /word399/);
    assert.match(await answer.textContent(), /Stopped\./);
    assert.match(await stat(answer, 'tokens'), /^≈ \d+ tokens$/);
    await eventually('the server sees the connection closed', () => mock.lastAborted);
    await send(page, 'go on');  // and the next one works
    assert.match(await (await answered(page)).textContent(), /You said: go on/);
  });
}

test('the prompt being read is shown', async () => {
  await send(page, `slow ${'very long '.repeat(300)}`);
  await eventually('progress', async () => /Reading [\d,]+ of [\d,]+ tokens/.test(await page.locator('.progress').textContent()));
});

test('answer again, edit and send again', async () => {
  await send(page, 'first');
  await answered(page);
  await send(page, 'second');
  await answered(page);
  assert.equal(await page.getByRole('button', { name: 'Answer again' }).count(), 1);  // of the last answer alone
  await page.getByRole('button', { name: 'Answer again' }).click();
  await answered(page);
  assert.equal(await page.locator('.message').count(), 4);
  assert.equal(mock.requests, 3);
  const mine = page.locator('.message.user').first();
  await mine.hover();
  await mine.getByRole('button', { name: 'Edit and send again' }).click();
  assert.equal(await message().inputValue(), 'first');
  await message().fill('changed');
  await page.keyboard.press('Enter');
  await answered(page);
  assert.deepEqual(await page.locator('.message.user .words').allTextContents(), ['changed']);
  assert.deepEqual(mock.lastRequest.messages.map(({ content }) => content), ['changed']);
});

test('chats outlive a reload; rename, delete', async () => {
  await send(page, 'first chat');
  await answered(page);
  await page.getByRole('button', { name: 'New chat' }).first().click();
  await send(page, 'think in the second chat');
  await answered(page);
  await page.reload();
  await page.locator('.thinking').waitFor();
  assert.match(await page.locator('.log').textContent(), /think in the second chat.*It is 933/s);
  assert.match(await page.locator('.thinking summary').textContent(), /^Thought for/);
  assert.match(await stat(page.locator('.message.assistant'), 'tokens'), /tokens$/);
  const titles = () => page.locator('.conversations .title').allTextContents();
  assert.deepEqual(await titles(), ['think in the second chat', 'first chat']);

  await page.locator('.conversations').getByText('first chat').click();
  await eventually('the other chat', async () => /You said: first chat/.test(await page.locator('.log').textContent()));
  const item = page.locator('.conversations li').last();
  await item.hover();
  await item.getByRole('button', { name: /^Rename/ }).click();
  await page.getByRole('textbox', { name: 'New name' }).fill('renamed');
  await page.keyboard.press('Enter');
  await eventually('the new name', async () => (await titles()).includes('renamed'));
  assert.equal(await page.locator('h1').textContent(), 'renamed');
  await page.locator('.conversations li').last().hover();
  await page.locator('.conversations li').last().getByRole('button', { name: /^Rename/ }).click();
  await page.keyboard.type('never mind');
  await page.keyboard.press('Escape');
  assert.ok((await titles()).includes('renamed'));

  await page.locator('.conversations li').last().hover();
  await page.getByRole('button', { name: 'Delete renamed' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
  assert.equal((await titles()).length, 2);
  await page.locator('.conversations li').last().hover();
  await page.getByRole('button', { name: 'Delete renamed' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await eventually('it is gone', async () => (await titles()).length === 1);
  await page.reload();
  await eventually('it stays gone', async () => (await titles()).join() === 'think in the second chat');
});

test('a deleted chat is erased from the server’s cache when that is wanted', async () => {
  const remove = async (title, option) => {
    await page.locator('.conversations li', { hasText: title }).hover();
    await page.getByRole('button', { name: `Delete ${title}` }).click();
    if (option) await page.getByRole('checkbox', { name: /^Erase it from the server/ }).check();
    await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
    await eventually('it is gone', async () => (await page.locator('.conversations li', { hasText: title }).count()) === 0);
  };
  for (const words of ['secret one', 'open one', 'keep this']) {
    await page.getByRole('button', { name: 'New chat' }).first().click();
    await send(page, words);
    await answered(page);
  }
  await remove('open one', false);
  assert.equal(mock.forgotten, undefined);
  await remove('secret one', true);
  await eventually('the server is told', () => mock.forgotten);
  assert.deepEqual(mock.forgotten, { messages: [{ role: 'user', content: 'secret one' }], everything: true });
  await remove('keep this', true);
  await eventually('a refusal is said', async () => /may still know it: This server runs without a cache/.test(await page.locator('.notice').textContent()));
});

test('an answer that was cut off by closing the page is kept as far as it came', async () => {
  await send(page, 'slow please');
  await eventually('words come', async () => /word20/.test(await page.locator('.message.assistant').textContent()));
  await sleep(1700);  // it is written to the database every 1.5 s
  await page.reload();
  await page.locator('.message.assistant').waitFor();
  const text = await page.locator('.message.assistant').textContent();
  assert.match(text, /word0 word1 .*cut off when the page was closed/s);
});

test('an answer goes on while another chat is looked at', async () => {
  await send(page, 'slow please');
  await eventually('words come', async () => /word3/.test(await page.locator('.message.assistant').textContent()));
  await page.getByRole('button', { name: 'New chat' }).first().click();
  await send(page, 'quick one');
  assert.match(await (await answered(page)).textContent(), /You said: quick one/);
  await page.locator('.conversations').getByText('slow please').click();
  await eventually('it has gone on', async () => /word40/.test(await page.locator('.message.assistant').textContent()));
  await page.getByRole('button', { name: 'Stop' }).click();
  await answered(page);
});

test('markdown is drawn', async () => {
  await send(page, 'markdown');
  const answer = (await answered(page)).locator('.markdown');
  const texts = (selector) => answer.locator(selector).allTextContents();
  assert.deepEqual(await texts('h4'), ['Reading a prefix once']);
  assert.deepEqual(await texts('p strong'), ['cache']);
  assert.deepEqual(await texts('p em'), ['blocks']);
  assert.deepEqual(await texts('p code'), ['64']);
  assert.deepEqual(await texts('ol > li ul li'), ['layer by layer', 'in the background']);
  assert.match((await texts('blockquote')).join(), /Never compute the same prefix twice/);
  assert.equal(await answer.locator('pre code').textContent(), 'auto prefix = cache->Acquire(tenant, prompt, most);\nsequence.Adopt(prefix.blocks, prefix.tokens);');
  assert.deepEqual(await texts('td'), ['memory', '1 ms', '64 %', 'SSD', '40 ms', '36 %']);
  assert.equal(await answer.locator('td.align-right').count(), 2);
  assert.deepEqual(await answer.locator('li.task input').evaluateAll((boxes) => boxes.map((box) => [box.checked, box.disabled])), [[true, true], [false, true]]);
  assert.match((await texts('p')).join(), /a < b, and that is it/);
  const link = answer.locator('a');
  assert.deepEqual([await link.getAttribute('href'), await link.getAttribute('rel'), await link.getAttribute('target')],
                   ['https://arxiv.org/abs/2405.04434', 'noopener noreferrer nofollow', '_blank']);
});

test('code and messages are copied as they were written', async () => {
  await send(page, 'markdown');
  const answer = await answered(page);
  await answer.getByRole('button', { name: 'Copy code' }).click();
  assert.match(await page.evaluate(() => navigator.clipboard.readText()), /^auto prefix = .*tokens\);$/s);
  await answer.getByRole('button', { name: 'Copied' }).waitFor();
  await answer.getByRole('button', { name: 'Copy message' }).click();
  assert.match(await page.evaluate(() => navigator.clipboard.readText()), /^## Reading a prefix once\n\nThe \*\*cache\*\*/);
});

test('hostile markdown stays text, from a model, a user, a title and a kept chat', async () => {
  const requested = [];
  page.on('request', (request) => requested.push(new URL(request.url()).pathname));
  await send(page, 'xss <img src=x onerror=window.hacked=20>');
  const answer = await answered(page);
  await page.reload();
  await page.locator('.message.assistant .code-block').waitFor();
  await sleep(300);
  assert.equal(await page.evaluate(() => window.hacked), undefined);
  const inside = await page.locator('.app').evaluate((app) => ({
    elements: app.querySelectorAll('img, script, iframe, style, object, embed, base, link, .markdown form, .markdown svg:not(.icon)').length,
    handlers: [...app.querySelectorAll('*')].flatMap((node) => node.getAttributeNames().filter((name) => name.startsWith('on'))),
    links: [...app.querySelectorAll('a')].map((link) => link.protocol),
  }));
  assert.deepEqual(inside.elements, 0);
  assert.deepEqual(inside.handlers, []);
  assert.deepEqual(inside.links.filter((protocol) => !['http:', 'https:', 'mailto:'].includes(protocol)), []);
  const text = await answer.textContent();
  for (const seen of ['<script>window.hacked=2</script>', '<iframe src="javascript:parent.hacked=17">', '<img src=x onerror=window.hacked=18>',
                      '<script>window.hacked=19</script>']) {
    assert.ok(text.includes(seen), seen);
  }
  for (const link of await page.locator('.markdown .dead-link').all()) await link.click();
  assert.equal(await page.evaluate(() => window.hacked), undefined);
  assert.ok(requested.every((path) => /^\/(assets\/|v1\/|metrics|$)/.test(path)), requested.join());
});

test('the policy forbids what the page does not do', async () => {
  const refused = await page.evaluate(() => {
    const results = [];
    try { document.body.insertAdjacentHTML('beforeend', '<b>x</b>'); } catch (error) { results.push(error.name); }
    const script = document.createElement('script');
    try { script.textContent = 'window.hacked = 21'; document.body.append(script); } catch (error) { results.push(error.name); }
    return [results, window.hacked];
  });
  assert.deepEqual(refused, [['TypeError', 'TypeError'], undefined]);
  assert.equal(problems.filter((text) => /TrustedHTML|TrustedScript/.test(text)).length >= 2, true);
  problems.length = 0;
});

test('text nested without end neither hangs nor breaks the page', async () => {
  await send(page, 'deep');
  const answer = await answered(page);
  assert.match(await answer.textContent(), /deep/);
  await send(page, 'nested');
  assert.match(await (await answered(page)).textContent(), /deep/);
  const quotes = await page.locator('.message').last().locator('blockquote').count();
  assert.ok(quotes > 10 && quotes < 60, `${quotes} quotes in each other`);
  await send(page, 'still there?');
  assert.match(await (await answered(page)).textContent(), /You said: still there/);
});

test('401 asks for a key; a wrong one is refused again; the right one answers', async () => {
  mock.key = 'sk-right';
  await page.reload();
  const dialog = page.getByRole('dialog', { name: 'API key' });
  await dialog.waitFor();
  assert.match(await dialog.textContent(), /Incorrect API key provided/);
  await page.keyboard.press('Escape');
  await send(page, 'with a key');
  await dialog.waitFor();
  await dialog.getByLabel('Key', { exact: true }).fill('sk-wrong');
  await page.keyboard.press('Enter');
  await eventually('it asks again', async () => (await dialog.count()) === 1 &&
                   (await dialog.getByLabel('Key', { exact: true }).inputValue({ timeout: 500 }).catch(() => 'closed')) === '');
  await dialog.getByLabel('Key', { exact: true }).fill('sk-right');
  await page.keyboard.press('Enter');
  await eventually('an answer', async () => /You said: with a key/.test(await page.locator('.log').textContent()));
  await answered(page);
  assert.equal(await page.locator('.message').count(), 2);
  await page.reload();  // kept for this tab
  await send(page, 'still known');
  assert.match(await (await answered(page)).textContent(), /You said: still known/);
  assert.equal(await page.evaluate(() => localStorage.getItem('fathom.key')), null);
});

test('refusals and failures are said in words, with what to do', async () => {
  for (const [words, says, todo] of [
    ['refuse me', /tools are not supported yet/, /Change the message/], ['busy', /The queue is full/, /Wait 7 s/],
    ['crash', /does not answer/, /fathom serve still runs/], ['cut', /ended before the answer was whole/, /What came is kept/],
    ['break', /The model could not go on/, /Try again/]]) {
    await send(page, words);
    const answer = await answered(page);
    const alert = answer.getByRole('alert');
    assert.match(await alert.textContent(), says);
    assert.match(await alert.textContent(), todo);
    if (words === 'cut') assert.match(await answer.locator('.markdown').textContent(), /Half an answer/);
  }
  // Trying again takes the failed answer's place.
  const before = await page.locator('.message').count();
  mock.chat = async (_body, response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    response.end('data: {"choices":[{"delta":{"content":"now it works"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n');
  };
  await page.getByRole('button', { name: 'Try again' }).last().click();
  await eventually('a new answer', async () => /now it works/.test(await page.locator('.message').last().textContent()));
  assert.equal(await page.locator('.message').count(), before);
});

test('a server that has gone is said, and the page finds it again', async () => {
  const { port } = new URL(mock.url);
  await mock.stop();
  await send(page, 'anyone?');
  assert.match(await (await answered(page)).getByRole('alert').textContent(), /The server does not answer/);
  await eventually('the panel says so', async () => /does not answer.*Trying again/.test(await page.locator('.panel-note').textContent()));
  mock = await new MockServer().start(Number(port), dist);
  await page.getByRole('button', { name: 'Try again' }).click();
  await eventually('an answer', async () => /You said: anyone/.test(await page.locator('.log').textContent()));
  await eventually('the panel is back', async () => (await page.locator('.panel-note').textContent()) === '');
});

test('the panel shows tiers, hits and speed, and they move', async () => {
  await number('hit-tokens').waitFor();
  assert.deepEqual(await page.locator('.tier h3').allTextContents(), ['Memory', 'SSD']);
  assert.match(await page.locator('[data-tier=disk] .amount').textContent(), /^6\.6 GiB of 20 GiB$/);
  const before = await number('hit-tokens').textContent();
  assert.equal(await number('running').textContent(), 'idle');
  await send(page, 'one');
  await answered(page);
  await send(page, 'slow please');
  await eventually('it says that it works', async () => (await number('running').textContent()) === '1 running');
  await eventually('speed', async () => parseFloat(await number('decode-rate').textContent()) > 5);
  await page.keyboard.press('Escape');
  await eventually('hits move', async () => (await number('hit-tokens').textContent()) !== before);
  await eventually('idle again', async () => (await number('running').textContent()) === 'idle');
  // Closed, it asks no more.
  await page.getByRole('button', { name: 'Cache and speed' }).click();
  let asked = 0;
  page.on('request', (request) => { asked += request.url().endsWith('/metrics') ? 1 : 0; });
  await sleep(2600);
  assert.equal(asked, 0);
});

test('settings are sent, checked, and kept', async () => {
  await page.getByRole('button', { name: 'Settings' }).click();
  const dialog = page.getByRole('dialog', { name: 'Settings' });
  await dialog.getByLabel('System prompt').fill('Be brief.');
  await dialog.getByLabel('Temperature').fill('0');
  await dialog.getByLabel('Longest answer').fill('77');
  await dialog.getByLabel('Seed').fill('5');
  await dialog.getByRole('button', { name: 'Done' }).click();
  await send(page, 'hi');
  await answered(page);
  const { messages, temperature, max_tokens: most, seed, top_p: topP } = mock.lastRequest;
  assert.deepEqual([messages[0], temperature, most, seed, topP], [{ role: 'system', content: 'Be brief.' }, 0, 77, 5, undefined]);
  await page.reload();
  await page.getByRole('button', { name: 'Settings' }).click();
  assert.equal(await dialog.getByLabel('System prompt').inputValue(), 'Be brief.');
  await dialog.getByLabel('Temperature').fill('9');
  await dialog.getByRole('button', { name: 'Done' }).click();
  assert.equal(await dialog.isVisible(), true);  // the browser points at the wrong number
  await dialog.getByLabel('Temperature').fill('');
  await dialog.getByRole('button', { name: 'Done' }).click();
  await send(page, 'hi again');
  await answered(page);
  assert.equal(mock.lastRequest.temperature, undefined);
});

test('two tabs see each other’s chats', async () => {
  const other = await context.newPage();
  await other.goto(mock.url);
  await send(page, 'from the first tab');
  await answered(page);
  await other.locator('.conversations').getByText('from the first tab').waitFor();
  await other.close();
});

test('without storage it works and says that nothing is kept', async () => {
  const closed = await browser.newContext();
  await closed.addInitScript(() => {
    Object.defineProperty(window, 'indexedDB', { get() { throw new DOMException('forbidden', 'SecurityError'); } });
    Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('forbidden', 'SecurityError'); } });
    Object.defineProperty(window, 'sessionStorage', { get() { throw new DOMException('forbidden', 'SecurityError'); } });
  });
  const bare = await closed.newPage();
  await bare.goto(mock.url);
  await send(bare, 'hello');
  assert.match(await (await answered(bare)).textContent(), /You said: hello/);
  assert.match(await bare.locator('.keep-note').textContent(), /keeps nothing/);
  await closed.close();
});

test('on a phone the list and the panel lie over the chat, and nothing is wider than the screen', async () => {
  const phone = await open(browser, mock.url, { viewport: { width: 360, height: 720 }, hasTouch: true, isMobile: true });
  await phone.page.getByRole('textbox', { name: 'Message' }).fill('markdown');
  await phone.page.getByRole('button', { name: 'Send' }).tap();
  await answered(phone.page);
  const wide = () => phone.page.evaluate(() => document.documentElement.scrollWidth);
  assert.equal(await wide(), 360);
  assert.equal(await phone.page.locator('.sidebar').isVisible(), false);
  await phone.page.getByRole('button', { name: 'Chats' }).tap();
  assert.equal(await phone.page.locator('.sidebar').isVisible(), true);
  await phone.page.locator('.conversations .open').first().tap();
  assert.equal(await phone.page.locator('.sidebar').isVisible(), false);
  await phone.page.getByRole('button', { name: 'Cache and speed' }).tap();
  await phone.page.locator('[data-number=hit-ratio]').waitFor();
  assert.equal(await wide(), 360);
  await phone.context.close();
  assert.deepEqual(phone.problems, []);
});

test('every control has a name, and the keyboard reaches them', async () => {
  await send(page, 'markdown');
  await answered(page);
  const nameless = await page.evaluate(() => [...document.querySelectorAll('button, input, select, textarea, [role=img], summary, dialog, nav, aside')]
    .filter((node) => !(node.getAttribute('aria-label') || node.textContent.trim() || (node.labels && node.labels.length)))
    .map((node) => node.outerHTML.slice(0, 120)));
  assert.deepEqual(nameless, []);
  const reached = new Set();
  await page.evaluate(() => document.activeElement.blur());
  for (let i = 0; i < 40; ++i) {
    await page.keyboard.press('Tab');
    reached.add(await page.evaluate(() => document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent));
  }
  for (const name of ['Message', 'Copy message', 'Answer again', 'Settings', 'Cache and speed', 'Thinking', 'Copy code']) {
    assert.ok(reached.has(name), `${name} in ${[...reached].join(' | ')}`);
  }
  assert.equal(await page.locator('.offscreen[role=status]').textContent().then((text) => /^Answer complete, \d+ tokens\.$/.test(text)), true);
});

test('pictures of the page, for looking at', { skip: !process.env.FATHOM_SHOTS && 'FATHOM_SHOTS=FOLDER takes them' }, async () => {
  const folder = process.env.FATHOM_SHOTS;
  mkdirSync(folder, { recursive: true });
  const shoot = async (name, options, act) => {
    const shown = await open(browser, mock.url, options);
    await act(shown.page);
    await shown.page.screenshot({ path: `${folder}/${name}.png` });
    await shown.context.close();
  };
  const talk = async (page) => {
    await send(page, 'What is 347 + 586?');
    await answered(page);
    await send(page, 'think about it');
    await answered(page);
    await send(page, 'markdown');
    await answered(page);
    await sleep(1500);
  };
  for (const colorScheme of ['light', 'dark']) {
    await shoot(`chat-${colorScheme}`, { colorScheme }, talk);
    await shoot(`empty-${colorScheme}`, { colorScheme }, () => sleep(500));
    await shoot(`error-${colorScheme}`, { colorScheme }, async (page) => { await send(page, 'busy'); await answered(page); });
    await shoot(`settings-${colorScheme}`, { colorScheme }, async (page) => { await page.getByRole('button', { name: 'Settings' }).click(); await sleep(200); });
  }
  const phone = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 };
  await shoot('phone', phone, talk);
  await shoot('phone-empty', { ...phone, colorScheme: 'dark' }, () => sleep(300));
  await shoot('phone-list', phone, async (page) => { await talk(page); await page.getByRole('button', { name: 'Chats' }).tap(); await sleep(300); });
  await shoot('phone-panel', phone, async (page) => { await talk(page); await page.getByRole('button', { name: 'Cache and speed' }).tap(); await sleep(1200); });
  await shoot('thinking', {}, async (page) => {
    await send(page, 'think slowly');
    await page.locator('.thinking summary .last-line', { hasText: '347' }).waitFor();
  });
  await shoot('streaming', { colorScheme: 'dark' }, async (page) => { await send(page, 'slow please'); await sleep(3500); });
  await shoot('key', {}, async (page) => { mock.key = 'x'; await page.reload(); await page.getByRole('dialog').waitFor(); mock.key = ''; });
});
