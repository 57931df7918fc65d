// The server's numbers: /metrics (Prometheus text) in, one Snapshot out. A number that is not there is 0: the panel must
// not fail because a server is older or newer than the page.

import { bytes, percent, seconds } from './format';

export interface TierState {
  name: string;
  label: string;
  usedBytes: number;
  limitBytes: number;  // 0: none
  blocks: number;
  hitTokens: number;
  more: [string, string][];
}

export interface Snapshot {
  at: number;  // milliseconds
  running: number;
  waiting: number;
  prefilling: number;
  requests: number;
  evaluatedTokens: number;  // of prompts, computed
  answerTokens: number;
  firstTokenSeconds: number;  // mean; 0: unknown
  lookupTokens: number;
  hitTokens: number;
  tiers: TierState[];
  more: [string, string][];
}

/** Values by name and labels as written; and under the bare name their sum over all labels. */
export type Metrics = Map<string, number>;

/** https://prometheus.io/docs/instrumenting/exposition_formats/ */
export function readMetrics(text: string): Metrics {
  const values: Metrics = new Map();
  for (const line of text.split('\n')) {
    const found = /^([a-zA-Z_:][\w:]*)(\{.*\})?\s+(\S+)/.exec(line);
    if (!found) continue;
    const value = Number(found[3]);
    if (!Number.isFinite(value)) continue;
    if (found[2]) values.set(found[1]! + found[2], value);
    values.set(found[1]!, (values.get(found[1]!) ?? 0) + value);
  }
  return values;
}

function tier(name: string, label: string, of: (metric: string) => number, more: [string, string][]): TierState {
  return { name, label, more, usedBytes: of('bytes'), limitBytes: of('limit_bytes'), blocks: of('blocks'),
           hitTokens: of('hit_tokens_total') };
}

export function readSnapshot(metrics: Metrics, at = Date.now()): Snapshot {
  const get = (name: string): number => metrics.get(`fathom_${name}`) ?? 0;
  const ofTier = (name: string) => (metric: string) => metrics.get(`fathom_cache_${metric}{tier="${name}"}`) ?? 0;
  const tiers: TierState[] = [];
  const pinned = get('cache_pinned_blocks');
  if (ofTier('memory')('bytes') > 0 || ofTier('memory')('limit_bytes') > 0) {
    tiers.push(tier('memory', 'Memory', ofTier('memory'), pinned ? [['pinned blocks', String(pinned)]] : []));
  }
  if (ofTier('disk')('limit_bytes') > 0) {
    const more: [string, string][] = [];
    const speed = get('cache_disk_read_bytes_per_second'), queued = get('cache_disk_queued_writes');
    const today = get('cache_disk_written_today_bytes'), damaged = get('cache_corrupt_total');
    if (speed) more.push(['reads at', `${bytes(speed)}/s`]);
    if (today) more.push(['written today', bytes(today)]);
    if (queued) more.push(['blocks to be written', String(queued)]);
    if (damaged) more.push(['dropped as damaged', String(damaged)]);
    tiers.push(tier('disk', 'SSD', ofTier('disk'), more));
  }
  const firsts = get('time_to_first_token_seconds_count');
  const wait = get('cache_load_wait_seconds_total');
  const more: [string, string][] = wait > 0 ? [['waited for the SSD', seconds(wait)]] : [];
  const uses = get('expert_uses_total');  // over all layers
  if (uses > 0) {
    more.push(['experts found in memory', percent(get('expert_hits_total'), uses)],
              ['read for experts', bytes(get('expert_read_bytes_total'))],
              ['waited for experts', seconds(get('expert_stall_seconds_total'))]);
  }
  return {
    at, tiers,
    running: get('requests_running'),
    waiting: get('requests_waiting'),
    prefilling: get('requests_prefilling'),
    requests: get('requests_total'),
    evaluatedTokens: get('evaluated_tokens_total'),
    answerTokens: get('generated_tokens_total'),
    firstTokenSeconds: firsts > 0 ? get('time_to_first_token_seconds_sum') / firsts : 0,
    lookupTokens: get('cache_lookup_tokens_total'),
    hitTokens: get('cache_hit_tokens_total'),
    more,
  };
}
