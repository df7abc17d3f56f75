/** The audit log: who changed what, and when. */

import {get} from './api.js';
import {h, list, text, the} from './dom.js';
import * as words from './words.js';

const LINES = 30;
const REFRESH = 5000;

/** @typedef {import('./types.js').Change} Change */

/** @type {string | null} */
let sale = null;
let asked = 0;
let known = false;

export function begin() {
  for (const radio of document.querySelectorAll('input[name="log-of"]')) radio.addEventListener('change', () => void refresh());
  setInterval(() => {
    if (known) void refresh();
  }, REFRESH);
}

/** @param {import('./app.js').View} view */
export function show({sale: chosen}) {
  const other = chosen?.sale !== sale;
  sale = chosen?.sale ?? null;
  if (!known || (other && ofSale())) void refresh();
  known = true;
}

function ofSale() {
  const chosen = document.querySelector('input[name="log-of"]:checked');
  return chosen instanceof HTMLInputElement && chosen.value === 'sale';
}

/** Asks at once, as after a change. */
export async function refresh() {
  if (document.hidden || document.documentElement.dataset.feed === 'lost') return;
  const mine = ++asked;
  const query = new URLSearchParams({limit: String(LINES)});
  if (ofSale() && sale !== null) query.set('subject', sale);
  try {
    /** @type {{changes: Change[]}} */
    const {changes} = await get(`/admin/v1/changes?${query}`);
    if (mine !== asked) return;
    said(changes.length === 0 ? 'Nobody has changed anything yet.' : '');
    list(the('log'), numbered(changes), ({key}) => key, line, (item, {change}) => time(item, change.at));
  } catch (error) {
    if (mine === asked) said(error instanceof Error ? error.message : String(error));
  }
}

/** @param {string} what */
function said(what) {
  the('log-note').hidden = what === '';
  text(the('log-note'), what);
}

/**
 * Two changes may have happened in one millisecond.
 *
 * @param {Change[]} changes The newest first.
 */
function numbered(changes) {
  /** @type {Map<string, number>} */
  const seen = new Map();
  return changes.map((change) => {
    const {at, who, what, subject} = change;
    const key = JSON.stringify([at, who, what, subject]);
    seen.set(key, (seen.get(key) ?? 0) + 1);
    return {change, key: `${key} ${seen.get(key)}`};
  });
}

/**
 * Today's time is yesterday's tomorrow.
 *
 * @param {HTMLElement} item
 * @param {string} at
 */
function time(item, at) {
  const told = item.querySelector('time');
  if (told) text(told, words.moment(at));
}

/** @param {{change: Change}} entry */
function line({change}) {
  return h(
    'li',
    {},
    h('time', {datetime: change.at}),
    h('p', {}, h('b', {class: 'who'}, change.who), h('span', {class: 'what'}, ` ${deed(change.what)} ${change.subject}`), h('span', {class: 'diff'}, differences(change.before, change.after).join(', '))),
  );
}

/** @type {{[what: string]: string}} */
const DEEDS = {
  'sale.put': 'defined',
  'sale.open': 'opened',
  'sale.pause': 'paused',
  'sale.resume': 'resumed',
  'sale.close': 'closed',
  'sale.stock': 'changed the stock of',
  'sale.buffer': 'set the buffer of',
  'node.drain': 'drained',
};

/** @param {string} what */
function deed(what) {
  return DEEDS[what] ?? what;
}

/**
 * What is another after than before, place by place.
 *
 * @param {unknown} before
 * @param {unknown} after
 * @param {string} [at]
 * @returns {string[]}
 */
export function differences(before, after, at = '') {
  if (JSON.stringify(before) === JSON.stringify(after)) return [];
  if (isObject(before) && isObject(after)) {
    const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].filter((name) => name !== 'version');
    return names.flatMap((name) => differences(before[name], after[name], at === '' ? words.spoken(name) : `${at} ${words.spoken(name)}`));
  }
  if (Array.isArray(before) && Array.isArray(after)) {
    const id = (/** @type {unknown} */ item, /** @type {number} */ index) => (isObject(item) && typeof item.id === 'string' ? item.id : String(index));
    const had = new Map(before.map((item, index) => [id(item, index), item]));
    return after.flatMap((item, index) => differences(had.get(id(item, index)), item, `${at.replace(/s$/, '')} ${id(item, index)}`));
  }
  if (before === null || before === undefined) return isObject(after) || Array.isArray(after) ? [at === '' ? 'new' : `${at} new`] : [`${at}: ${words.value(after)}`];
  return [`${at}: ${words.value(before)} → ${words.value(after)}`];
}

/**
 * @param {unknown} value
 * @returns {value is {[name: string]: unknown}}
 */
function isObject(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
