/** Calls of the admin API. */

import * as session from './session.js';

/** Longer than the server takes to say that it takes too long. */
const TIMEOUT = 20_000;

/** The server's no, or why there is no answer. */
export class Problem extends Error {
  /**
   * @param {string} message
   * @param {{status?: number, code?: string}} [told]
   */
  constructor(message, {status = 0, code = ''} = {}) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/**
 * @param {string} path
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export function get(path, signal) {
  return call('GET', path, undefined, signal);
}

/**
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body]
 * @param {AbortSignal} [signal] Ends the call instead of a timeout.
 * @returns {Promise<any>}
 */
export async function call(method, path, body, signal) {
  const headers = session.headers();
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  /** @type {Response} */
  let response;
  /** @type {any} */
  let document;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? null : JSON.stringify(body),
      signal: signal ?? AbortSignal.timeout(TIMEOUT),
      cache: 'no-store',
    });
    document = await response.json();
  } catch (error) {
    throw unanswered(error, method);
  }
  if (response.ok) return document;
  throw refused(response.status, document);
}

/**
 * The problem that an answer tells.
 *
 * @param {number} status
 * @param {any} document
 */
export function refused(status, document) {
  if (status === 401) session.ask(session.headers().Authorization ? 'This node does not take that token.' : 'This node wants its admin token.');
  /** @type {{pointer?: string, detail?: string}[]} */
  const errors = Array.isArray(document?.errors) ? document.errors : [];
  const details = errors.map(({pointer, detail}) => (pointer ? `${pointer} ${detail}` : `${detail}`));
  const said = details.length > 0 ? details.join('; ') : String(document?.detail ?? `It answers ${status}.`);
  return new Problem(said, {status, code: String(document?.code ?? '')});
}

/**
 * @param {unknown} error
 * @param {string} method
 */
function unanswered(error, method) {
  const name = error instanceof Error ? error.name : '';
  const doubt = method === 'GET' ? '' : ' What was asked may have been done; look before you repeat it.';
  if (name === 'AbortError') return new Problem('Stopped.', {code: 'stopped'});
  if (name === 'TimeoutError') return new Problem(`${location.host} did not answer in time.${doubt}`);
  if (name === 'SyntaxError') return new Problem(`${location.host} does not answer as an admin API does.${doubt}`);
  return new Problem(`Nobody answers at ${location.host}.${doubt}`);
}
