/** Numbers, times and states in words. What is not known is a dash, and never a nought. */

export const UNKNOWN = '–';

const WHOLE = new Intl.NumberFormat('en', {maximumFractionDigits: 0});
const TENTHS = new Intl.NumberFormat('en', {maximumFractionDigits: 1, minimumFractionDigits: 1});
const CLOCK = new Intl.DateTimeFormat('en-GB', {hour: '2-digit', minute: '2-digit', second: '2-digit'});
const DAY = new Intl.DateTimeFormat('en-GB', {day: 'numeric', month: 'short', year: 'numeric', hour: '2-digit', minute: '2-digit'});

/** @param {number | null | undefined} number */
export function count(number) {
  return number === null || number === undefined ? UNKNOWN : WHOLE.format(number);
}

/**
 * @param {number} number
 * @param {string} one
 * @param {string} [many]
 */
export function counted(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/** @param {number | null | undefined} perSecond */
export function rate(perSecond) {
  if (perSecond === null || perSecond === undefined) return UNKNOWN;
  return perSecond > 0 && perSecond < 10 ? TENTHS.format(perSecond) : WHOLE.format(perSecond);
}

/** @param {number | null | undefined} seconds */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return UNKNOWN;
  if (seconds >= 100) return `${WHOLE.format(seconds)} s`;
  if (seconds >= 1) return `${TENTHS.format(seconds)} s`;
  const milliseconds = seconds * 1000;
  if (milliseconds >= 10) return `${WHOLE.format(milliseconds)} ms`;
  if (milliseconds >= 0.1) return `${TENTHS.format(milliseconds)} ms`;
  return `${WHOLE.format(seconds * 1e6)} µs`;
}

/** @param {string | number | Date} at */
export function clock(at) {
  return CLOCK.format(new Date(at));
}

/**
 * The time of today, and the day too of any other.
 *
 * @param {string | null | undefined} at
 */
export function moment(at) {
  if (!at) return UNKNOWN;
  const then = new Date(at);
  return then.toDateString() === new Date().toDateString() ? clock(then) : DAY.format(then);
}

/**
 * A sale by its name and its id: two may have the same name.
 *
 * @param {{sale: string, name: string}} sale
 */
export function called({sale, name}) {
  return name === '' || name === sale ? sale : `${name} (${sale})`;
}

/** @type {{[phase: string]: string}} */
const PHASES = {not_open: 'not open', open: 'open', paused: 'paused', closed: 'closed'};

/** @param {string} phase */
export function phase(phase) {
  return PHASES[phase] ?? phase;
}

/** @param {string[]} parts */
export function joined(parts) {
  return parts.length < 2 ? parts.join('') : `${parts.slice(0, -1).join(', ')} and ${parts[parts.length - 1]}`;
}

/** @param {string} code */
export function spoken(code) {
  return code.replaceAll('_', ' ');
}

/**
 * Any value of a document, in a line.
 *
 * @param {unknown} value
 * @returns {string}
 */
export function value(value) {
  if (value === null || value === undefined) return UNKNOWN;
  if (typeof value === 'number') return Number.isInteger(value) ? count(value) : String(value);
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  if (typeof value === 'string') return /^\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)$/.test(value) ? moment(value) : value;
  return JSON.stringify(value);
}
