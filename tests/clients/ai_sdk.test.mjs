// The AI SDK with its provider for servers that speak OpenAI's words.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { APICallError, generateText, jsonSchema, streamText, tool } from 'ai';
import { becomesIdle, kKey, longPrompt, serve } from './common.mjs';

let server, model;
const plain = { temperature: 0, maxRetries: 0, maxOutputTokens: 16 };

before(async () => {
  server = await serve();
  const provider = createOpenAICompatible({ name: 'fathom', apiKey: kKey, baseURL: new URL('v1', server.url).href, includeUsage: true });
  const { data } = await (await fetch(new URL('v1/models', server.url), { headers: { Authorization: `Bearer ${kKey}` } })).json();
  model = provider(data[0].id);
});
after(async () => server?.close());

test('a text, whole and streamed', async () => {
  const whole = await generateText({ model, prompt: 'What is in the sea?', ...plain });
  assert.ok(['stop', 'length'].includes(whole.finishReason), whole.finishReason);
  assert.equal(whole.usage.inputTokens + whole.usage.outputTokens, whole.usage.totalTokens);
  const stream = streamText({ model, prompt: 'What is in the sea?', ...plain });
  let text = '';
  for await (const piece of stream.textStream) text += piece;
  assert.equal(text, whole.text);
  assert.equal((await stream.usage).outputTokens, whole.usage.outputTokens);
  assert.equal(await stream.finishReason, whole.finishReason);
});

test('the second turn’s cached tokens arrive in its usage, whole and streamed', async () => {
  const messages = [{ role: 'user', content: longPrompt('ai-sdk') }];
  const first = await generateText({ model, messages, ...plain });
  messages.push({ role: 'assistant', content: first.text || 'Yes.' }, { role: 'user', content: 'And then?' });
  const second = await generateText({ model, messages, ...plain });
  assert.ok(second.usage.inputTokenDetails.cacheReadTokens >= first.usage.inputTokens - 64, JSON.stringify(second.usage));
  const third = streamText({ model, messages, ...plain });
  await third.consumeStream();
  assert.ok((await third.usage).inputTokenDetails.cacheReadTokens >= second.usage.inputTokenDetails.cacheReadTokens);
});

test('reasoning is kept apart', async (t) => {
  const options = { model, prompt: 'Think.', ...plain, maxOutputTokens: 32,
                    providerOptions: { fathom: { thinking: { type: 'enabled', budget_tokens: 6 } } } };
  const whole = await generateText(options);
  if (!whole.reasoningText) return t.skip('this model does not think');
  assert.ok(whole.usage.outputTokenDetails.reasoningTokens >= 1);
  let reasoning = '', text = '';
  for await (const part of streamText(options).fullStream) {
    if (part.type === 'reasoning-delta') reasoning += part.text;
    if (part.type === 'text-delta') text += part.text;
  }
  assert.equal(reasoning, whole.reasoningText);
  assert.equal(text, whole.text);
});

test('stop sequences and seeds', async () => {
  const free = (await generateText({ model, prompt: 'Stop somewhere.', ...plain, maxOutputTokens: 40 })).text;
  const stop = /[A-Za-z0-9]{2,4}/.exec(free.slice(Math.floor(free.length / 3)))[0];
  const stopped = await generateText({ model, prompt: 'Stop somewhere.', ...plain, maxOutputTokens: 40, stopSequences: [stop] });
  assert.equal(stopped.text, free.slice(0, free.indexOf(stop)));
  assert.equal(stopped.finishReason, 'stop');
  const hot = { model, prompt: 'Dream.', ...plain, temperature: 1.5, seed: 3 };
  assert.equal((await generateText(hot)).text, (await generateText(hot)).text);
});

test('an abort ends the work', async () => {
  const abort = new AbortController();
  let pieces = 0;
  const stream = streamText({ model, prompt: 'Never end.', ...plain, maxOutputTokens: 3000, abortSignal: abort.signal,
                              providerOptions: { fathom: { ignore_eos: true } } });
  try {
    for await (const _ of stream.textStream) {
      if (++pieces === 5) abort.abort();
    }
  } catch (error) {
    assert.equal(error.name, 'AbortError');
  }
  assert.ok(pieces >= 5 && pieces < 2000);
  await becomesIdle(server);
});

test('what cannot be done yet is an APICallError that is not tried again', async () => {
  const tools = { look: tool({ description: 'looks', inputSchema: jsonSchema({ type: 'object', properties: {} }), execute: async () => 'x' }) };
  await assert.rejects(generateText({ model, prompt: 'hi', tools, ...plain }), (error) => {
    assert.ok(APICallError.isInstance(error), String(error));
    assert.equal(error.statusCode, 400);
    assert.equal(error.isRetryable, false);
    assert.match(error.message, /tools are not supported yet/);
    return true;
  });
});
