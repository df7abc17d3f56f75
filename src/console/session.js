/** Who sits in front of the page: the admin token and the operator's name, for as long as this tab lives. */

import {the} from './dom.js';

const TOKEN = 'rushgate.token';
const OPERATOR = 'rushgate.operator';

/** @type {Set<() => void>} */
const listeners = new Set();

export function headers() {
  /** @type {{[name: string]: string}} */
  const headers = {Accept: 'application/json'};
  const [token, name] = [sessionStorage.getItem(TOKEN), operator()];
  if (token) headers.Authorization = `Bearer ${token}`;
  if (name) headers['X-Operator'] = name;
  return headers;
}

export function operator() {
  return sessionStorage.getItem(OPERATOR) ?? '';
}

/**
 * Is told of every sign-in.
 *
 * @param {() => void} listener
 */
export function onSignIn(listener) {
  listeners.add(listener);
}

/**
 * Asks who it is, unless it is being asked already.
 *
 * @param {string} why Empty if nobody has refused anything.
 */
export function ask(why) {
  const dialog = the('sign-in', HTMLDialogElement);
  if (dialog.open) return;
  the('sign-in-why').textContent = why;
  the('sign-in-why').hidden = why === '';
  the('operator', HTMLInputElement).value = operator();
  the('token', HTMLInputElement).value = '';
  the('sign-out').hidden = sessionStorage.getItem(TOKEN) === null;
  dialog.showModal();
  the(why === '' ? 'operator' : 'token').focus();
}

export function begin() {
  const dialog = the('sign-in', HTMLDialogElement);
  the('who').addEventListener('click', () => ask(''));
  the('sign-in-later').addEventListener('click', () => dialog.close());
  the('sign-out').addEventListener('click', () => {
    sessionStorage.clear();
    location.reload();
  });
  the('sign-in-form').addEventListener('submit', (event) => {
    event.preventDefault();
    const token = the('token', HTMLInputElement).value.trim();
    const name = the('operator', HTMLInputElement).value.trim();
    // A header carries no others, and the fetch would fail with words that help nobody.
    if (token !== '' && !/^[\x20-\x7e]+$/.test(token)) {
      the('sign-in-why').textContent = 'No token has such characters.';
      the('sign-in-why').hidden = false;
      return;
    }
    if (token !== '') sessionStorage.setItem(TOKEN, token);
    sessionStorage.setItem(OPERATOR, name);
    dialog.close();
    show();
    for (const listener of listeners) listener();
  });
  show();
}

function show() {
  the('who').textContent = operator() === '' ? 'No name' : operator();
}
