// The server as this page needs it: models, one streamed answer, the cache's state. Every failure comes out as an
// ApiError in words, with what to do about it.

import { readEvents, type SseEvent } from './sse';
import type { AnswerStats, Message } from './store';
import type { Settings } from './settings';

export class ApiError extends Error {
  constructor(readonly status: number, readonly words: string, readonly todo: string) {
    super(words);
  }
}

export interface AnswerEvents {
  onProgress(done: number, total: number, cached: number): void;  // while the prompt is evaluated
  onReasoning(text: string): void;
  onContent(text: string): void;
  onNumbers(stats: AnswerStats): void;  // once, when the answer has not come to its own end
}

export interface AnswerEnd {
  finish: string;  // 'stop', 'length', …; '' when the stream ended without saying
  stats: AnswerStats;
  model: string;
}

type Json = Record<string, unknown>;

function object(value: unknown): Json {
  return typeof value === 'object' && value !== null ? (value as Json) : {};
}

function number(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) ? value : undefined;
}

function string(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

const kTodo: Record<number, string> = {
  400: 'Change the message or the settings and send it again.',
  401: 'Enter an API key that this server knows.',
  403: 'Open the page under an address that this server accepts (see fathom serve --help), or use another key.',
  404: 'Choose another model in the settings.',
  413: 'Shorten the message, or begin a new chat.',
  422: 'Change the message or the settings and send it again.',
  429: 'Wait a little, then try again.',
  503: 'The server is starting, stopping or full. Wait a little, then try again.',
};

// A stream has sent its status when an error comes; the error's type says as much.
const kStatusOfType: Record<string, number> = {
  invalid_request_error: 400, authentication_error: 401, permission_error: 403, not_found_error: 404,
  rate_limit_error: 429, overloaded_error: 503,
};

/** What a refusal means. The server's own message is the best words there are. */
export function refusal(status: number, body: string, retryAfter: string | null = null): ApiError {
  let words = '';
  try {
    const parsed = object(JSON.parse(body));
    words = string(object(parsed.error).message) || string(parsed.error) || string(parsed.message);
  } catch {
    // A proxy's page, perhaps: its status must do.
  }
  words ||= status === 401 ? 'This server wants an API key.' : `The server refused with status ${status}.`;
  let todo = kTodo[status] ?? (status >= 500 ? 'Try again; if it stays so, look at the log of fathom serve.'
                                             : 'Change the message or the settings and send it again.');
  if (retryAfter && /^\d{1,5}$/.test(retryAfter)) todo = `Wait ${retryAfter} s, then try again.`;
  return new ApiError(status, words.slice(0, 1000), todo);
}

export function unreachable(): ApiError {
  return new ApiError(0, 'The server does not answer.', 'See that fathom serve still runs, then try again.');
}

export function cutOff(): ApiError {
  return new ApiError(0, 'The connection ended before the answer was whole.',
                      'What came is kept above. See that fathom serve still runs, then try again.');
}

export function gaveUp(): ApiError {
  return new ApiError(503, 'The server ended this answer before it was whole.',
                      'It is stopping, or had no room left. Wait a little, then try again.');
}

export class Api {
  key = '';

  private async request(path: string, init: RequestInit = {}): Promise<Response> {
    const headers = new Headers(init.headers);
    if (this.key) headers.set('Authorization', `Bearer ${this.key}`);
    let response: Response;
    try {
      response = await fetch(new URL(path, document.baseURI), { ...init, headers, cache: 'no-store', redirect: 'error' });
    } catch (error) {
      if (init.signal?.aborted) throw error;
      throw unreachable();
    }
    if (response.ok) return response;
    throw refusal(response.status, await response.text().catch(() => ''), response.headers.get('Retry-After'));
  }

  async json(path: string): Promise<unknown> {
    const response = await this.request(path, { signal: AbortSignal.timeout(10_000) });
    try {
      return await response.json();
    } catch {
      throw new ApiError(0, `The answer to ${path} is not JSON.`, 'See that this page comes from fathom serve itself.');
    }
  }

  async text(path: string): Promise<string> {
    return (await this.request(path, { signal: AbortSignal.timeout(10_000) })).text();
  }

  async models(): Promise<string[]> {
    const list = object(await this.json('v1/models')).data;
    return Array.isArray(list) ? list.map((model) => string(object(model).id)).filter(Boolean) : [];
  }

  /** Erases a chat from the server's cache, memory and SSD. Returns the blocks erased. */
  async forget(history: Message[], settings: Settings): Promise<number> {
    const response = await this.request('v1/cache/forget', {
      method: 'POST', headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ messages: beginning(history, settings), everything: true }),
    });
    return number(object(await response.json()).erased_blocks) ?? 0;
  }

  /** Streams one answer to the conversation. Throws ApiError, or an AbortError after `signal`. */
  async answer(history: Message[], settings: Settings, signal: AbortSignal, events: AnswerEvents): Promise<AnswerEnd> {
    const body = requestBody(history, settings);
    const asked = performance.now();
    const response = await this.request('v1/chat/completions', {
      method: 'POST', signal, body: JSON.stringify(body),
      headers: { 'Content-Type': 'application/json', Accept: 'text/event-stream' },
    });
    if (!response.body) throw cutOff();
    const reader = new AnswerReader(events, asked);
    try {
      for await (const event of readEvents(response.body)) {
        if (!reader.take(event)) return reader.end();
      }
      if (reader.finish) return reader.end();  // all but the [DONE] came
    } catch (error) {
      events.onNumbers(reader.stats());
      if (signal.aborted || error instanceof ApiError) throw error;
      throw cutOff();
    }
    events.onNumbers(reader.stats());
    throw cutOff();
  }
}

/** What the server read first of a chat: all that it keeps of the chat continues that. */
function beginning(history: Message[], settings: Settings): Json[] {
  const first = history.findIndex(({ role }) => role === 'user');
  return requestBody(history.slice(0, first + 1), settings).messages as Json[];
}

/** Only what the user has set is sent; the rest is the server's to choose. */
export function requestBody(history: Message[], settings: Settings): Json {
  const messages: Json[] = settings.system.trim() ? [{ role: 'system', content: settings.system }] : [];
  // An answer that never came is nothing that was said.
  for (const { role, content } of history) if (content || role === 'user') messages.push({ role, content });
  const { system: _system, thinking, model, ...sampling } = settings;
  const body: Json = { messages, stream: true, stream_options: { include_usage: true }, return_progress: true,
                       ...sampling };
  if (model) body.model = model;
  if (thinking !== 'default') body.thinking = { type: thinking === 'on' ? 'enabled' : 'disabled' };
  return body;
}

/** Folds the events of one stream. Exported for tests. */
export class AnswerReader {
  finish = '';
  private model = '';
  private usage: Json = {};
  private timings: Json = {};
  private pieces = 0;
  private first = 0;
  private last = 0;

  constructor(private readonly events: AnswerEvents, private readonly asked: number,
              private readonly now: () => number = () => performance.now()) {}

  /** False once the stream has said that it is done. Throws the server's error. */
  take({ data }: SseEvent): boolean {
    if (data === '[DONE]') return false;
    let chunk: Json;
    try {
      chunk = object(JSON.parse(data));
    } catch {
      throw new ApiError(0, 'The server sent something that is not JSON.', 'Try again; if it stays so, report it.');
    }
    if (chunk.error) throw refusal(kStatusOfType[string(object(chunk.error).type)] ?? 500, data);
    if (chunk.prompt_progress) {
      const progress = object(chunk.prompt_progress);
      this.events.onProgress(number(progress.processed) ?? 0, number(progress.total) ?? 0, number(progress.cache) ?? 0);
    }
    if (chunk.usage) this.usage = object(chunk.usage);
    if (chunk.timings) this.timings = object(chunk.timings);
    this.model = string(chunk.model) || this.model;
    const choice = object(Array.isArray(chunk.choices) ? chunk.choices[0] : undefined);
    const delta = object(choice.delta);
    const reasoning = string(delta.reasoning_content);
    const content = string(delta.content);
    if (reasoning || content) {
      this.last = this.now();
      this.first ||= this.last;
      ++this.pieces;
      if (reasoning) this.events.onReasoning(reasoning);
      if (content) this.events.onContent(content);
    }
    this.finish = string(choice.finish_reason) || this.finish;
    return true;
  }

  end(): AnswerEnd {
    return { finish: this.finish, stats: this.stats(), model: this.model };
  }

  /** Also of a stream that was stopped: then from the pieces seen. */
  stats(): AnswerStats {
    const { usage, timings } = this;
    const counted = number(usage.completion_tokens);
    const tokens = counted ?? this.pieces;
    // Between the first piece and the last lie tokens - 1 steps.
    const streamed = (this.last - this.first) / 1000;
    const seen = tokens > 1 && streamed > 0 ? (tokens - 1) / streamed : undefined;
    const cost = number(usage.cost);
    return {
      promptTokens: number(usage.prompt_tokens),
      cachedTokens: number(usage.prompt_cache_hit_tokens) ?? number(object(usage.prompt_tokens_details).cached_tokens),
      memoryTokens: number(timings.cache_memory_n),
      diskTokens: number(timings.cache_disk_n),
      answerTokens: tokens,
      reasoningTokens: number(object(usage.completion_tokens_details).reasoning_tokens),
      exact: counted !== undefined,
      firstTokenSeconds: this.first ? (this.first - this.asked) / 1000 : undefined,
      tokensPerSecond: number(timings.predicted_per_second) || seen,
      cost: cost === undefined ? undefined : `costs ${Number(cost.toPrecision(3))}`,
      reason: string(timings.cache_reason) || undefined,
    };
  }
}
