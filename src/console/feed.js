/**
 * The live feed: one snapshot per second, for as long as somebody looks.
 *
 * It is read by fetch, since an EventSource cannot send a token. A feed that is silent or breaks off is opened again, later each time; one that
 * nobody has looked at for a while rests.
 */

import {Problem, refused} from './api.js';
import * as session from './session.js';

/** A snapshot comes every second. */
const SILENCE = 4000;
const PAUSES = [500, 1000, 2000, 4000, 8000];
/** As long as the charts reach back: who looks again within it misses nothing. */
const REST_AFTER = 300_000;
/** No snapshot is so long. */
const LONGEST = 8 * 1024 * 1024;

/**
 * @typedef {import('./types.js').Snapshot} Snapshot
 * @typedef {{is: 'opening'} | {is: 'live'} | {is: 'resting'} | {is: 'lost', why: string, again: number}} State `again`: when it is tried next.
 */

export class Feed {
  /** @type {AbortController | null} */
  #open = null;
  #tries = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #next;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #rest;

  /** @param {{snapshot: (snapshot: Snapshot) => void, state: (state: State) => void}} told */
  constructor(told) {
    this.told = told;
    document.addEventListener('visibilitychange', () => this.#looked());
    session.onSignIn(() => this.now());
  }

  /** Opens it at once, whatever it does. */
  now() {
    clearTimeout(this.#next);
    this.#open?.abort();
    void this.#read();
  }

  #looked() {
    clearTimeout(this.#rest);
    if (!document.hidden) {
      if (this.#open === null) this.now();
      return;
    }
    this.#rest = setTimeout(() => {
      clearTimeout(this.#next);
      this.#open?.abort();
      this.#open = null;
      this.told.state({is: 'resting'});
    }, REST_AFTER);
  }

  async #read() {
    const open = new AbortController();
    this.#open = open;
    if (this.#tries === 0) this.told.state({is: 'opening'});
    try {
      await this.#listen(open);
      throw new Problem('The node has closed the feed.');
    } catch (error) {
      // Another one has been opened, or it rests.
      if (this.#open === open) this.#lost(error);
    }
  }

  /** @param {AbortController} open */
  async #listen(open) {
    let timer = setTimeout(() => open.abort(silent()), SILENCE);
    try {
      const response = await fetch('/admin/v1/live', {
        headers: {...session.headers(), Accept: 'text/event-stream'},
        signal: open.signal,
        cache: 'no-store',
      });
      if (!response.ok) throw refused(response.status, await response.json().catch(() => null));
      if (!response.body) throw new Problem('The feed is empty.');
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = '';
      for (;;) {
        const {value, done} = await reader.read();
        if (done) return;
        text += value;
        const events = text.split('\n\n');
        text = events.pop() ?? '';
        if (text.length > LONGEST) throw new Problem('The feed is no feed.');
        // Whatever waits, the last one is how it is now.
        const snapshot = events.map(parsed).findLast((parsed) => parsed !== null);
        if (!snapshot) continue;
        clearTimeout(timer);
        timer = setTimeout(() => open.abort(silent()), SILENCE);
        this.#tries = 0;
        if (this.#open === open) {
          this.told.state({is: 'live'});
          this.told.snapshot(snapshot);
        }
      }
    } catch (error) {
      throw open.signal.aborted && open.signal.reason instanceof Problem ? open.signal.reason : error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** @param {unknown} error */
  #lost(error) {
    this.#open = null;
    const pause = PAUSES[Math.min(this.#tries, PAUSES.length - 1)] ?? 0;
    this.#tries += 1;
    // Not all pages at once, where a node comes back.
    const again = Date.now() + pause * (0.75 + Math.random() / 2);
    const unreadable = error instanceof SyntaxError ? 'What came cannot be read.' : `Nobody answers at ${location.host}.`;
    const why = error instanceof Problem ? error.message : unreadable;
    this.told.state({is: 'lost', why, again});
    // Without its token it would be refused again.
    if (error instanceof Problem && error.status === 401) return;
    if (document.hidden) return;
    this.#next = setTimeout(() => void this.#read(), again - Date.now());
  }
}

function silent() {
  return new Problem(`Nothing has come for ${SILENCE / 1000} seconds.`);
}

/**
 * The snapshot that an event carries.
 *
 * @param {string} event
 * @returns {Snapshot | null}
 */
function parsed(event) {
  const lines = event.split('\n');
  const name = lines.find((line) => line.startsWith('event:'))?.slice(6).trim() ?? 'message';
  const data = lines.filter((line) => line.startsWith('data:')).map((line) => line.slice(5).trimStart());
  return name === 'snapshot' && data.length > 0 ? JSON.parse(data.join('\n')) : null;
}
