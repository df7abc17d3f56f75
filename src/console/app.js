/**
 * The console: what one node tells of the sales, once a second.
 *
 * Each card is a module of its own, with a function that shows a snapshot. Nothing is drawn while nobody looks, and what is old is grey.
 */

import * as actions from './actions.js';
import * as audit from './audit.js';
import * as balance from './balance.js';
import * as charts from './charts.js';
import {attribute, text, the} from './dom.js';
import {Feed} from './feed.js';
import * as health from './health.js';
import {History} from './history.js';
import * as lanes from './lanes.js';
import * as log from './log.js';
import * as sales from './sales.js';
import * as session from './session.js';
import * as theme from './switch.js';
import * as tune from './tune.js';
import * as verdict from './verdict.js';
import * as why from './why.js';
import {clock} from './words.js';

/**
 * What every card is shown.
 *
 * @typedef {object} View
 * @property {import('./types.js').Snapshot} snapshot
 * @property {import('./types.js').Sale | null} sale The chosen one.
 * @property {History} history
 */

const history = new History();
/** @type {import('./types.js').Snapshot | null} */
let last = null;
/** Of the node that gave this page, as far as is known: the one that was heard first. */
let version = '';
let frame = 0;
/** @type {ReturnType<typeof setInterval> | undefined} */
let countdown;

function draw() {
  frame = 0;
  if (last === null || document.hidden) return;
  try {
    sales.settle(last);
    const view = {snapshot: last, sale: sales.chosen(last), history};
    the('main').dataset.has = view.sale ? 'sale' : 'none';
    for (const card of [sales, balance, lanes, tune, charts, health, log, actions, audit, why]) card.show(view);
  } catch (error) {
    feed.unshown(error);
  }
}

/** Draws soon, and once however often it is asked. */
function redraw() {
  if (frame === 0) frame = requestAnimationFrame(draw);
}

/** @param {import('./types.js').Snapshot} snapshot */
function arrived(snapshot) {
  verdict.show(snapshot);
  last = snapshot;
  history.add(snapshot);
  text(the('node'), snapshot.node);
  const state = snapshot.draining ? 'draining' : snapshot.ready ? 'ready' : 'not ready';
  text(the('node-state'), state);
  the('node-state').dataset.is = state === 'ready' ? 'good' : 'bad';
  attribute(the('node-state'), 'title', `Rushgate ${snapshot.version}, ${snapshot.roles.join(' and ')}`);
  text(the('feed-said'), `live, ${clock(snapshot.at)}`);
  version ||= snapshot.version;
  the('older').hidden = snapshot.version === version;
  text(the('older-what'), `This page is of Rushgate ${version}, and its node is of ${snapshot.version} by now.`);
  redraw();
}

/** @param {import('./feed.js').State} state */
function changed(state) {
  clearInterval(countdown);
  const [feed, data] = [the('feed'), document.documentElement];
  feed.dataset.is = state.is;
  data.dataset.feed = state.is;
  const asOf = last === null ? '' : ` What you see is as of ${clock(last.at)}.`;
  the('lost').hidden = state.is !== 'lost';
  if (state.is === 'lost') {
    text(the('feed-said'), last === null ? 'lost' : `as of ${clock(last.at)}`);
    const told = last?.draining ? `${last.node} was draining, and has ended as it was told. Open the console of another node.` : 'No news from this node.';
    text(the('lost-what'), `${told}${asOf}`);
    text(the('lost-why'), state.why);
    const tell = () => {
      if (state.again === null) return text(the('lost-again'), 'It is opened as soon as you have signed in.');
      const seconds = Math.ceil((state.again - Date.now()) / 1000);
      text(the('lost-again'), seconds > 0 ? `Trying again in ${seconds} s.` : 'Trying again …');
    };
    tell();
    countdown = setInterval(tell, 500);
  } else if (state.is === 'opening' && last !== null) {
    text(the('feed-said'), `as of ${clock(last.at)}, opening the feed …`);
  }
  verdict.feed(state, last);
}

session.begin();
theme.begin(redraw);
actions.begin();
audit.begin();
lanes.begin(redraw);
charts.begin(redraw);
log.begin();
tune.begin();
why.begin();
sales.begin(redraw);
balance.begin();
const feed = new Feed({snapshot: arrived, state: changed});
the('older-reload').addEventListener('click', () => location.reload());
the('lost-now').addEventListener('click', () => feed.now());
document.addEventListener('visibilitychange', redraw);
feed.now();
