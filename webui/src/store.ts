// Conversations, kept in this browser (IndexedDB) and nowhere else. Where the browser forbids that (some private
// windows), they live as long as the page, and `durable` says so.

export interface AnswerStats {
  promptTokens?: number;
  cachedTokens?: number;      // of the prompt, known from the cache
  memoryTokens?: number;      // of those, where the server tells: already in memory, and read from disk
  diskTokens?: number;
  answerTokens: number;
  reasoningTokens?: number;
  exact: boolean;             // false: the stream ended before the server could count; tokens are pieces seen
  firstTokenSeconds?: number;
  tokensPerSecond?: number;
  cost?: string;
  reason?: string;            // in the server's words: why so much was known and no more
}

export interface Message {
  id: string;
  role: 'user' | 'assistant';
  content: string;
  reasoning?: string;
  reasoningSeconds?: number;
  model?: string;
  stats?: AnswerStats;
  ended?: 'stop' | 'length' | 'stopped' | 'error' | 'lost';
  error?: { words: string; todo: string };
}

export interface Conversation {
  id: string;
  title: string;
  renamed: boolean;  // by the user: no longer follows the first message
  updated: number;   // milliseconds since 1970
  messages: Message[];
}

export type ConversationHead = Pick<Conversation, 'id' | 'title' | 'updated'>;

export function newId(): string {
  // randomUUID exists only in secure contexts; a server on the local network is none.
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

const kDatabase = 'fathom';
const kTable = 'conversations';

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

export class Store {
  private readonly memory = new Map<string, Conversation>();
  private readonly channel = 'BroadcastChannel' in globalThis ? new BroadcastChannel('fathom-conversations') : undefined;
  /** Called when another tab has changed something. */
  onOtherTab: (id: string) => void = () => undefined;
  /** Called once when writing fails (storage full, forbidden). */
  onTrouble: () => void = () => undefined;

  private constructor(private database: IDBDatabase | undefined) {
    if (this.channel) this.channel.onmessage = (event) => this.onOtherTab(String(event.data));
    // A newer version of the page in another tab may upgrade the database; holding on to it would block that tab.
    if (database) database.onversionchange = () => { database.close(); this.database = undefined; };
  }

  get durable(): boolean {
    return this.database !== undefined;
  }

  static async open(): Promise<Store> {
    try {
      const request = indexedDB.open(kDatabase, 1);
      request.onupgradeneeded = () => request.result.createObjectStore(kTable, { keyPath: 'id' });
      return new Store(await done(request));
    } catch {
      return new Store(undefined);
    }
  }

  private table(mode: IDBTransactionMode): IDBObjectStore | undefined {
    try {
      return this.database?.transaction(kTable, mode).objectStore(kTable);
    } catch {
      return undefined;
    }
  }

  /** Latest first. */
  async list(): Promise<ConversationHead[]> {
    const table = this.table('readonly');
    const all: Conversation[] = table ? await done(table.getAll()) : [...this.memory.values()];
    return all.map(({ id, title, updated }) => ({ id, title, updated })).sort((a, b) => b.updated - a.updated);
  }

  async get(id: string): Promise<Conversation | undefined> {
    const table = this.table('readonly');
    return table ? done<Conversation | undefined>(table.get(id)) : this.memory.get(id);
  }

  async put(conversation: Conversation): Promise<void> {
    const table = this.table('readwrite');
    if (table) {
      try {
        await done(table.put(conversation));
        this.channel?.postMessage(conversation.id);
        return;
      } catch {
        this.onTrouble();
      }
    }
    this.memory.set(conversation.id, structuredClone(conversation));
  }

  async remove(id: string): Promise<void> {
    this.memory.delete(id);
    const table = this.table('readwrite');
    if (!table) return;
    await done(table.delete(id));
    this.channel?.postMessage(id);
  }

  async removeAll(): Promise<void> {
    this.memory.clear();
    const table = this.table('readwrite');
    if (!table) return;
    await done(table.clear());
    this.channel?.postMessage('');
  }
}

/** The first line of the first message, cut at a word. */
export function titleOf(text: string): string {
  const line = text.trim().split('\n')[0]!.trim().replace(/\s+/g, ' ');
  const letters = Array.from(line);  // characters, not halves of them
  if (letters.length <= 48) return line || 'New chat';
  const cut = letters.slice(0, 48).join('');
  return `${cut.slice(0, cut.lastIndexOf(' ') > 20 ? cut.lastIndexOf(' ') : undefined)}…`;
}
