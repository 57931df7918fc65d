// A server that answers as `fathom serve` does (same shapes, scripted words), for the page's tests and for work on the
// page without a model: `npm run mock`, then open the address it prints. Serves dist/.
//
// The last message says what happens: "think …", "slow …", "xss", "refuse", "busy", "cut", "break", "markdown",
// anything else is echoed. POST /mock {"key": "…"} makes it ask for that key; GET /mock tells what was asked last.

import { createReadStream, existsSync } from 'node:fs';
import { createServer } from 'node:http';
import { dirname, extname, join, normalize } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const kTypes = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8',
                 '.css': 'text/css; charset=utf-8', '.svg': 'image/svg+xml', '.txt': 'text/plain; charset=utf-8' };
// As src/server/web_page.h has it.
const kPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; " +
  "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

export const kXss = [
  '<img src=x onerror="window.hacked=1"> <script>window.hacked=2</script>',
  '[click](javascript:window.hacked=3) [click](JaVaScRiPt:window.hacked=4) [click](data:text/html,<script>1</script>)',
  '[click](java\nscript:window.hacked=5) [click](&#106;avascript:window.hacked=6) <javascript:window.hacked=7>',
  '![picture](http://127.0.0.1:1/track.png) ![picture](javascript:window.hacked=8)',
  '<a href="javascript:window.hacked=9">html link</a> <svg/onload=window.hacked=10>',
  '[a](https://example.org/"onmouseover="window.hacked=11) [ref][r]\n\n[r]: javascript:window.hacked=12',
  '```html"><img src=x onerror=window.hacked=13>\n</code></pre><img src=x onerror=window.hacked=14>\n```',
  '| a | b |\n|---|---|\n| <img src=x onerror=window.hacked=15> | [x](vbscript:window.hacked=16) |',
  '<style>body{display:none}</style><iframe src="javascript:parent.hacked=17"></iframe>',
  '`<img src=x onerror=window.hacked=18>` &lt;script&gt;window.hacked=19&lt;/script&gt;',
  '<form action="/mock" method=post><button>send</button></form><base href="http://127.0.0.1:1/">',
].join('\n\n');

export const kMarkdown = [
  '## Reading a prefix once', 'The **cache** keeps *blocks* of `64` tokens; see [the paper](https://arxiv.org/abs/2405.04434).',
  '1. look up\n2. load\n   - layer by layer\n   - in the background\n3. compute the rest', '> Never compute the same prefix twice.',
  '```cpp\nauto prefix = cache->Acquire(tenant, prompt, most);\nsequence.Adopt(prefix.blocks, prefix.tokens);\n```',
  '| tier | time | share |\n|:--|--:|:-:|\n| memory | 1 ms | 64 % |\n| SSD | 40 ms | 36 % |', '- [x] done\n- [ ] to do', 'a &lt; b, and that is it.',
].join('\n\n');

export class MockServer {
  key = '';
  lastRequest = undefined;
  lastAborted = false;
  requests = 0;
  told = { prompt: 0, known: 0, memory: 0, written: 0, running: 0 };

  async start(port = 0, dist = join(dirname(fileURLToPath(import.meta.url)), '..', 'dist')) {
    this.dist = dist;
    this.server = createServer((request, response) => {
      this.handle(request, response).catch((error) => {
        if (!response.headersSent) response.writeHead(500);
        response.end(String(error));
      });
    });
    await new Promise((resolve) => this.server.listen(port, '127.0.0.1', resolve));
    this.url = `http://127.0.0.1:${this.server.address().port}/`;
    return this;
  }

  async stop() {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  async handle(request, response) {
    const path = new URL(request.url, 'http://x').pathname;
    let body = '';
    for await (const piece of request) body += piece;
    if (path === '/mock') {
      if (request.method === 'POST') this.key = JSON.parse(body).key;
      return this.json(response, 200, { last: this.lastRequest, aborted: this.lastAborted });
    }
    if (path.startsWith('/v1/') || path === '/metrics') {
      if (this.key && request.headers.authorization !== `Bearer ${this.key}`) {
        return this.refuse(response, 401, 'Incorrect API key provided. You can ask the owner of this server for one.',
                           'authentication_error', 'invalid_api_key');
      }
    }
    if (path === '/v1/models') return this.json(response, 200, { object: 'list', data: [{ id: 'mock-16b', object: 'model' }] });
    if (path === '/metrics') {
      response.writeHead(200, { 'Content-Type': 'text/plain; version=0.0.4' });
      return response.end(this.metrics());
    }
    if (path === '/v1/cache/forget') {
      this.forgotten = JSON.parse(body);
      if (this.forgotten.messages.at(-1).content.startsWith('keep')) return this.refuse(response, 404, 'This server runs without a cache.');
      return this.json(response, 200, { erased_blocks: 3 });
    }
    if (path === '/v1/chat/completions') return this.chat(JSON.parse(body), response);
    return this.file(path === '/' ? '/index.html' : path, response);
  }

  file(path, response) {
    const file = join(this.dist, normalize(path));
    if (!existsSync(file)) return this.refuse(response, 404, `No page at ${path}.`, 'not_found_error');
    response.writeHead(200, { 'Content-Type': kTypes[extname(file)] ?? 'application/octet-stream',
                              'Content-Security-Policy': kPolicy });
    createReadStream(file).pipe(response);
  }

  json(response, status, value, headers = {}) {
    response.writeHead(status, { 'Content-Type': 'application/json', ...headers });
    response.end(JSON.stringify(value));
  }

  refuse(response, status, message, type = 'invalid_request_error', code = null, headers = {}) {
    this.json(response, status, { error: { message, type, param: null, code } }, headers);
  }

  async chat(body, response) {
    this.lastRequest = body;
    this.lastAborted = false;
    const words = body.messages.at(-1).content;
    if (words.startsWith('refuse')) return this.refuse(response, 400, 'tools are not supported yet');
    if (words.startsWith('busy')) return this.refuse(response, 429, 'The queue is full.', 'rate_limit_error', null, { 'Retry-After': '7' });
    if (words.startsWith('crash')) return response.destroy();

    const prompt = body.messages.reduce((sum, message) => sum + 8 + Math.ceil(message.content.length / 3), 0);
    const known = this.requests++ === 0 ? 0 : Math.floor(prompt * 0.75);
    let stopped = false;
    response.on('close', () => { stopped = this.lastAborted = !response.writableEnded; });
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
    const send = (part) => response.write(`data: ${JSON.stringify({ id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1, model: 'mock-16b', ...part })}\n\n`);
    const piece = (delta, finish = null) => send({ choices: [{ index: 0, delta, logprobs: null, finish_reason: finish }], usage: null });
    this.told.running++;
    let written = 0;
    try {
      for (let done = known; done < prompt && !stopped; done += Math.ceil(prompt / 3)) {
        send({ choices: [{ index: 0, delta: {}, finish_reason: null }], prompt_progress: { total: prompt, cache: known, processed: done, time_ms: 1 } });
        response.write(': keep-alive\n\n');
        await sleep(words.startsWith('slow') ? 60 : 10);
      }
      this.told.prompt += prompt;
      this.told.known += known;
      this.told.memory = this.told.prompt;
      piece({ role: 'assistant', content: '' });
      const say = async (kind, text, wait) => {
        for (const token of text.match(/\s*\S+\s*?|\s+/g) ?? []) {
          if (stopped) return;
          piece({ [kind]: token });
          written++;
          this.told.written++;
          await sleep(wait);
        }
      };
      if (words.startsWith('think')) {
        await say('reasoning_content', 'Let me see. The question wants a sum.\nSo: 347 + 586 = 933.\n<b>Check</b>: 933 - 586 = 347.', words.includes('slowly') ? 90 : 12);
        await say('content', 'It is **933**.', 5);
      } else if (words.startsWith('slow')) {
        await say('content', Array.from({ length: 400 }, (_, i) => `word${i}`).join(' '), 15);
      } else if (words.startsWith('xss')) {
        await say('content', kXss, 1);
      } else if (words.startsWith('markdown')) {
        await say('content', kMarkdown, 1);
      } else if (words.startsWith('deep')) {
        piece({ content: '>'.repeat(20000) + ' deep\n\n' + '**_'.repeat(3000) + '\n\n' + '[x]('.repeat(2000) + '- '.repeat(3000) });
      } else if (words.startsWith('nested')) {
        piece({ content: `${'> '.repeat(300)}deep` });
      } else if (words.startsWith('cut')) {
        await say('content', 'Half an answer', 5);
        await sleep(300);  // a reset connection may take along what was not read yet
        return response.destroy();
      } else if (words.startsWith('break')) {
        await say('content', 'Some words', 5);
        response.write(`data: ${JSON.stringify({ error: { message: 'The model could not go on.', type: 'server_error', param: null, code: null } })}\n\n`);
        return response.end();
      } else {
        await say('content', `You said: ${words}`, 2);
      }
      if (stopped) return;
      send({ choices: [{ index: 0, delta: {}, finish_reason: words.startsWith('length') ? 'length' : 'stop' }], usage: null,
             timings: { cache_n: known, cache_memory_n: known, cache_disk_n: 0, prompt_n: prompt - known, prompt_ms: 30, predicted_n: written,
                        predicted_ms: 100, predicted_per_second: 87.6, cache_reason: 'the conversation so far is known' } });
      send({ choices: [], usage: { prompt_tokens: prompt, completion_tokens: written, total_tokens: prompt + written, prompt_cache_hit_tokens: known,
                                   prompt_cache_miss_tokens: prompt - known, prompt_tokens_details: { cached_tokens: known },
                                   completion_tokens_details: { reasoning_tokens: 0 } } });
      response.end('data: [DONE]\n\n');
    } finally {
      this.told.running--;
    }
  }

  metrics() {
    const { prompt, known, memory, written, running } = this.told;
    const lines = {
      fathom_requests_running: running, fathom_requests_waiting: 0, fathom_requests_total: this.requests,
      fathom_evaluated_tokens_total: prompt - known, fathom_generated_tokens_total: written,
      fathom_time_to_first_token_seconds_sum: 0.21 * this.requests, fathom_time_to_first_token_seconds_count: this.requests,
      'fathom_cache_hit_tokens_total{tier="memory"}': known, 'fathom_cache_hit_tokens_total{tier="disk"}': 4096,
      fathom_cache_lookup_tokens_total: prompt + 8192, fathom_cache_pinned_blocks: 0, fathom_cache_corrupt_total: 0,
      'fathom_cache_bytes{tier="memory"}': memory * 31104, 'fathom_cache_bytes{tier="disk"}': 7.1e9,
      'fathom_cache_limit_bytes{tier="memory"}': 256 * 2 ** 20, 'fathom_cache_limit_bytes{tier="disk"}': 20 * 2 ** 30,
      'fathom_cache_blocks{tier="memory"}': Math.ceil(memory / 64), 'fathom_cache_blocks{tier="disk"}': 3571,
      fathom_cache_disk_queued_writes: 0, fathom_cache_disk_written_today_bytes: 3.2e8, fathom_cache_disk_read_bytes_per_second: 2.1e9,
      fathom_cache_load_wait_seconds_total: 0.34,
    };
    return Object.entries(lines).map(([name, value]) => `# HELP ${name} x\n${name} ${value}\n`).join('');
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const at = process.argv.indexOf('--port');
  const server = await new MockServer().start(at > 0 ? Number(process.argv[at + 1]) : 0);
  console.log(`listening on ${server.url}`);
}
