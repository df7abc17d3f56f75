/** The theme: the system's, light, or dark; remembered in this browser. */

import {the} from './dom.js';

const KEY = 'rushgate.theme';
const NEXT = /** @type {const} */ ({auto: 'light', light: 'dark', dark: 'auto'});
const SIGNS = {auto: '◐', light: '☀', dark: '☾'};

/** @param {() => void} changed Canvases have to be drawn anew. */
export function begin(changed) {
  const button = the('theme');
  const show = () => {
    const now = chosen();
    button.textContent = `${SIGNS[now]} ${now}`;
    button.setAttribute('aria-label', `Theme: ${now}. Change to ${NEXT[now]}`);
    if (now === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = now;
    changed();
  };
  button.addEventListener('click', () => {
    localStorage.setItem(KEY, NEXT[chosen()]);
    show();
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', changed);
  show();
}

/** @returns {'auto' | 'light' | 'dark'} */
function chosen() {
  const kept = localStorage.getItem(KEY);
  return kept === 'light' || kept === 'dark' ? kept : 'auto';
}
