// The list of conversations: open, rename, delete.

import { el, icon, iconButton } from './dom';
import type { ConversationHead } from './store';

export interface SidebarActions {
  create(): void;
  open(id: string): void;
  rename(id: string, title: string): void;
  remove(id: string): void;
  settings(): void;
  close(): void;
}

export class Sidebar {
  readonly node: HTMLElement;
  private readonly list = el('ul', { class: 'conversations' });
  private readonly note = el('p', { class: 'fine keep-note' });
  private renaming = false;
  private waiting: (() => void) | undefined;

  constructor(private readonly actions: SidebarActions) {
    this.node = el('nav', { class: 'sidebar', id: 'sidebar', 'aria-label': 'Chats' },
      el('header', { class: 'brand' }, this.mark(), el('span', { class: 'name', text: 'fathom' }),
         iconButton('close', 'Close the list', actions.close, { class: 'only-narrow' })),
      el('button', { type: 'button', class: 'button new-chat', onclick: actions.create }, icon('plus'), 'New chat'),
      this.list,
      el('footer', {}, this.note,
         el('button', { type: 'button', class: 'button quiet', onclick: actions.settings }, icon('settings'), 'Settings')));
  }

  private mark(): HTMLElement {
    return el('span', { class: 'mark', 'aria-hidden': 'true' }, el('i'), el('i'), el('i'));
  }

  setDurable(durable: boolean): void {
    this.note.textContent = durable ? 'Chats are kept in this browser only.'
                                    : 'This browser keeps nothing: chats are gone when the page closes.';
  }

  show(heads: ConversationHead[], current: string | undefined, running: (id: string) => boolean): void {
    if (this.renaming) {  // a redraw would take the field away under the user's hands
      this.waiting = () => this.show(heads, current, running);
      return;
    }
    // Focus stays where it was.
    const focused = this.list.contains(document.activeElement)
      ? { id: document.activeElement!.closest('li')?.dataset.id, label: document.activeElement!.getAttribute('aria-label') }
      : undefined;
    this.list.replaceChildren(...heads.map((head) => this.item(head, head.id === current, running(head.id))));
    if (!heads.length) this.list.append(el('li', { class: 'none fine', text: 'No chats yet.' }));
    if (focused?.id) {
      const item = [...this.list.children].find((node) => (node as HTMLElement).dataset.id === focused.id);
      const again = [...(item?.querySelectorAll('button') ?? [])]
        .find((button) => button.getAttribute('aria-label') === focused.label);
      again?.focus();
    }
  }

  private item(head: ConversationHead, current: boolean, running: boolean): HTMLElement {
    const item = el('li', { class: current ? 'current' : undefined, 'data-id': head.id });
    item.append(
      el('button', { type: 'button', class: 'open', 'aria-current': current ? 'page' : undefined,
                     title: head.title, onclick: () => this.actions.open(head.id) },
         running ? el('span', { class: 'pulse', role: 'img', 'aria-label': 'answering' }) : null,
         el('span', { class: 'title', text: head.title })),
      iconButton('edit', `Rename ${head.title}`, () => this.rename(item, head)),
      iconButton('remove', `Delete ${head.title}`, () => this.actions.remove(head.id)));
    return item;
  }

  private rename(item: HTMLElement, head: ConversationHead): void {
    const field = el('input', { type: 'text', class: 'rename', 'aria-label': 'New name', maxlength: '120' });
    field.value = head.title;
    this.renaming = true;
    let over = false;
    const end = (keep: boolean) => {
      if (over) return;
      over = true;
      this.renaming = false;
      const title = field.value.trim();
      if (keep && title && title !== head.title) this.actions.rename(head.id, title);
      else item.replaceWith(this.item(head, item.classList.contains('current'), false));
      const waiting = this.waiting;
      this.waiting = undefined;
      waiting?.();
    };
    field.addEventListener('keydown', (event) => {
      if (event.isComposing) return;
      if (event.key === 'Enter') end(true);
      if (event.key === 'Escape') {
        event.stopPropagation();
        end(false);
      }
    });
    field.addEventListener('blur', () => end(true));
    item.replaceChildren(field);
    field.focus();
    field.select();
  }
}
