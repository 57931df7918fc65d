// The live panel: what the cache holds tier by tier, how much of what was asked it knew, how fast the engine goes.

import { ApiError, type Api } from './api';
import { el, iconButton, svg } from './dom';
import { bytes, count, percent, rate, seconds, short } from './format';
import { readMetrics, readSnapshot, type Snapshot, type TierState } from './stats';

const kHistory = 60;  // points of the speed line
const kEvery = 2000, kEveryWhileBusy = 1000;  // milliseconds

function row(label: string, value: string, title?: string): HTMLElement {
  return el('div', { class: 'fact', title }, el('dt', { text: label }), el('dd', { text: value }));
}

function meter(share: number, label: string, kind: string): HTMLElement {
  const fill = el('span', { class: 'fill' });
  fill.style.width = `${Math.min(100, Math.max(share > 0 ? 1 : 0, 100 * share))}%`;
  return el('div', { class: `meter ${kind}`, role: 'img', 'aria-label': label }, fill);
}

function tierCard(tier: TierState, depth: number): HTMLElement {
  const limit = tier.limitBytes > 0 ? `of ${bytes(tier.limitBytes)}` : 'no limit';
  const share = tier.limitBytes > 0 ? tier.usedBytes / tier.limitBytes : 0;
  return el('section', { class: `tier depth-${depth}`, 'data-tier': tier.name },
            el('header', {}, el('h3', { text: tier.label }),
               el('span', { class: 'amount', text: `${bytes(tier.usedBytes)} ${limit}` })),
            meter(share, `${tier.label}: ${bytes(tier.usedBytes)} ${limit}`, 'level'),
            el('dl', {},
               row('blocks', count(tier.blocks), 'of 64 tokens each'),
               row('tokens served', short(tier.hitTokens), 'prompt tokens that were taken from this tier'),
               ...tier.more.map(([label, value]) => row(label, value))));
}

/** Two lines over the last minute or two: tokens read a second (prompts), tokens written a second (answers). */
function speedLine(values: number[], label: string): SVGElement {
  const most = Math.max(1e-9, ...values);
  const points = values.map((value, i) => `${(100 * (i + kHistory - values.length)) / (kHistory - 1)},` +
                                          `${(27 - (25 * value) / most).toFixed(1)}`);
  const line = points.join(' ');
  const start = points[0]?.split(',')[0] ?? '0';
  return svg('svg', { viewBox: '0 0 100 28', preserveAspectRatio: 'none', class: 'spark', role: 'img', 'aria-label': label },
             svg('polygon', { points: `${start},28 ${line} 100,28`, class: 'under' }),
             svg('polyline', { points: line, class: 'line', 'vector-effect': 'non-scaling-stroke' }));
}

export class Panel {
  readonly node: HTMLElement;
  private readonly content = el('div', { class: 'panel-content' });
  private readonly note = el('p', { class: 'panel-note', role: 'status' });
  private timer: number | undefined;
  private open = false;
  private busy = false;
  private asking = false;
  private again = false;
  private readonly history: { read: number; written: number }[] = [];
  private before: Snapshot | undefined;
  private drawn = '';

  constructor(private readonly api: Api, close: () => void) {
    this.node = el('aside', { class: 'panel', id: 'panel', 'aria-label': 'Cache and speed' },
                   el('header', { class: 'panel-head' }, el('h2', { text: 'Cache and speed' }),
                      iconButton('close', 'Close the panel', close)),
                   this.note, this.content);
    document.addEventListener('visibilitychange', () => this.schedule(0));
  }

  show(open: boolean): void {
    this.open = open;
    this.node.hidden = !open;
    this.schedule(0);
  }

  /** While an answer comes, numbers move faster. */
  setBusy(busy: boolean): void {
    this.busy = busy;
    this.schedule(0);
  }

  private schedule(after: number): void {
    clearTimeout(this.timer);
    if (!this.open || document.visibilityState !== 'visible') return;
    if (this.asking) this.again = true;
    else this.timer = window.setTimeout(() => void this.refresh(), after);
  }

  private async refresh(): Promise<void> {
    this.asking = true;
    let wait = this.busy ? kEveryWhileBusy : kEvery;
    try {
      this.draw(readSnapshot(readMetrics(await this.api.text('metrics'))));
      this.note.textContent = '';
    } catch (error) {
      wait = 5000;
      this.node.classList.add('stale');
      const known = error instanceof ApiError ? error : undefined;
      if (known?.status === 401) this.note.textContent = 'The numbers come once an API key is entered.';
      else if (known?.status === 403) this.note.textContent = 'This key may not see the numbers of the server.';
      else if (known?.status === 404) this.note.textContent = 'This server has no numbers to show.';
      else this.note.textContent = `${known?.words ?? 'The numbers cannot be read.'} Trying again …`;
    } finally {
      this.asking = false;
    }
    this.schedule(this.again ? 0 : wait);
    this.again = false;
  }

  /** From the counters of two snapshots: what really went on between them. */
  private speeds(now: Snapshot): { read: number; written: number } | undefined {
    const before = this.before;
    this.before = now;
    const past = before ? (now.at - before.at) / 1000 : 0;
    if (!before || past < 0.2 || now.answerTokens < before.answerTokens) return undefined;  // or the server began anew
    return { read: Math.max(0, now.evaluatedTokens - before.evaluatedTokens) / past,
             written: (now.answerTokens - before.answerTokens) / past };
  }

  private draw(now: Snapshot): void {
    this.node.classList.remove('stale');
    // What has not changed is not drawn again: a selection, a tooltip survive.
    const state = JSON.stringify({ ...now, at: 0 });
    const quiet = state === this.drawn && this.history.every(({ read, written }) => read === 0 && written === 0);
    this.drawn = state;
    const measured = this.speeds(now);
    if (quiet) return;
    if (measured) this.history.push(measured);
    if (this.history.length > kHistory) this.history.shift();
    const speed = this.history.at(-1) ?? { read: 0, written: 0 };
    const known = percent(now.hitTokens, now.lookupTokens);
    const hits = el('section', { class: 'hits' },
      el('header', {}, el('h3', { text: 'From the cache' }),
         el('span', { class: 'big', 'data-number': 'hit-ratio', text: known })),
      meter(now.lookupTokens > 0 ? now.hitTokens / now.lookupTokens : 0, `${known} of prompt tokens`, 'hit'),
      el('p', { class: 'fine', 'data-number': 'hit-tokens',
                text: `${count(now.hitTokens)} of ${count(now.lookupTokens)} prompt tokens did not have to be computed` }));
    const work = el('section', { class: 'speed' },
      el('header', {}, el('h3', { text: 'Speed' }),
         el('span', { class: 'amount', 'data-number': 'running',
                      text: now.running + now.waiting === 0 ? 'idle'
                            : `${now.running} running${now.waiting ? `, ${now.waiting} waiting` : ''}` })),
      el('div', { class: 'lines' },
         el('figure', {}, speedLine(this.history.map((point) => point.written), 'Tokens written a second, lately'),
            el('figcaption', {}, el('span', { text: 'writing' }),
               el('b', { 'data-number': 'decode-rate', text: `${rate(speed.written)} tok/s` }))),
         el('figure', {}, speedLine(this.history.map((point) => point.read), 'Prompt tokens computed a second, lately'),
            el('figcaption', {}, el('span', { text: 'reading' }),
               el('b', { 'data-number': 'prefill-rate', text: `${rate(speed.read)} tok/s` })))),
      el('dl', {},
         row('requests', count(now.requests)),
         row('tokens written', short(now.answerTokens)),
         ...(now.firstTokenSeconds ? [row('first token', seconds(now.firstTokenSeconds), 'mean over all requests')] : []),
         ...now.more.map(([label, value]) => row(label, value))));
    const tiers = now.tiers.length
      ? now.tiers.map((tier, i) => tierCard(tier, i + 1))
      : [el('p', { class: 'fine', text: 'No cache is configured: every prompt is computed from its beginning.' })];
    this.content.replaceChildren(hits, work, ...tiers);
  }
}
