// The report for a terminal.

import type { Report } from '../summary.ts';
import * as figures from './figures.ts';

const { thousands } = figures;

export function text(report: Report): string {
  const { metrics, settings } = report;
  const lines = [
    '',
    `rushgate ${report.script}: ${report.verdict.passed ? 'PASSED' : 'FAILED'}`,
    ...report.verdict.broken.map((said) => `  ✗ ${said}`),
    ...report.verdict.missed.map((said) => `  ✗ ${said}`),
    ...(report.verdict.passed ? ['  ✓ sold exactly, every yes has its row, nothing is pending, stranded or unexplained'] : []),
    '',
    `sale     ${report.started?.sale ?? 'was not made'} · ${thousands(settings.stock)} units · hold ${settings.hold} s`,
    `crowd    ${thousands(figures.claims(metrics))} buyers in ${report.seconds.toFixed(1)} s, up to ${settings.rate} a second, at ${settings.gateways.length} gateway(s)`,
  ];
  const dropped = figures.dropped(metrics);
  if (dropped > 0) lines.push(`         ${thousands(dropped)} more did not come: k6 had no buyer free for them (VUS, or a slower RATE)`);
  lines.push('', ...answers(report), '', ...latencies(report), '', ...balance(report));
  for (const note of report.audit?.sales.flatMap((sale) => sale.notes) ?? []) lines.push(`note     ${note}`);
  return `${lines.join('\n')}\n`;
}

function answers({ metrics }: Report): string[] {
  const row = ({ name, count }: figures.Share) => `  ${name.padEnd(15)} ${thousands(count).padStart(10)}  ${figures.MEANINGS[name] ?? ''}`;
  const ended = figures.ended(metrics);
  return ['answers', ...figures.answered(metrics).map(row), ...(ended.length > 0 ? ['orders', ...ended.map(row)] : [])];
}

function latencies({ metrics }: Report): string[] {
  const rows = figures.latencies(metrics);
  const names = rows[0]?.values.map((value) => value.name.padStart(9)).join('') ?? '';
  const row = ({ name, values }: figures.Latency) => `  ${name.padEnd(15)}${values.map(({ value }) => figures.milliseconds(value).padStart(9)).join('')}`;
  return [`${'claims, ms'.padEnd(17)}${names}`, ...rows.map(row)];
}

function balance({ balance }: Report): string[] {
  if (!balance) return ['balance  could not be read'];
  const legs = balance.legs.map((leg) => {
    const journey = leg.from ? ` ${leg.from}–${leg.to}` : '';
    const store = leg.store ? ` · store ${thousands(leg.store.live)} live` : '';
    return `  ${`${leg.pool}${journey}`.padEnd(15)} ${leg.capacity} = ${leg.free} free + ${leg.held} held + ${leg.sold} sold${leg.balanced ? '' : '  ✗'}${store}`;
  });
  const { units, orders } = balance.drift;
  return ['balance', ...legs, ...(units > 0 ? [`  drift          ${units} units${orders.length > 0 ? `: ${orders.join(' ')}` : ''}`] : [])];
}
