// What the clients' tests share: a server with a tiny made-up model, and a prompt long enough to be known afterwards.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Serve } from '../../webui/tests/serve.mjs';

export const kKey = 'fsk-of-the-clients-test';
const kOther = 'fsk-of-somebody-else';

/** Makes the tiny model one that thinks when it is asked to: a template that speaks of `thinking` is V3.1's. */
function teachToThink(path) {
  const model = readFileSync(path);
  const [from, to] = ['add_generation_prompt', 'thinking_prompt______'].map((text) => Buffer.from(text));
  const at = model.indexOf(from);
  if (at >= 0) writeFileSync(path, Buffer.concat([model.subarray(0, at), to, model.subarray(at + from.length)]));
}

export async function serve(...options) {
  const server = new Serve(process.env.FATHOM_BINARY);
  if (!process.env.FATHOM_TEST_MODEL) teachToThink(server.model);
  const keys = join(server.folder, 'keys');
  const hash = (key) => createHash('sha256').update(key).digest('hex');
  writeFileSync(keys, `one ${hash(kKey)} one admin\ntwo ${hash(kOther)} two\n`);
  return server.start('--api-keys', keys, '--cache-dir', join(server.folder, 'cache'), '--cache-disk', '64M', ...options);
}

/** Every test its own words, so that what one kept is not what another finds. */
export function longPrompt(name) {
  return `${name}: ${Array.from({ length: 60 }, (_, i) => `${name} stone ${i * 7919 % 1000} sank into the sea.`).join(' ')}`;
}

export const otherKey = kOther;

export async function metric(server, name) {
  const text = await (await fetch(new URL('metrics', server.url), { headers: { Authorization: `Bearer ${kKey}` } })).text();
  const found = text.split('\n').filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`));
  assert.ok(found.length, `${name} in /metrics`);
  return found.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
}

/** After an abort the server must soon have nothing to do. */
export async function becomesIdle(server) {
  let running;
  for (let i = 0; i < 60; ++i) {
    running = await metric(server, 'fathom_requests_running') + await metric(server, 'fathom_requests_waiting');
    if (running === 0) return;
    await sleep(50);
  }
  assert.fail(`${running} requests still run 3 s after their client has gone`);
}
