// What this browser remembers about how to ask: sampling, system prompt, thinking, the API key.

export interface Settings {
  system: string;
  thinking: 'default' | 'on' | 'off';
  model: string;  // '': the server's own choice
  // Sampling. undefined: left to the server.
  temperature?: number;
  top_p?: number;
  max_tokens?: number;
  seed?: number;
  frequency_penalty?: number;
  presence_penalty?: number;
}

export const kNumbers = [
  { name: 'temperature', label: 'Temperature', min: 0, max: 2, step: 0.1, hint: '0 always takes the likeliest word' },
  { name: 'top_p', label: 'Top p', min: 0, max: 1, step: 0.05, hint: 'share of the likeliest words to draw from' },
  { name: 'max_tokens', label: 'Longest answer', min: 1, max: 1_000_000, step: 1, hint: 'tokens, thinking included' },
  { name: 'seed', label: 'Seed', min: 0, max: 2 ** 31 - 1, step: 1, hint: 'the same seed gives the same answer' },
  { name: 'frequency_penalty', label: 'Frequency penalty', min: -2, max: 2, step: 0.1, hint: 'less of what was often said' },
  { name: 'presence_penalty', label: 'Presence penalty', min: -2, max: 2, step: 0.1, hint: 'less of what was said at all' },
] as const;

const kSettings = 'fathom.settings';
const kKey = 'fathom.key';
const kDefaults: Settings = { system: '', thinking: 'default', model: '' };

function read(storage: () => Storage, name: string): string | null {
  try {
    return storage().getItem(name);
  } catch {
    return null;  // storage is forbidden here
  }
}

function write(storage: () => Storage, name: string, value: string): void {
  try {
    if (value) storage().setItem(name, value);
    else storage().removeItem(name);
  } catch {
    // The page works on with what it has in memory.
  }
}

/** Whatever stands in storage, only what can be used comes back. */
export function loadSettings(): Settings {
  const settings: Settings = { ...kDefaults };
  let kept: Record<string, unknown> = {};
  try {
    const parsed: unknown = JSON.parse(read(() => localStorage, kSettings) ?? '{}');
    if (typeof parsed === 'object' && parsed !== null) kept = parsed as Record<string, unknown>;
  } catch {
    // Not ours, or cut short.
  }
  if (typeof kept.system === 'string') settings.system = kept.system;
  if (typeof kept.model === 'string') settings.model = kept.model;
  if (kept.thinking === 'on' || kept.thinking === 'off') settings.thinking = kept.thinking;
  for (const { name, min, max } of kNumbers) {
    const value = kept[name];
    if (typeof value === 'number' && value >= min && value <= max) settings[name] = value;
  }
  return settings;
}

export function saveSettings(settings: Settings): void {
  write(() => localStorage, kSettings, JSON.stringify(settings));
}

/** The key: for this tab only, or kept in this browser when the user says so. */
export function loadKey(): string {
  return read(() => sessionStorage, kKey) ?? read(() => localStorage, kKey) ?? '';
}

export function saveKey(key: string, keep: boolean): void {
  write(() => sessionStorage, kKey, key);
  write(() => localStorage, kKey, keep ? key : '');
}

export function flag(name: string, fallback: boolean): boolean {
  const kept = read(() => localStorage, `fathom.${name}`);
  return kept === null ? fallback : kept === '1';
}

export function setFlag(name: string, value: boolean): void {
  write(() => localStorage, `fathom.${name}`, value ? '1' : '0');
}
