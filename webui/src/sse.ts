// Server-sent events out of the body of a response (https://html.spec.whatwg.org/multipage/server-sent-events.html):
// EventSource itself cannot POST.

export interface SseEvent {
  event: string;  // 'message' where the server names none
  data: string;
}

/** Bytes may be cut anywhere, also inside a character or between CR and LF. */
export class SseParser {
  private readonly decoder = new TextDecoder();
  private rest = '';
  private event = '';
  private data: string[] = [];
  private skipLineFeed = false;

  push(bytes: Uint8Array): SseEvent[] {
    return this.take(this.decoder.decode(bytes, { stream: true }));
  }

  private take(text: string): SseEvent[] {
    if (!text) return [];
    if (this.skipLineFeed && text[0] === '\n') text = text.slice(1);
    this.skipLineFeed = text.endsWith('\r') || (text === '' && this.skipLineFeed);
    const lines = (this.rest + text).split(/\r\n|\r|\n/);
    this.rest = lines.pop() ?? '';
    const events: SseEvent[] = [];
    for (const line of lines) {
      if (line === '') {
        if (this.data.length) events.push({ event: this.event || 'message', data: this.data.join('\n') });
        this.event = '';
        this.data = [];
      } else if (!line.startsWith(':')) {  // a comment keeps the connection alive
        const colon = line.indexOf(':');
        const field = colon < 0 ? line : line.slice(0, colon);
        const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
        if (field === 'data') this.data.push(value);
        else if (field === 'event') this.event = value;
      }
    }
    return events;
  }
}

export async function* readEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<SseEvent> {
  const parser = new SseParser();
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* parser.push(value);
    }
  } finally {
    // Leaving early (stop, an error) must close the connection, which is how the server learns of it.
    reader.cancel().catch(() => undefined);
  }
}
