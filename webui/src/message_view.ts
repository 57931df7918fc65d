// One message on the page, and the line of numbers below an answer.

import { copyButton, el, iconButton, type Props } from './dom';
import { count, percent, rate, seconds } from './format';
import { MarkdownView } from './markdown';
import type { AnswerStats, Message } from './store';

export interface MessageActions {
  edit(message: Message): void;
  again(message: Message): void;
}

/** The stats of an answer in words, and a bar that shows how much of the prompt was known. */
export function statsLine(stats: AnswerStats): HTMLElement {
  const parts: (HTMLElement | string)[] = [];
  const add = (name: string, text: string, title?: string) => parts.push(el('span', { 'data-stat': name, text, title }));
  add('tokens', `${stats.exact ? '' : '≈ '}${count(stats.answerTokens)} token${stats.answerTokens === 1 ? '' : 's'}`,
      stats.reasoningTokens ? `${count(stats.reasoningTokens)} of them thinking` : undefined);
  if (stats.tokensPerSecond) add('rate', `${rate(stats.tokensPerSecond)} tok/s`);
  if (stats.firstTokenSeconds !== undefined) add('first', `first after ${seconds(stats.firstTokenSeconds)}`);
  if (stats.promptTokens !== undefined) {
    const known = stats.cachedTokens ?? 0;
    const where = [stats.memoryTokens ? `${count(stats.memoryTokens)} from memory` : '',
                   stats.diskTokens ? `${count(stats.diskTokens)} from SSD` : ''].filter(Boolean).join(', ');
    const bar = el('span', { class: 'known-bar', 'aria-hidden': 'true' }, el('span', { class: 'fill' }));
    (bar.firstChild as HTMLElement).style.width = `${stats.promptTokens ? (100 * known) / stats.promptTokens : 0}%`;
    parts.push(el('span', { 'data-stat': 'known', class: 'known', title: [where, stats.reason].filter(Boolean).join('; ') || undefined },
                  bar, `${count(known)} of ${count(stats.promptTokens)} prompt tokens known` +
                       (known ? ` (${percent(known, stats.promptTokens)})` : '')));
  }
  if (stats.cost) add('cost', stats.cost);
  return el('div', { class: 'stats' }, ...parts);
}

const kEndings: Partial<Record<NonNullable<Message['ended']>, string>> = {
  stopped: 'Stopped.',
  length: 'The answer reached its longest length.',
  lost: 'This answer was cut off when the page was closed.',
};

export class MessageView {
  readonly node: HTMLElement;
  private readonly body = el('div', { class: 'body' });
  private readonly answer = new MarkdownView();
  private readonly foot = el('div', { class: 'foot' });
  private readonly progress = el('div', { class: 'progress' });
  private thinking: { fold: HTMLDetailsElement; summary: HTMLElement; text: HTMLElement } | undefined;
  private began = 0;
  private shownThoughts = 0;
  private frame = 0;
  private notBefore = 0;

  /** live: it is still being answered. */
  constructor(readonly message: Message, private readonly actions: MessageActions, live: boolean) {
    const mine = message.role === 'user';
    this.node = el('article', { class: `message ${message.role}`, 'data-id': message.id,
                                'aria-label': mine ? 'You' : 'Answer' });
    if (mine) this.body.append(el('div', { class: 'words', text: message.content }));
    else this.body.append(this.progress, this.answer.node);
    this.node.append(this.body, this.foot);
    this.refresh(live);
  }

  /** Shows `message` as it is now. Cheap to call for every token: it draws at most once a frame. */
  update(): void {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      if (performance.now() < this.notBefore) {
        this.update();
        return;
      }
      const start = performance.now();
      this.refresh(true);
      // Long answers take longer to lay out: at most a sixth of the time goes there.
      this.notBefore = performance.now() + 5 * (performance.now() - start);
      this.node.dispatchEvent(new CustomEvent('grown', { bubbles: true }));
    });
  }

  finish(): void {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    this.refresh(false);
  }

  /** While the prompt is evaluated. total 0: nothing known yet. */
  showProgress(done: number, total: number, cached: number): void {
    if (this.message.content || this.message.reasoning) return;
    const words = total > 0 ? `Reading ${count(done)} of ${count(total)} tokens${cached ? `, ${count(cached)} of them known` : ''} …`
                            : 'Waiting for the model …';
    if (this.progress.textContent !== words) {
      const bar = el('div', { class: 'meter read' }, el('span', { class: 'fill' }));
      (bar.firstChild as HTMLElement).style.width = `${total > 0 ? (100 * done) / total : 0}%`;
      this.progress.replaceChildren(el('span', { text: words }), bar);
    }
  }

  private refresh(live: boolean): void {
    const { message } = this;
    this.node.classList.toggle('live', live);
    this.node.setAttribute('aria-busy', String(live));
    if (message.role === 'assistant') {
      if (!live || message.content || message.reasoning) this.progress.replaceChildren();
      this.showThinking(live);
      this.answer.update(message.content);
      if (!live && !message.content && !message.error && message.ended === 'stop') {
        this.progress.replaceChildren(el('span', { class: 'fine', text: 'The model ended its answer without a word.' }));
      }
    }
    this.foot.hidden = live;
    if (!live) this.showFoot();
  }

  private showThinking(live: boolean): void {
    const { message } = this;
    if (!message.reasoning) return;
    if (!this.thinking) {
      const summary = el('summary');
      const text = el('div', { class: 'thoughts', tabindex: '0', role: 'group', 'aria-label': 'Thinking' });
      const fold = el('details', { class: 'thinking' }, summary, text);
      this.thinking = { fold, summary, text };
      this.body.insertBefore(fold, this.answer.node);
      this.began = performance.now();
    }
    const { summary, text } = this.thinking;
    const stillThinking = live && !message.content;
    if (stillThinking) {
      const lines = message.reasoning.trimEnd().split('\n').filter((line) => line.trim());
      summary.replaceChildren(el('b', { text: `Thinking for ${seconds((performance.now() - this.began) / 1000)}` }),
                              el('span', { class: 'last-line', text: (lines.at(-1) ?? '').slice(-160) }));
    } else if (!summary.dataset.done) {
      const took = message.reasoningSeconds ? ` for ${seconds(message.reasoningSeconds)}` : '';
      const words = message.reasoning.trim().split(/\s+/).length;
      summary.replaceChildren(el('b', { text: `Thought${took}` }), el('span', { class: 'last-line', text: `${count(words)} words` }));
      if (!live) summary.dataset.done = '1';
    }
    // Only what is new is added: a long thought is thousands of tokens, and may be selected meanwhile.
    if (message.reasoning.length > this.shownThoughts) {
      const follow = text.scrollHeight - text.scrollTop - text.clientHeight < 24;
      text.append(message.reasoning.slice(this.shownThoughts));
      this.shownThoughts = message.reasoning.length;
      if (follow) text.scrollTop = text.scrollHeight;
    }
  }

  private showFoot(): void {
    const { message, actions } = this;
    const parts: HTMLElement[] = [];
    const ending = message.ended && kEndings[message.ended];
    if (ending) parts.push(el('p', { class: 'ending', text: ending }));
    if (message.error) {
      parts.push(el('div', { class: 'error', role: 'alert' },
                    el('p', {}, el('b', { text: message.error.words })), el('p', { text: message.error.todo }),
                    el('button', { type: 'button', class: 'button', text: 'Try again', onclick: () => actions.again(message) })));
    }
    const tools = el('div', { class: 'tools' });
    if (message.content) tools.append(copyButton('Copy message', () => message.content));
    const tool = (name: 'edit' | 'again', label: string, onclick: () => void, more: Props = {}) =>
      tools.append(iconButton(name, label, onclick, more));
    if (message.role === 'user') tool('edit', 'Edit and send again', () => actions.edit(message));
    else if (!message.error) tool('again', 'Answer again', () => actions.again(message), { class: 'again' });
    const line = el('div', { class: 'under' });
    if (message.stats) line.append(statsLine(message.stats));
    line.append(tools);
    this.foot.replaceChildren(...parts, line);
  }
}
