// The page: conversations, the answers that are on their way, and what is shown of them. Answers go on while another
// conversation is looked at.

import { ApiError, gaveUp, type Api } from './api';
import { Composer } from './composer';
import { confirmDialog, keyDialog, settingsDialog } from './dialogs';
import { el, iconButton } from './dom';
import { count } from './format';
import { MessageView } from './message_view';
import { Panel } from './panel';
import { flag, loadKey, loadSettings, saveKey, saveSettings, setFlag } from './settings';
import { Sidebar } from './sidebar';
import { newId, titleOf, type Conversation, type Message, type Store } from './store';

interface Run {
  conversation: Conversation;
  message: Message;
  abort: AbortController;
  progress: [number, number, number];
}

const kSaveEvery = 1500;  // milliseconds, while an answer comes
const kSuggestions = ['Why is the sky blue?', 'What is 347 + 586? Think step by step.', 'Write a haiku about deep water.'];

export class App {
  private readonly settings = loadSettings();
  private readonly sidebar: Sidebar;
  private readonly panel: Panel;
  private readonly composer: Composer;
  private readonly log = el('div', { class: 'log', role: 'log', 'aria-label': 'Conversation', tabindex: '0' });
  private readonly title = el('h1', { class: 'title', text: 'New chat' });
  private readonly model = el('span', { class: 'model' });
  private readonly live = el('div', { class: 'offscreen', role: 'status' });
  private readonly notice = el('div', { class: 'notice', role: 'alert', hidden: true });
  private readonly jump = iconButton('down', 'To the end', () => this.follow(true), { class: 'jump', hidden: true });
  private readonly shell: HTMLElement;
  private models: string[] = [];
  private current: Conversation | undefined;
  private editing: Message | undefined;
  private views = new Map<string, MessageView>();
  private readonly runs = new Map<string, Run>();  // by conversation
  private sticking = true;
  private askingKey = false;

  constructor(private readonly api: Api, private readonly store: Store) {
    api.key = loadKey();
    this.sidebar = new Sidebar({
      create: () => this.create(), open: (id) => this.go(id), rename: (id, title) => void this.rename(id, title),
      remove: (id) => void this.remove(id), settings: () => this.openSettings(), close: () => this.drawer('sidebar', false),
    });
    this.panel = new Panel(api, () => this.drawer('panel', false));
    this.composer = new Composer({
      send: (text) => void this.send(text), stop: () => this.stop(), cancelEdit: () => this.cancelEdit(),
      thinking: (mode) => { this.settings.thinking = mode; this.saveSettings(); },
    });
    const top = el('header', { class: 'top' },
      iconButton('menu', 'Chats', () => this.drawer('sidebar', !this.shell.classList.contains('with-sidebar')),
                 { 'aria-controls': 'sidebar', class: 'menu' }),
      el('div', { class: 'heading' }, this.title, this.model),
      iconButton('plus', 'New chat', () => this.create(), { class: 'only-narrow' }),
      iconButton('depth', 'Cache and speed', () => this.drawer('panel', !this.shell.classList.contains('with-panel')),
                 { 'aria-controls': 'panel', class: 'panel-toggle' }));
    this.shell = el('div', { class: 'app' }, this.sidebar.node,
      el('main', {}, top, this.notice, this.log, el('div', { class: 'jump-place' }, this.jump), this.composer.node),
      this.panel.node, el('div', { class: 'backdrop', onclick: () => this.closeDrawers() }), this.live);
    this.log.addEventListener('scroll', () => {
      this.sticking = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 48;
      this.jump.hidden = this.sticking;
    }, { passive: true });
    this.log.addEventListener('grown', () => this.follow(false));
    document.addEventListener('keydown', (event) => this.key(event));
    addEventListener('hashchange', () => void this.openFromAddress());
    addEventListener('pagehide', () => this.runs.forEach((run) => void store.put(run.conversation)));
    store.onOtherTab = (id) => void this.otherTab(id);
    store.onTrouble = () => this.say('This browser could not keep the chat: its storage is full or closed. Delete old chats.');
  }

  async start(): Promise<void> {
    document.body.append(this.shell);
    this.sidebar.setDurable(this.store.durable);
    this.composer.setThinking(this.settings.thinking);
    const wide = matchMedia('(min-width: 1100px)').matches;
    this.drawer('sidebar', matchMedia('(min-width: 800px)').matches && flag('sidebar', true), false);
    this.drawer('panel', wide && flag('panel', true), false);
    await this.openFromAddress();
    this.composer.focus();
    await this.loadModels();
  }

  // --- what is shown

  private drawer(name: 'sidebar' | 'panel', open: boolean, remember = true): void {
    this.shell.classList.toggle(`with-${name}`, open);
    if (name === 'panel') this.panel.show(open);
    else this.sidebar.node.hidden = !open;
    const button = this.shell.querySelector(name === 'panel' ? '.panel-toggle' : '.menu');
    button?.setAttribute('aria-expanded', String(open));
    if (remember && matchMedia('(min-width: 1100px)').matches) setFlag(name, open);
  }

  private closeDrawers(): void {
    if (matchMedia('(max-width: 799px)').matches) this.drawer('sidebar', false);
    if (matchMedia('(max-width: 1099px)').matches) this.drawer('panel', false);
  }

  private say(words: string): void {
    this.notice.replaceChildren(el('span', { text: words }), iconButton('close', 'Close', () => { this.notice.hidden = true; }));
    this.notice.hidden = false;
  }

  private follow(always: boolean): void {
    if (!always && !this.sticking) return;
    this.log.scrollTop = this.log.scrollHeight;
  }

  private async refreshList(): Promise<void> {
    try {
      this.sidebar.show(await this.store.list(), this.current?.id, (id) => this.runs.has(id));
    } catch {
      this.say('The chats kept in this browser cannot be read.');
    }
  }

  private show(conversation: Conversation | undefined): void {
    this.current = conversation;
    this.editing = undefined;
    this.composer.setEditing(false);
    this.views = new Map();
    this.title.textContent = conversation?.title ?? 'New chat';
    document.title = conversation ? `${conversation.title} · fathom` : 'fathom';
    const run = conversation && this.runs.get(conversation.id);
    if (!conversation?.messages.length) {
      this.log.replaceChildren(this.welcome());
    } else {
      this.log.replaceChildren(...conversation.messages.map((message) => this.view(message, message === run?.message).node));
      if (run) this.showRun(run);
    }
    this.composer.setRunning(run !== undefined);
    this.sticking = true;
    this.follow(true);
    void this.refreshList();
  }

  private view(message: Message, live: boolean): MessageView {
    const view = new MessageView(message, {
      edit: (which) => this.edit(which), again: (which) => void this.again(which),
    }, live);
    this.views.set(message.id, view);
    return view;
  }

  private showRun(run: Run): void {
    const view = this.views.get(run.message.id);
    view?.showProgress(...run.progress);
    view?.update();
  }

  private welcome(): HTMLElement {
    return el('div', { class: 'welcome' },
      el('span', { class: 'mark large', 'aria-hidden': 'true' }, el('i'), el('i'), el('i')),
      el('h2', { text: 'What would you like to know?' }),
      el('p', { class: 'fine', text: 'What you write goes to this server and nowhere else. What it has read once, it does not compute again.' }),
      el('div', { class: 'suggestions' }, ...kSuggestions.map((text) =>
        el('button', { type: 'button', class: 'button', text, onclick: () => void this.send(text) }))));
  }

  // --- conversations

  private async openFromAddress(): Promise<void> {
    const id = /^#c=([0-9a-f]{1,64})$/.exec(location.hash)?.[1];
    if (id && id === this.current?.id) return;
    this.show(id ? await this.find(id) : undefined);
  }

  private async find(id: string): Promise<Conversation | undefined> {
    const run = this.runs.get(id);
    if (run) return run.conversation;
    const kept = await this.store.get(id).catch(() => undefined);
    // An answer without an end was on its way when its page closed (or still is, in another tab).
    for (const message of kept?.messages ?? []) {
      if (message.role === 'assistant') message.ended ??= 'lost';
    }
    return kept;
  }

  private go(id: string): void {
    if (location.hash === `#c=${id}`) void this.openFromAddress();
    else location.hash = `#c=${id}`;
    this.closeDrawers();
    this.composer.focus();
  }

  private create(): void {
    if (location.hash) history.pushState(null, '', location.pathname + location.search);
    this.show(undefined);
    this.closeDrawers();
    this.composer.focus();
  }

  private async rename(id: string, title: string): Promise<void> {
    const conversation = this.current?.id === id ? this.current : await this.find(id);
    if (!conversation) return;
    conversation.title = title;
    conversation.renamed = true;
    await this.store.put(conversation);
    if (this.current?.id === id) {
      this.title.textContent = title;
      document.title = `${title} · fathom`;
    }
    await this.refreshList();
  }

  private async remove(id: string): Promise<void> {
    const conversation = await this.find(id);
    const sure = await confirmDialog(
      `Delete “${conversation?.title ?? ''}”?`, 'The chat is erased from this browser.', 'Delete',
      'Erase it from the server’s cache as well: memory and SSD. Other chats that begin alike are computed anew, too.');
    if (!sure) return;
    this.runs.get(id)?.abort.abort();
    this.runs.delete(id);
    await this.store.remove(id);
    if (this.current?.id === id) this.create();
    else await this.refreshList();
    if (!sure.option || !conversation?.messages.length) return;
    try {
      const blocks = await this.api.forget(conversation.messages, this.settings);
      this.live.textContent = `The server has erased ${count(blocks)} blocks.`;
    } catch (error) {
      const words = error instanceof ApiError ? error.words : 'its answer could not be read.';
      this.say(`The chat is deleted here, but the server’s cache may still know it: ${words}`);
    }
  }

  private async removeAll(): Promise<void> {
    if (!await confirmDialog('Delete all chats?', 'They are erased from this browser and cannot be brought back.', 'Delete all')) return;
    this.runs.forEach((run) => run.abort.abort());
    this.runs.clear();
    await this.store.removeAll();
    this.create();
  }

  private async otherTab(id: string): Promise<void> {
    await this.refreshList();
    if (!this.current || this.runs.has(this.current.id) || (id && id !== this.current.id)) return;
    const kept = await this.find(this.current.id);
    if (kept) this.show(kept);
    else if (this.current.messages.length) this.create();
  }

  // --- asking

  private async send(text: string): Promise<void> {
    const conversation = this.current ?? { id: newId(), title: titleOf(text), renamed: false, updated: 0, messages: [] };
    if (this.runs.has(conversation.id)) return;
    if (this.editing) {
      conversation.messages.splice(conversation.messages.indexOf(this.editing));
      this.editing = undefined;
      this.composer.setEditing(false);
    }
    if (!conversation.messages.length && !conversation.renamed) conversation.title = titleOf(text);
    conversation.messages.push({ id: newId(), role: 'user', content: text });
    await this.ask(conversation);
  }

  private edit(message: Message): void {
    if (!this.current || this.runs.has(this.current.id)) return;
    this.editing = message;
    this.composer.text = message.content;
    this.composer.setEditing(true);
    this.composer.focus();
  }

  private cancelEdit(): void {
    this.editing = undefined;
    this.composer.text = '';
    this.composer.setEditing(false);
  }

  private async again(message: Message): Promise<void> {
    const conversation = this.current;
    if (!conversation || this.runs.has(conversation.id)) return;
    const place = conversation.messages.indexOf(message);
    if (place < 0) return;
    conversation.messages.splice(place);
    await this.ask(conversation);
  }

  private stop(): void {
    if (this.current) this.runs.get(this.current.id)?.abort.abort();
  }

  /** Answers the last message. */
  private async ask(conversation: Conversation): Promise<void> {
    const history = [...conversation.messages];
    const message: Message = { id: newId(), role: 'assistant', content: '' };
    conversation.messages.push(message);
    conversation.updated = Date.now();
    const run: Run = { conversation, message, abort: new AbortController(), progress: [0, 0, 0] };
    this.runs.set(conversation.id, run);
    if (location.hash !== `#c=${conversation.id}`) window.history.pushState(null, '', `#c=${conversation.id}`);
    this.show(conversation);
    this.panel.setBusy(true);
    this.live.textContent = 'Answering.';
    void this.store.put(conversation).then(() => this.refreshList());
    const save = setInterval(() => void this.store.put(conversation), kSaveEvery);
    let thinkingSince = 0;
    let wantsKey = false;
    const changed = () => this.views.get(message.id)?.update();
    try {
      const end = await this.api.answer(history, this.settings, run.abort.signal, {
        onProgress: (...progress) => {
          run.progress = progress;
          this.views.get(message.id)?.showProgress(...progress);
        },
        onReasoning: (text) => {
          thinkingSince ||= performance.now();
          message.reasoning = (message.reasoning ?? '') + text;
          message.reasoningSeconds = (performance.now() - thinkingSince) / 1000;
          changed();
        },
        onContent: (text) => {
          message.content += text;
          changed();
        },
        onNumbers: (stats) => { message.stats = stats; },
      });
      message.stats = end.stats;
      message.model = end.model;
      if (end.finish === 'insufficient_system_resource') throw gaveUp();
      message.ended = end.finish === 'length' ? 'length' : 'stop';
    } catch (error) {
      if (run.abort.signal.aborted) {
        message.ended = 'stopped';
      } else {
        message.ended = 'error';
        const known = error instanceof ApiError ? error
          : new ApiError(0, 'Something went wrong in this page.', 'Load it again; if it happens again, report it.');
        if (!(error instanceof ApiError)) console.error(error);
        message.error = { words: known.words, todo: known.todo };
        wantsKey = known.status === 401;
      }
      if (!message.content && !message.reasoning) message.stats = undefined;
    } finally {
      clearInterval(save);
    }
    // Deleted meanwhile: nothing of it may be written again.
    if (this.runs.get(conversation.id) !== run) return;
    this.runs.delete(conversation.id);
    conversation.updated = Date.now();
    await this.store.put(conversation);
    this.panel.setBusy(this.runs.size > 0);
    this.settle(run);
    if (wantsKey && await this.enterKey(message.error!.words) && this.current === conversation) await this.again(message);
  }

  private settle({ conversation, message }: Run): void {
    if (this.current?.id === conversation.id) {
      this.views.get(message.id)?.finish();
      this.composer.setRunning(false);
      this.follow(false);
    }
    this.live.textContent = message.error ? message.error.words
      : message.ended === 'stopped' ? 'Stopped.' : `Answer complete, ${count(message.stats?.answerTokens ?? 0)} tokens.`;
    void this.refreshList();
  }

  // --- the server

  /** Asks until the server takes a key. False: the user would rather not. */
  private async enterKey(words: string): Promise<boolean> {
    if (this.askingKey) return false;
    this.askingKey = true;
    try {
      for (;;) {
        const entered = await keyDialog(words);
        if (!entered) return false;
        this.api.key = entered.key;
        saveKey(entered.key, entered.keep);
        const refused = await this.readModels();
        if (refused?.status !== 401) break;
        words = refused.words;
      }
      this.panel.setBusy(this.runs.size > 0);  // asks again, now with the key
      return true;
    } finally {
      this.askingKey = false;
    }
  }

  private async loadModels(): Promise<void> {
    const refused = await this.readModels();
    if (refused?.status === 401) await this.enterKey(refused.words);
  }

  /** What went wrong is said, unless it is the key, and returned. */
  private async readModels(): Promise<ApiError | undefined> {
    try {
      this.models = await this.api.models();
      this.notice.hidden = true;
      this.showModel();
      return undefined;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.status !== 401) this.say(`${error.words} ${error.todo}`);
      return error;
    }
  }

  private showModel(): void {
    this.model.textContent = this.settings.model || this.models[0] || '';
  }

  private saveSettings(): void {
    saveSettings(this.settings);
    this.showModel();
  }

  private openSettings(): void {
    settingsDialog(this.settings, this.models, {
      changed: () => this.saveSettings(),
      enterKey: () => void this.enterKey('The server’s owner gives out keys. An empty field forgets the one in use.'),
      removeAll: () => void this.removeAll(),
    });
  }

  private key(event: KeyboardEvent): void {
    if (event.key !== 'Escape' || event.isComposing || document.querySelector('dialog[open]')) return;
    if (this.current && this.runs.has(this.current.id)) this.stop();
    else if (this.editing) this.cancelEdit();
    else this.closeDrawers();
  }
}
