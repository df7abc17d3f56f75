// What a run is told by its environment, with a default for everything that suits `rushgate serve` on this machine.

/** What a script would have if the environment says nothing. Times in seconds, rates per second. */
export interface Defaults {
  readonly stock: number;
  readonly rate: number;
  readonly duration: number;
  readonly hold: number;
  readonly patience: number;
  /** Of a hundred who have an order, how many ask for the same again, and for another one. */
  readonly repeat: number;
  /** How many buyers are there at once, at most. */
  readonly vus: (rate: number, stock: number, hold: number) => number;
}

export interface Settings {
  /** Public listeners, or balancers before them: a buyer asks any of them. */
  readonly gateways: readonly string[];
  readonly admin: string;
  readonly adminToken: string;
  /** Empty: buyers are told by X-Buyer-Id. Else the HS256 key that their bearer tokens are signed with. */
  readonly jwtSecret: string;
  /** Empty: the sandbox provider. Else the key of the provider whom the script plays. */
  readonly callbackSecret: string;
  readonly stock: number;
  /** Buyers who come per second, at the peak. */
  readonly rate: number;
  /** Seconds in which they come. */
  readonly duration: number;
  /** Seconds that a hold waits for its payment. */
  readonly hold: number;
  /** Seconds that a buyer asks on for an answer, and that the end of the run waits until all is quiet. */
  readonly patience: number;
  readonly repeat: number;
  /** Buyers at once, at most. */
  readonly vus: number;
  /** Of a hundred buyers, how many may stay away because none was free when they were to come. */
  readonly away: number;
  /** Milliseconds within which 99 of 100 claims are granted, or refused. */
  readonly p99Yes: number;
  readonly p99No: number;
  /** The folder that the reports go to; it must be there. */
  readonly out: string;
}

/** Reads the environment; all that is wrong with it is said at once. */
export function settings(defaults: Defaults): Settings {
  const wrong: string[] = [];
  const read = <T>(name: string, fallback: T, parse: (text: string) => T | undefined, wanted: string): T => {
    const text = __ENV[name]?.trim() ?? '';
    if (text === '') return fallback;
    const value = parse(text);
    if (value === undefined) wrong.push(`${name}=${text}: must be ${wanted}`);
    return value ?? fallback;
  };
  const count = (name: string, fallback: number, least = 1) =>
    read(name, fallback, (text) => whole(text, least), `a whole number, at least ${least}`);
  const seconds = (name: string, fallback: number) =>
    read(name, fallback, duration, 'a duration such as 500ms, 30s, 5m or 1h, longer than nothing');
  const address = (text: string) => (/^https?:\/\/[^/\s]+\/?$/.test(text) ? text.replace(/\/$/, '') : undefined);
  const addresses = (text: string) => {
    const all = text.split(',').map((part) => address(part.trim()));
    return all.every((one) => one !== undefined) ? all : undefined;
  };
  const [rate, stock, hold] = [count('RATE', defaults.rate), count('STOCK', defaults.stock), seconds('HOLD', defaults.hold)];
  const given: Settings = {
    gateways: read('GATEWAYS', ['http://127.0.0.1:8080'], addresses, 'addresses such as http://10.0.0.1:8080,http://10.0.0.2:8080'),
    admin: read('RUSHGATE_ADMIN_URL', 'http://127.0.0.1:9090', address, 'an address such as http://127.0.0.1:9090'),
    adminToken: __ENV['RUSHGATE_ADMIN_TOKEN'] ?? '',
    jwtSecret: __ENV['JWT_SECRET'] ?? '',
    callbackSecret: __ENV['CALLBACK_SECRET'] ?? '',
    stock,
    rate,
    duration: seconds('DURATION', defaults.duration),
    hold,
    patience: seconds('PATIENCE', defaults.patience),
    repeat: read('REPEAT', defaults.repeat, (text) => whole(text, 0, 100), 'a whole number from 0 to 100'),
    vus: count('VUS', defaults.vus(rate, stock, hold)),
    away: read('AWAY', 0, (text) => whole(text, 0, 100), 'a whole number from 0 to 100'),
    p99Yes: count('P99_YES_MS', 1000),
    p99No: count('P99_NO_MS', 500),
    out: read('OUT', '.', (text) => text.replace(/\/+$/, '') || '/', 'a folder'),
  };
  if (given.hold < 1) wrong.push(`HOLD=${__ENV['HOLD']}: a sale's hold is at least 1s`);
  if (wrong.length > 0) throw new Error(`the environment says what cannot be:\n  ${wrong.join('\n  ')}`);
  return given;
}

function whole(text: string, least: number, most = Infinity): number | undefined {
  const value = /^\d{1,9}$/.test(text) ? Number(text) : NaN;
  return value >= least && value <= most ? value : undefined;
}

/** Seconds. */
export function duration(text: string): number | undefined {
  const units: Record<string, number> = { ms: 0.001, s: 1, m: 60, h: 3600 };
  const [, number, unit] = /^(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h)$/.exec(text) ?? [];
  const value = Number(number) * (units[unit ?? ''] ?? NaN);
  return value > 0 ? value : undefined;
}
