/** The wide dialog for what was asked: an audit's report, and why a claim was refused. */

import {fill, text, the} from './dom.js';

/** @type {(() => void) | null} */
let closed = null;

export function begin() {
  const dialog = the('report', HTMLDialogElement);
  the('report-close').addEventListener('click', () => dialog.close());
  dialog.addEventListener('close', () => {
    // It is told late, and the next report may be open by then.
    if (dialog.open) return;
    closed?.();
    closed = null;
  });
}

/**
 * @param {string} title
 * @param {import('./dom.js').Child[]} body
 * @param {(() => void) | null} [onClose]
 */
export function open(title, body, onClose = null) {
  const dialog = the('report', HTMLDialogElement);
  closed?.();
  text(the('report-title'), title);
  fill(the('report-body'), body);
  closed = onClose;
  if (!dialog.open) dialog.showModal();
  the('report-close').focus();
}

/** @param {import('./dom.js').Child[]} body */
export function show(body) {
  fill(the('report-body'), body);
}

/** @param {string} title */
export function title(title) {
  text(the('report-title'), title);
}
