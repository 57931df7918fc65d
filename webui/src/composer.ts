// Where messages are written. Enter sends, Shift+Enter begins a line.

import { el, icon } from './dom';
import type { Settings } from './settings';

export interface ComposerActions {
  send(text: string): void;
  stop(): void;
  cancelEdit(): void;
  thinking(mode: Settings['thinking']): void;
}

export class Composer {
  readonly node: HTMLElement;
  private readonly field: HTMLTextAreaElement;
  private readonly button = el('button', { type: 'submit', class: 'send' });
  private readonly note = el('div', { class: 'edit-note', hidden: true });
  private readonly thinking = el('select', { 'aria-label': 'Thinking', class: 'thinking-switch',
                                             title: 'Whether the model thinks before it answers' });
  private running = false;

  constructor(private readonly actions: ComposerActions) {
    this.field = el('textarea', { rows: '1', placeholder: 'Ask something', 'aria-label': 'Message', enterkeyhint: 'send',
                                  autocomplete: 'off' });
    for (const [value, label] of [['default', 'Thinking: model’s choice'], ['on', 'Thinking: on'], ['off', 'Thinking: off']]) {
      this.thinking.append(el('option', { value, text: label }));
    }
    this.thinking.addEventListener('change', () => actions.thinking(this.thinking.value as Settings['thinking']));
    this.note.append(el('span', { text: 'Sending replaces this message and all that follows it.' }),
                     el('button', { type: 'button', class: 'link', text: 'Cancel', onclick: () => actions.cancelEdit() }));
    const form = el('form', { class: 'composer' }, this.note, this.field,
                    el('div', { class: 'row' }, this.thinking,
                       el('span', { class: 'keys fine', text: 'Enter sends · Shift+Enter new line · Esc stops' }), this.button));
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.submit();
    });
    this.field.addEventListener('keydown', (event) => {
      // 229: some input methods report Enter that way while they compose.
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
      event.preventDefault();
      if (!this.running) this.submit();
    });
    this.field.addEventListener('input', () => this.fit());
    this.node = el('div', { class: 'composer-wrap' }, form);
    this.setRunning(false);
  }

  private submit(): void {
    if (this.running) {
      this.actions.stop();
      return;
    }
    const text = this.field.value;
    if (!text.trim()) return;
    this.field.value = '';
    this.fit();
    this.actions.send(text);
  }

  private fit(): void {
    this.field.style.height = 'auto';
    this.field.style.height = `${Math.min(this.field.scrollHeight, Math.round(innerHeight * 0.4))}px`;
    this.button.disabled = !this.running && !this.field.value.trim();
  }

  get text(): string {
    return this.field.value;
  }

  set text(value: string) {
    this.field.value = value;
    this.fit();
  }

  setThinking(mode: Settings['thinking']): void {
    this.thinking.value = mode;
    this.thinking.classList.toggle('set', mode !== 'default');
  }

  setRunning(running: boolean): void {
    this.running = running;
    this.button.replaceChildren(icon(running ? 'stop' : 'send'));
    this.button.setAttribute('aria-label', running ? 'Stop' : 'Send');
    this.button.title = running ? 'Stop (Esc)' : 'Send (Enter)';
    this.button.classList.toggle('stop', running);
    this.fit();
  }

  setEditing(editing: boolean): void {
    this.note.hidden = !editing;
  }

  focus(): void {
    this.field.focus();
    this.field.setSelectionRange(this.field.value.length, this.field.value.length);
  }
}
