// Anthropic's own client.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import { becomesIdle, kKey, longPrompt, serve } from './common.mjs';

let server, client, model;

before(async () => {
  server = await serve();
  client = new Anthropic({ apiKey: kKey, baseURL: server.url.replace(/\/$/, ''), maxRetries: 0 });
  model = (await client.models.list()).data[0].id;
});
after(async () => server?.close());

const body = (words, more = {}) => ({ model, max_tokens: 16, temperature: 0, messages: [{ role: 'user', content: words }], ...more });
const textOf = (message) => message.content.filter(({ type }) => type === 'text').map(({ text }) => text).join('');

test('a message, whole and streamed', async () => {
  const whole = await client.messages.create(body('What is in the sea?'));
  assert.deepEqual([whole.type, whole.role, whole.model], ['message', 'assistant', model]);
  assert.ok(['end_turn', 'max_tokens'].includes(whole.stop_reason), whole.stop_reason);
  assert.ok(whole.usage.input_tokens > 0 && whole.usage.output_tokens > 0);

  const stream = client.messages.stream(body('What is in the sea?'));
  let heard = '';
  const events = [];
  stream.on('text', (piece) => { heard += piece; });
  stream.on('streamEvent', (event) => events.push(event.type));
  const final = await stream.finalMessage();
  assert.equal(heard, textOf(whole));
  assert.deepEqual(final.content, whole.content);
  assert.equal(final.stop_reason, whole.stop_reason);
  assert.equal(final.usage.output_tokens, whole.usage.output_tokens);
  assert.equal(events[0], 'message_start');
  assert.equal(events.at(-1), 'message_stop');
});

test('the second turn is read from the cache', async () => {
  const messages = [{ role: 'user', content: longPrompt('anthropic') }];
  const system = 'You are brief.';
  const first = await client.messages.create({ model, system, messages, max_tokens: 8, temperature: 0 });
  messages.push({ role: 'assistant', content: textOf(first) || 'Yes.' }, { role: 'user', content: [{ type: 'text', text: 'And then?' }] });
  const second = await client.messages.create({ model, system, messages, max_tokens: 8, temperature: 0 });
  assert.ok(second.usage.cache_read_input_tokens >= first.usage.input_tokens - 64, JSON.stringify([first.usage, second.usage]));
  const { input_tokens: counted } = await client.messages.countTokens({ model, system, messages });
  assert.equal(counted, second.usage.input_tokens + second.usage.cache_read_input_tokens);
});

test('thinking with a budget comes as a block of its own', async (t) => {
  const asked = body('Think.', { max_tokens: 2000, thinking: { type: 'enabled', budget_tokens: 1024 } });
  // The smallest budget of the real API is 1,024; this server takes less, and a tiny model need not go on for so long.
  asked.thinking.budget_tokens = 6;
  asked.max_tokens = 24;
  const whole = await client.messages.create(asked);
  if (whole.content[0].type !== 'thinking') return t.skip('this model does not think');
  const final = await client.messages.stream(asked).finalMessage();
  assert.deepEqual(final.content, whole.content);
  // Blocks go back as they came.
  const next = await client.messages.create({ ...asked, messages: [...asked.messages, { role: 'assistant', content: whole.content },
                                                                  { role: 'user', content: 'Go on.' }] });
  assert.equal(next.type, 'message');
});

test('stop sequences are named', async () => {
  const free = textOf(await client.messages.create(body('Stop somewhere.', { max_tokens: 40 })));
  const stop = /[A-Za-z0-9]{2,4}/.exec(free.slice(Math.floor(free.length / 3)))[0];
  const stopped = await client.messages.create(body('Stop somewhere.', { max_tokens: 40, stop_sequences: ['never said', stop] }));
  assert.equal(textOf(stopped), free.slice(0, free.indexOf(stop)));
  assert.deepEqual([stopped.stop_reason, stopped.stop_sequence], ['stop_sequence', stop]);
});

test('an answer that is begun is gone on with', async () => {
  const more = await client.messages.create(body('', { messages: [{ role: 'user', content: 'Go on.' }, { role: 'assistant', content: 'Well,' }] }));
  assert.equal(more.type, 'message');
});

test('an abort ends the work', async () => {
  const stream = client.messages.stream(body('Never end.', { max_tokens: 3000, ignore_eos: true }));
  let pieces = 0;
  stream.on('text', () => { if (++pieces === 5) stream.abort(); });
  await assert.rejects(stream.finalMessage(), Anthropic.APIUserAbortError);
  assert.ok(pieces < 2000);
  await becomesIdle(server);
});

test('errors come as the client’s classes', async () => {
  const bad = async (request, says) => {
    await assert.rejects(client.messages.create(request), (error) => {
      assert.ok(error instanceof Anthropic.BadRequestError, `${error.constructor.name}: ${error.message}`);
      assert.equal(error.error.type, 'error');
      assert.equal(error.error.error.type, 'invalid_request_error');
      assert.match(error.error.error.message, says);
      return true;
    });
  };
  await bad(body('hi', { tools: [{ name: 'f', input_schema: { type: 'object' } }] }), /tools/);
  await bad(body('hi', { max_tokens: undefined }), /max_tokens/);
  await bad(body('hi', { messages: [] }), /messages/);
  await bad(body('hi', { messages: [{ role: 'user', content: [{ type: 'image', source: { type: 'base64', media_type: 'image/png', data: '' } }] }] }), /text only/);
  await bad(body('hi', { messages: [{ role: 'king', content: 'hi' }] }), /role/);
  await bad(body('word '.repeat(20000)), /token|context/i);
  const stranger = new Anthropic({ apiKey: 'wrong', baseURL: client.baseURL, maxRetries: 0 });
  await assert.rejects(stranger.messages.create(body('hi')), Anthropic.AuthenticationError);
});
