/**
 * The live feed: one snapshot per second, for as long as somebody looks.
 *
 * It is read by fetch, since an EventSource cannot send a token. The node ends a stream now and then, which is followed by another. One that is
 * silent or breaks off, or whose news cannot be shown, is lost and opened again, later each time. A feed that nobody has looked at for a while rests.
 */

import {Problem, refused} from './api.js';
import * as session from './session.js';

/** A snapshot comes every second. */
const SILENCE = 4000;
/** A stream is followed by another at once, but no stream is worth more openings than there are snapshots. */
const STEP = 1000;
const PAUSES = [500, 1000, 2000, 4000, 8000];
/** As long as the charts reach back: who looks again within it misses nothing. */
const REST_AFTER = 300_000;
/** No snapshot is so long. */
const LONGEST = 8 * 1024 * 1024;

/**
 * @typedef {import('./types.js').Snapshot} Snapshot
 * @typedef {{is: 'opening'} | {is: 'live'} | {is: 'resting'} | {is: 'lost', why: string, again: number | null}} State `again`: when it is tried
 *   next; null: when somebody has signed in.
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

  /**
   * Ends it: what it told is not shown, or not as a whole.
   *
   * @param {unknown} error
   */
  unshown(error) {
    this.#open?.abort(unshown(error));
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

  /** @param {boolean} [follows] One that has ended in good order. */
  async #read(follows = false) {
    const open = new AbortController();
    this.#open = open;
    if (this.#tries === 0 && !follows) this.told.state({is: 'opening'});
    const begun = performance.now();
    try {
      const told = await this.#listen(open);
      if (this.#open !== open) return;
      if (!told) throw new Problem('The node has closed the feed.');
      this.#open = null;
      this.#tries = 0;
      this.#next = setTimeout(() => void this.#read(true), Math.max(0, begun + STEP - performance.now()));
    } catch (error) {
      // Another one has been opened, or it rests.
      if (this.#open === open) this.#lost(error);
    }
  }

  /**
   * @param {AbortController} open
   * @returns {Promise<boolean>} Whether it has told anything before it ended.
   */
  async #listen(open) {
    let told = false;
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
        if (done || this.#open !== open) return told;
        text += value;
        const events = text.split('\n\n');
        text = events.pop() ?? '';
        if (text.length > LONGEST) throw new Problem('The feed is no feed.');
        // Whatever waits, the last one is how it is now.
        const snapshot = events.map(parsed).findLast((parsed) => parsed !== null);
        if (!snapshot) continue;
        clearTimeout(timer);
        timer = setTimeout(() => open.abort(silent()), SILENCE);
        // A page that breaks over every snapshot does not ask for the next one at once.
        if (told) this.#tries = 0;
        this.#tell(snapshot);
        told = true;
      }
    } catch (error) {
      throw open.signal.aborted && open.signal.reason instanceof Problem ? open.signal.reason : error;
    } finally {
      clearTimeout(timer);
      open.abort();
    }
  }

  /** @param {Snapshot} snapshot */
  #tell(snapshot) {
    try {
      this.told.snapshot(snapshot);
    } catch (error) {
      throw unshown(error);
    }
    this.told.state({is: 'live'});
  }

  /** @param {unknown} error */
  #lost(error) {
    this.#open = null;
    const why = error instanceof Problem ? error.message : error instanceof SyntaxError ? 'What came cannot be read.' : `Nobody answers at ${location.host}.`;
    // Without its token it would be refused again.
    if (error instanceof Problem && error.status === 401) return this.told.state({is: 'lost', why, again: null});
    const pause = PAUSES[Math.min(this.#tries, PAUSES.length - 1)] ?? 0;
    this.#tries += 1;
    // Not all pages at once, where a node comes back.
    const again = Date.now() + pause * (0.75 + Math.random() / 2);
    this.told.state({is: 'lost', why, again});
    this.#next = setTimeout(() => void this.#read(), again - Date.now());
  }
}

function silent() {
  return new Problem(`Nothing has come for ${SILENCE / 1000} seconds.`);
}

/** @param {unknown} error A fault of the page, for those who mend it. */
function unshown(error) {
  reportError(error);
  return new Problem(`What came cannot be shown (${error instanceof Error ? error.message : String(error)}). Reload the page.`);
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
