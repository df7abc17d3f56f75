/** Inventory, queue and store: do they answer, and what waits in them. */

import {attribute, fill, h, list, part, text, the} from './dom.js';
import * as words from './words.js';

const BACKENDS = /** @type {const} */ (['inventory', 'queue', 'store']);

/** @param {import('./app.js').View} view */
export function show({snapshot}) {
  list(
    the('health'),
    BACKENDS.map((name) => ({name, is: snapshot.health[name]})),
    ({name}) => name,
    ({name}) => h('li', {}, h('span', {class: 'sign', 'aria-hidden': 'true'}), h('b', {}, name), h('span', {class: 'backend'}), h('span', {class: 'said'})),
    (item, {is}) => {
      item.dataset.is = is.ok === null ? 'unknown' : is.ok ? 'good' : 'bad';
      text(part(item, 'sign'), is.ok === null ? '?' : is.ok ? '✓' : '✗');
      text(part(item, 'backend'), is.backend);
      const slow = is.seconds === null ? '' : ` in ${words.duration(is.seconds)}`;
      text(part(item, 'said'), is.ok === null ? 'not asked yet' : is.ok ? `answers${slow}` : (is.why ?? 'does not answer'));
    },
  );
  /** @type {[string, string, boolean][]} */
  const figures = [
    ['Outbox entries', words.count(snapshot.outbox_entries), false],
    ['In lanes', words.count(snapshot.lanes.length === 0 ? null : snapshot.lanes.reduce((sum, lane) => sum + lane.messages, 0)), false],
    ['Writer lag', words.duration(snapshot.writer_lag_seconds), false],
    ['Dead letters', words.count(snapshot.dead_letters), (snapshot.dead_letters ?? 0) > 0],
  ];
  list(
    the('health-figures'),
    figures,
    ([name]) => name,
    ([name]) => h('div', {}, h('dt', {}, name), h('dd', {class: 'value'})),
    (item, [, value, bad]) => {
      text(part(item, 'value'), value);
      attribute(item, 'data-is', bad ? 'bad' : null);
    },
  );
  lanes(snapshot.lanes);
}

/** @param {import('./types.js').Lane[]} lanes */
function lanes(lanes) {
  const box = the('health-lanes');
  if (lanes.length === 0) return fill(box);
  let list_ = box.querySelector('ul');
  if (!list_) {
    list_ = h('ul', {class: 'queue-lanes', 'aria-label': 'Lanes of the queue'});
    fill(box, list_);
  }
  list(
    list_,
    lanes,
    ({lane}) => lane,
    ({lane}) => h('li', {}, h('b', {}, /^\d+$/.test(lane) ? `lane ${lane}` : lane), h('span', {class: 'depth'}), h('span', {class: 'writers'})),
    (item, {lane, messages, consumers}) => {
      text(part(item, 'depth'), words.counted(messages, 'message'));
      text(part(item, 'writers'), words.counted(consumers, 'writer'));
      attribute(item, 'data-is', messages > 0 && consumers === 0 && lane !== 'dead' ? 'warn' : null);
    },
  );
}
