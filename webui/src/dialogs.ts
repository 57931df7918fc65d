// Settings, the API key, and one question before something is lost.

import { el } from './dom';
import { kNumbers, type Settings } from './settings';

function open(dialog: HTMLDialogElement, onclose: () => void = () => undefined): void {
  dialog.addEventListener('close', () => {
    dialog.remove();
    onclose();
  });
  // A click beside it closes it, as Esc does.
  dialog.addEventListener('pointerdown', (event) => {
    if (event.target === dialog) dialog.close();
  });
  document.body.append(dialog);
  dialog.showModal();
}

function form(submit: () => void, ...children: (Node | null)[]): HTMLFormElement {
  return el('form', { onsubmit: (event: Event) => { event.preventDefault(); submit(); } }, ...children);
}

/** Resolves with undefined for no; for yes, with whether `option` was checked. */
export function confirmDialog(question: string, detail: string, action: string, option = ''):
    Promise<{ option: boolean } | undefined> {
  return new Promise((resolve) => {
    let yes = false;
    const box = el('input', { type: 'checkbox', id: 'confirm-option' });
    const dialog = el('dialog', { 'aria-label': question }, form(() => { yes = true; dialog.close(); },
      el('h2', { text: question }), el('p', { text: detail }),
      option ? el('div', { class: 'check' }, box, el('label', { for: 'confirm-option', text: option })) : null,
      el('div', { class: 'buttons' },
         el('button', { type: 'button', class: 'button', text: 'Cancel', onclick: () => dialog.close() }),
         el('button', { type: 'submit', class: 'button danger', text: action }))));
    open(dialog, () => resolve(yes ? { option: box.checked } : undefined));
  });
}

/** Resolves with the key and whether to keep it, or undefined. */
export function keyDialog(words: string): Promise<{ key: string; keep: boolean } | undefined> {
  return new Promise((resolve) => {
    let entered: { key: string; keep: boolean } | undefined;
    const field = el('input', { type: 'password', id: 'api-key', autocomplete: 'off', spellcheck: 'false',
                                placeholder: 'sk-…', maxlength: '500' });
    const keep = el('input', { type: 'checkbox', id: 'keep-key' });
    const dialog = el('dialog', { 'aria-label': 'API key', class: 'key-dialog' },
      form(() => {
        entered = { key: field.value.trim(), keep: keep.checked };
        dialog.close();
      },
      el('h2', { text: 'API key' }), el('p', { text: words }),
      el('label', { for: 'api-key', text: 'Key' }), field,
      el('div', { class: 'check' }, keep, el('label', { for: 'keep-key', text: 'Keep it in this browser (otherwise until the tab closes)' })),
      el('div', { class: 'buttons' },
         el('button', { type: 'button', class: 'button', text: 'Cancel', onclick: () => dialog.close() }),
         el('button', { type: 'submit', class: 'button primary', text: 'Use this key' }))));
    open(dialog, () => resolve(entered));
  });
}

export interface SettingsActions {
  changed(settings: Settings): void;
  enterKey(): void;
  removeAll(): void;
}

export function settingsDialog(settings: Settings, models: string[], actions: SettingsActions): void {
  const changed = () => actions.changed(settings);
  const system = el('textarea', { id: 'system', rows: '4', placeholder: 'None', maxlength: '200000' });
  system.value = settings.system;
  system.addEventListener('change', () => { settings.system = system.value; changed(); });

  const model = el('select', { id: 'model' }, el('option', { value: '', text: 'The server’s own choice' }),
                   ...models.map((name) => el('option', { value: name, text: name })));
  if (settings.model && !models.includes(settings.model)) {
    model.append(el('option', { value: settings.model, text: `${settings.model} (not served now)` }));
  }
  model.value = settings.model;
  model.addEventListener('change', () => { settings.model = model.value; changed(); });

  const fields = kNumbers.map(({ name, label, min, max, step, hint }) => {
    const field = el('input', { type: 'number', id: name, min, max, step: step < 1 ? 'any' : '1', placeholder: 'server’s',
                                inputmode: 'decimal', 'aria-describedby': `${name}-hint` });
    field.value = settings[name] === undefined ? '' : String(settings[name]);
    field.addEventListener('change', () => {
      if (!field.checkValidity()) {
        field.reportValidity();
        return;
      }
      settings[name] = field.value === '' ? undefined : Number(field.value);
      changed();
    });
    return el('div', { class: 'number' }, el('label', { for: name, text: label }), field,
              el('small', { id: `${name}-hint`, text: hint }));
  });

  const dialog = el('dialog', { 'aria-label': 'Settings', class: 'settings' },
    form(() => dialog.close(),
      el('h2', { text: 'Settings' }),
      el('label', { for: 'system', text: 'System prompt' }), system,
      el('small', { text: 'Stands before every chat. Changing it means that nothing of a chat so far is known to the cache.' }),
      models.length > 1 || settings.model ? el('label', { for: 'model', text: 'Model' }) : null,
      models.length > 1 || settings.model ? model : null,
      el('h3', { text: 'Sampling' }), el('div', { class: 'numbers' }, ...fields),
      el('div', { class: 'buttons' },
         el('button', { type: 'button', class: 'button danger quiet', text: 'Delete all chats', onclick: () => { dialog.close(); actions.removeAll(); } }),
         el('button', { type: 'button', class: 'button quiet', text: 'API key …', onclick: () => { dialog.close(); actions.enterKey(); } }),
         el('span', { class: 'space' }),
         el('button', { type: 'submit', class: 'button primary', text: 'Done' }))));
  // Enter or Esc in a field leaves without its change event in some browsers.
  open(dialog, () => {
    if (system.value !== settings.system) {
      settings.system = system.value;
      changed();
    }
  });
}
