// OpenAI's own client.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import OpenAI from 'openai';
import { becomesIdle, kKey, longPrompt, metric, otherKey, serve } from './common.mjs';

let server, client, model;

before(async () => {
  server = await serve();
  client = new OpenAI({ apiKey: kKey, baseURL: new URL('v1', server.url).href, maxRetries: 0 });
  model = (await client.models.list()).data[0].id;
});
after(async () => server?.close());

const ask = (words, more = {}, options = {}) => client.chat.completions.create(
  { model, messages: [{ role: 'user', content: words }], temperature: 0, max_tokens: 16, ...more }, options);

async function joined(stream) {
  const all = { content: '', reasoning: '', finish: null, usage: null, chunks: 0, roles: [] };
  for await (const chunk of stream) {
    ++all.chunks;
    assert.equal(chunk.object, 'chat.completion.chunk');
    if (chunk.usage) all.usage = chunk.usage;
    for (const { delta, finish_reason: finish, index } of chunk.choices) {
      assert.equal(index, 0);
      if (delta.role) all.roles.push(delta.role);
      all.content += delta.content ?? '';
      all.reasoning += delta.reasoning_content ?? '';
      all.finish = finish ?? all.finish;
    }
  }
  return all;
}

test('models', async () => {
  const list = await client.models.list();
  assert.equal(list.object, 'list');
  assert.equal((await client.models.retrieve(model)).id, model);
  await assert.rejects(client.models.retrieve('no-such-model'), OpenAI.NotFoundError);
});

test('one answer, whole and streamed, is the same; usage adds up', async () => {
  const whole = await ask('What is in the sea?');
  assert.match(whole.id, /^chatcmpl-/);
  assert.equal(whole.object, 'chat.completion');
  assert.equal(whole.choices.length, 1);
  const { message, finish_reason: finish } = whole.choices[0];
  assert.equal(message.role, 'assistant');
  assert.equal(typeof message.content, 'string');
  assert.ok(['stop', 'length'].includes(finish), finish);
  const { usage } = whole;
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
  assert.equal(usage.prompt_cache_hit_tokens + usage.prompt_cache_miss_tokens, usage.prompt_tokens);
  assert.ok(usage.completion_tokens >= 1 && usage.completion_tokens <= 16);

  const streamed = await joined(await ask('What is in the sea?', { stream: true, stream_options: { include_usage: true } }));
  assert.equal(streamed.content, message.content);
  assert.equal(streamed.finish, finish);
  assert.deepEqual(streamed.roles, ['assistant']);
  assert.equal(streamed.usage.completion_tokens, usage.completion_tokens);
  assert.equal(streamed.usage.prompt_tokens, usage.prompt_tokens);
});

test('the streaming helper gathers a whole answer', async () => {
  const stream = client.chat.completions.stream({ model, messages: [{ role: 'user', content: 'Gather.' }], temperature: 0, max_tokens: 12 });
  let heard = '';
  stream.on('content', (piece) => { heard += piece; });
  const whole = await stream.finalChatCompletion();
  assert.equal(whole.choices[0].message.content ?? '', heard);
  assert.equal((await ask('Gather.', { max_tokens: 12 })).choices[0].message.content, heard);
});

test('the second turn is known from the cache, and says so', async () => {
  const messages = [{ role: 'user', content: longPrompt('openai') }];
  const first = await client.chat.completions.create({ model, messages, temperature: 0, max_tokens: 8 });
  assert.ok(first.usage.prompt_tokens_details.cached_tokens < 16);  // at most how every chat begins
  assert.ok(first.usage.prompt_tokens > 200);
  messages.push({ role: 'assistant', content: first.choices[0].message.content }, { role: 'user', content: 'And then?' });
  const second = await client.chat.completions.create({ model, messages, temperature: 0, max_tokens: 8 });
  const cached = second.usage.prompt_tokens_details.cached_tokens;
  assert.ok(cached >= first.usage.prompt_tokens - 64 && cached < second.usage.prompt_tokens,
            `${cached} of ${second.usage.prompt_tokens} cached after a first turn of ${first.usage.prompt_tokens}`);
  assert.equal(second.usage.prompt_cache_hit_tokens, cached);

  // What one key's prompts left is not another key's to find.
  const stranger = new OpenAI({ apiKey: otherKey, baseURL: client.baseURL, maxRetries: 0 });
  const theirs = await stranger.chat.completions.create({ model, messages, temperature: 0, max_tokens: 8 });
  assert.equal(theirs.usage.prompt_tokens_details.cached_tokens, 0);
  assert.equal(theirs.choices[0].message.content, second.choices[0].message.content);
});

test('a stop string ends the answer before it', async () => {
  const free = (await ask('Stop somewhere.', { max_tokens: 40 })).choices[0].message.content;
  const found = /[A-Za-z0-9]{2,4}/.exec(free.slice(Math.floor(free.length / 3)));
  assert.ok(found, `the tiny model said nothing to stop at: ${JSON.stringify(free)}`);
  const stop = found[0];
  const stopped = await ask('Stop somewhere.', { max_tokens: 40, stop: [stop, 'never said'] });
  assert.equal(stopped.choices[0].message.content, free.slice(0, free.indexOf(stop)));
  assert.equal(stopped.choices[0].finish_reason, 'stop');
  const streamed = await joined(await ask('Stop somewhere.', { max_tokens: 40, stop, stream: true }));
  assert.equal(streamed.content, free.slice(0, free.indexOf(stop)));
});

test('n answers, seeds', async () => {
  const hot = { temperature: 1.5, n: 4, seed: 7, max_tokens: 12 };
  const several = await ask('Say something else.', hot);
  assert.deepEqual(several.choices.map(({ index }) => index), [0, 1, 2, 3]);
  assert.ok(new Set(several.choices.map(({ message }) => message.content)).size > 1);
  const again = await ask('Say something else.', hot);
  assert.deepEqual(again.choices.map(({ message }) => message.content), several.choices.map(({ message }) => message.content));
  assert.equal(several.usage.completion_tokens <= 48 && several.usage.completion_tokens >= 4, true);

  const texts = ['', '', ''];
  const ends = new Set();
  for await (const chunk of await ask('Say something else.', { ...hot, n: 3, stream: true })) {
    for (const { index, delta, finish_reason: finish } of chunk.choices) {
      texts[index] += delta.content ?? '';
      if (finish) ends.add(index);
    }
  }
  assert.deepEqual([...ends].sort(), [0, 1, 2]);
  assert.deepEqual(texts, several.choices.slice(0, 3).map(({ message }) => message.content));
});

test('log-probabilities: one a token, best first, whole and streamed alike', async () => {
  const whole = await ask('How likely?', { logprobs: true, top_logprobs: 3, max_tokens: 8 });
  const { content } = whole.choices[0].logprobs;
  assert.ok(content.length >= 1 && content.length <= 8);
  for (const { token, logprob, bytes, top_logprobs: top } of content) {
    assert.equal(typeof token, 'string');
    assert.ok(logprob <= 0 && Number.isFinite(logprob));
    assert.ok(bytes === null || Array.isArray(bytes));
    assert.equal(top.length, 3);
    assert.ok(top[0].logprob >= top[1].logprob && top[1].logprob >= top[2].logprob);
    assert.ok(Math.abs(top[0].logprob - logprob) < 1e-4, 'greedy takes the likeliest');
  }
  const streamed = [];
  for await (const chunk of await ask('How likely?', { logprobs: true, top_logprobs: 3, max_tokens: 8, stream: true })) {
    for (const choice of chunk.choices) streamed.push(...(choice.logprobs?.content ?? []));
  }
  assert.deepEqual(streamed.map(({ token, logprob }) => [token, logprob]), content.map(({ token, logprob }) => [token, logprob]));
});

test('logit bias decides', async () => {
  const { tokens } = await client.post('/tokenize', { body: { content: 'A' } });
  const id = tokens.at(-1);
  const forced = await ask('Anything.', { logit_bias: { [id]: 100 }, max_tokens: 5 });
  assert.equal(forced.choices[0].message.content.trim(), 'AAAAA');
});

test('thinking with a budget comes as reasoning_content, and is counted', async (t) => {
  const whole = await ask('Think.', { thinking: { type: 'enabled', budget_tokens: 6 }, max_tokens: 24 });
  const { message } = whole.choices[0];
  if (!message.reasoning_content) return t.skip('this model does not think');
  assert.ok(whole.usage.completion_tokens_details.reasoning_tokens >= 1);
  assert.ok(whole.usage.completion_tokens_details.reasoning_tokens <= 8);
  const streamed = await joined(await ask('Think.', { thinking: { type: 'enabled', budget_tokens: 6 }, max_tokens: 24, stream: true }));
  assert.equal(streamed.reasoning, message.reasoning_content);
  assert.equal(streamed.content, message.content);
  const quiet = await ask('Think.', { thinking: { type: 'disabled' } });
  assert.equal(quiet.choices[0].message.reasoning_content, undefined);
});

test('text completions, whole, streamed, echoed', async () => {
  const prompt = 'Once upon a time';
  const whole = await client.completions.create({ model, prompt, temperature: 0, max_tokens: 10 });
  assert.equal(whole.object, 'text_completion');
  const [{ text }] = whole.choices;
  let streamed = '';
  for await (const chunk of await client.completions.create({ model, prompt, temperature: 0, max_tokens: 10, stream: true })) {
    streamed += chunk.choices[0]?.text ?? '';
  }
  assert.equal(streamed, text);
  const echoed = await client.completions.create({ model, prompt, temperature: 0, max_tokens: 10, echo: true });
  assert.equal(echoed.choices[0].text, prompt + text);
  const two = await client.completions.create({ model, prompt: [prompt, 'Twice'], temperature: 0, max_tokens: 4 });
  assert.deepEqual(two.choices.map(({ index }) => index), [0, 1]);
});

test('an answer that is begun is gone on with', async () => {
  const whole = (await ask('Go on.', { max_tokens: 12 })).choices[0].message.content;
  const messages = [{ role: 'user', content: 'Go on.' }, { role: 'assistant', content: 'Well, ', prefix: true }];
  const more = await client.chat.completions.create({ model, messages, temperature: 0, max_tokens: 12 });
  assert.equal(typeof more.choices[0].message.content, 'string');
  assert.notEqual(more.choices[0].message.content, whole);
});

test('leaving in the middle of a stream ends the work', async () => {
  const cancelled = await metric(server, 'fathom_requests_ended_total');
  const abort = new AbortController();
  const stream = await ask('Never end.', { stream: true, max_tokens: 3000, ignore_eos: true }, { signal: abort.signal });
  let pieces = 0;
  for await (const _ of stream) {
    if (++pieces === 5) abort.abort();
  }
  assert.ok(pieces >= 5 && pieces < 2000, `${pieces} pieces`);
  await becomesIdle(server);
  assert.ok(await metric(server, 'fathom_requests_ended_total') > cancelled);
  // Leaving before any answer as well.
  const early = new AbortController();
  const waiting = ask(longPrompt('early'), { max_tokens: 3000, ignore_eos: true }, { signal: early.signal });
  setTimeout(() => early.abort(), 50);
  await assert.rejects(waiting, OpenAI.APIUserAbortError);
  await becomesIdle(server);
});

test('many at once, each with its own answer', async () => {
  const alone = await Promise.all([0, 1].map(async (i) => (await ask(`Question ${i}?`)).choices[0].message.content));
  const together = await Promise.all(Array.from({ length: 12 }, (_, i) => ask(`Question ${i % 2}?`)));
  assert.deepEqual(together.map((answer) => answer.choices[0].message.content), together.map((_, i) => alone[i % 2]));
});

test('errors come as the client’s classes', async () => {
  const tool = { type: 'function', function: { name: 'f', parameters: { type: 'object', properties: {} } } };
  const bad = async (more, says, param) => {
    await assert.rejects(ask('hi', more), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError, `${error.constructor.name}: ${error.message}`);
      assert.match(error.message, says);
      assert.equal(error.type, 'invalid_request_error');
      if (param) assert.equal(error.param, param);
      return true;
    });
  };
  await bad({ tools: [tool] }, /tools are not supported yet/, 'tools');
  await bad({ response_format: { type: 'json_schema', json_schema: { name: 'x', schema: {} } } }, /response_format/, 'response_format');
  await bad({ messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'data:,' } }] }] }, /text only/);
  await bad({ messages: [] }, /messages/, 'messages');
  await bad({ messages: undefined }, /messages/, 'messages');
  await bad({ temperature: 9 }, /temperature/, 'temperature');
  await bad({ n: 0 }, /'n'/, 'n');
  await bad({ max_tokens: 0 }, /max_tokens/, 'max_tokens');
  await bad({ top_logprobs: 3 }, /logprobs/, 'top_logprobs');
  await bad({ messages: [{ role: 'user', content: 'word '.repeat(20000) }] }, /token|context/i);
  await bad({ stream: true, tools: [tool] }, /tools/, 'tools');
  await assert.rejects(client.responses.create({ model, input: 'hi' }), (error) => error instanceof OpenAI.APIError && [400, 404, 501].includes(error.status));
  await assert.rejects(client.embeddings.create({ model, input: 'hi' }), (error) => error instanceof OpenAI.APIError && error.status >= 400 && error.status < 502);
  const stranger = new OpenAI({ apiKey: 'wrong', baseURL: client.baseURL, maxRetries: 0 });
  await assert.rejects(stranger.chat.completions.create({ model, messages: [{ role: 'user', content: 'hi' }] }), OpenAI.AuthenticationError);
  await assert.rejects(client.get('/nonsense'), OpenAI.NotFoundError);
});
