// Parts without a browser: the event parser, the answer's folding, the numbers, the words of errors.
import assert from 'node:assert/strict';
import test from 'node:test';
import { load } from './build.mjs';

const bytes = (text) => new TextEncoder().encode(text);

test('events survive any cut', async () => {
  const { SseParser } = await load('sse.ts');
  const stream = bytes(': hello\n\ndata: {"a":"日本 🐋"}\n\nevent: ping\r\ndata:x\r\ndata: y\r\n\r\nid: 3\rdata\r\rdata: [DONE]\n\ndata: never ended');
  const wanted = [{ event: 'message', data: '{"a":"日本 🐋"}' }, { event: 'ping', data: 'x\ny' }, { event: 'message', data: '' },
                  { event: 'message', data: '[DONE]' }];
  for (let size = 1; size <= stream.length; ++size) {
    const parser = new SseParser();
    const events = [];
    for (let at = 0; at < stream.length; at += size) events.push(...parser.push(stream.subarray(at, at + size)));
    assert.deepEqual(events, wanted, `pieces of ${size} bytes`);
  }
});

test('an answer is folded with its numbers', async () => {
  const { AnswerReader } = await load('api.ts');
  const heard = { reasoning: '', content: '', progress: [] };
  let now = 1000;
  const reader = new AnswerReader({
    onReasoning: (text) => { heard.reasoning += text; }, onContent: (text) => { heard.content += text; },
    onProgress: (...all) => heard.progress.push(all), onNumbers: () => undefined,
  }, 0, () => (now += 100));
  const take = (chunk) => reader.take({ event: 'message', data: typeof chunk === 'string' ? chunk : JSON.stringify(chunk) });
  take({ prompt_progress: { total: 90, cache: 64, processed: 70 }, choices: [{ delta: {} }] });
  take({ model: 'm', choices: [{ delta: { role: 'assistant', content: '' } }] });
  take({ choices: [{ delta: { reasoning_content: 'hm' } }] });
  take({ choices: [{ delta: { content: 'a' } }] });
  take({ choices: [{ delta: { content: 'b' } }] });
  assert.deepEqual(reader.stats(), { answerTokens: 3, exact: false, firstTokenSeconds: 1.1, tokensPerSecond: 2 / 0.2,
    promptTokens: undefined, cachedTokens: undefined, memoryTokens: undefined, diskTokens: undefined,
    reasoningTokens: undefined, cost: undefined, reason: undefined }, 'stopped here');
  take({ choices: [{ delta: {}, finish_reason: 'length' }], timings: { predicted_per_second: 42, cache_memory_n: 40, cache_disk_n: 24 } });
  take({ choices: [], usage: { prompt_tokens: 90, completion_tokens: 4, prompt_cache_hit_tokens: 64, cost: 0.00012345 } });
  assert.equal(take('[DONE]'), false);
  const { finish, model, stats } = reader.end();
  assert.deepEqual([finish, model, heard.reasoning, heard.content], ['length', 'm', 'hm', 'ab']);
  assert.deepEqual(heard.progress, [[70, 90, 64]]);
  assert.equal(stats.exact, true);
  assert.deepEqual([stats.answerTokens, stats.promptTokens, stats.cachedTokens, stats.memoryTokens, stats.diskTokens, stats.tokensPerSecond, stats.cost],
                   [4, 90, 64, 40, 24, 42, 'costs 0.000123']);
  assert.throws(() => take({ error: { message: 'no', type: 'rate_limit_error' } }), (error) => error.status === 429 && error.words === 'no');
  assert.throws(() => take('not json'), /not JSON/);
});

test('only what was set is sent', async () => {
  const { requestBody } = await load('api.ts');
  const history = [{ id: '1', role: 'user', content: 'hi', stats: {} }];
  assert.deepEqual(requestBody(history, { system: ' ', thinking: 'default', model: '' }),
                   { messages: [{ role: 'user', content: 'hi' }], stream: true, stream_options: { include_usage: true }, return_progress: true });
  const failed = [...history, { id: '2', role: 'assistant', content: '', reasoning: 'hm', ended: 'error' }, { id: '3', role: 'user', content: 'again' }];
  assert.deepEqual(requestBody(failed, { system: '', thinking: 'default', model: '' }).messages,
                   [{ role: 'user', content: 'hi' }, { role: 'user', content: 'again' }]);
  const full = requestBody(history, { system: 'be brief', thinking: 'off', model: 'm', temperature: 0, seed: 0 });
  assert.deepEqual(full.messages[0], { role: 'system', content: 'be brief' });
  assert.deepEqual([full.thinking, full.model, full.temperature, full.seed], [{ type: 'disabled' }, 'm', 0, 0]);
});

test('refusals in words', async () => {
  const { refusal } = await load('api.ts');
  assert.equal(refusal(400, '{"error":{"message":"too long"}}').words, 'too long');
  assert.match(refusal(429, '{"error":{"message":"full"}}', '12').todo, /12 s/);
  assert.match(refusal(502, '<html>Bad gateway</html>').words, /502/);
  assert.match(refusal(401, '').words, /key/);
  for (const odd of ['null', '[]', '3', '{"error":null}', '{"error":{"message":7}}']) assert.match(refusal(500, odd).words, /500/);
});

test('metrics become a snapshot; what is missing is 0', async () => {
  const { readMetrics, readSnapshot } = await load('stats.ts');
  const empty = readSnapshot(readMetrics(''), 5);
  assert.deepEqual([empty.at, empty.running, empty.hitTokens, empty.tiers], [5, 0, 0, []]);
  const full = readSnapshot(readMetrics(['# HELP x y', 'fathom_cache_bytes{tier="memory"} 4096', 'fathom_cache_bytes{tier="disk"} 1e3',
    'fathom_cache_limit_bytes{tier="disk"} 2000', 'fathom_cache_hit_tokens_total{tier="memory"} 30', 'fathom_cache_hit_tokens_total{tier="disk"} 12',
    'fathom_cache_lookup_tokens_total 84', 'fathom_requests_running 2', 'fathom_cache_pinned_blocks NaN', 'rubbish', 'fathom_x +Inf'].join('\n')));
  assert.equal(full.hitTokens, 42);
  assert.equal(full.lookupTokens, 84);
  assert.equal(full.running, 2);
  assert.deepEqual(full.tiers.map(({ name, usedBytes, limitBytes, hitTokens }) => [name, usedBytes, limitBytes, hitTokens]),
                   [['memory', 4096, 0, 30], ['disk', 1000, 2000, 12]]);
  assert.deepEqual(full.more, []);
  const streamed = readSnapshot(readMetrics(['fathom_expert_uses_total{layer="1"} 30', 'fathom_expert_uses_total{layer="2"} 10',
    'fathom_expert_hits_total{layer="1"} 10', 'fathom_expert_read_bytes_total 4096', 'fathom_expert_stall_seconds_total 2'].join('\n')));
  assert.deepEqual(streamed.more, [['experts found in memory', '25 %'], ['read for experts', '4.0 KiB'], ['waited for experts', '2.0 s']]);
});

test('numbers as people read them', async () => {
  const { bytes: size, count, percent, rate, seconds, short } = await load('format.ts');
  assert.deepEqual([0, 999, 1023, 1024, 1536, 2 ** 20 - 1, 5.5 * 2 ** 30, 2 ** 42].map(size),
                   ['0 B', '999 B', '1,023 B', '1.0 KiB', '1.5 KiB', '1.0 MiB', '5.5 GiB', '4.0 TiB']);
  assert.deepEqual([0, 9999, 12345, 999_999, 1_234_567].map(short), ['0', '9,999', '12k', '1.0M', '1.2M']);
  assert.deepEqual([0.0001, 0.021, 0.1, 9.94, 9.96, 59, 120, 7200].map(seconds), ['1 ms', '21 ms', '0.1 s', '9.9 s', '10 s', '59 s', '2 min', '2.0 h']);
  assert.deepEqual([percent(0, 0), percent(0, 5), percent(1, 5000), percent(4999, 5000), percent(5, 5), percent(1, 3)],
                   ['–', '0 %', '0.1 %', '99.9 %', '100 %', '33 %']);
  assert.deepEqual([rate(0), rate(9.94), rate(87.6), count(1234567)], ['0.0', '9.9', '88', '1,234,567']);
});

test('links lead only where links may', async () => {
  const { safeLink } = await load('markdown.ts');
  for (const good of ['https://example.org/a?b#c', 'http://[::1]/', 'mailto:a@example.org']) assert.ok(safeLink(good), good);
  for (const bad of ['javascript:alert(1)', ' JAVASCRIPT:alert(1)', 'java\nscript:alert(1)', 'data:text/html,x', 'vbscript:x', 'file:///etc/passwd',
                     '/relative', '//host', '#x', '', 'blob:https://x/y', 'view-source:https://x']) {
    assert.equal(safeLink(bad), undefined, bad);
  }
});

test('titles', async () => {
  const { titleOf } = await load('store.ts');
  assert.equal(titleOf('  hello\nworld'), 'hello');
  assert.equal(titleOf('   '), 'New chat');
  assert.equal(titleOf('Please explain to me in simple words why the sky is blue'), 'Please explain to me in simple words why the…');
  assert.equal(Array.from(titleOf('🐋'.repeat(100))).length, 49);
});
