// The report as one page that needs nothing else: no script, no font, no picture from anywhere.

import type { Report } from '../summary.ts';
import { equation, escaped, outcomes, overTime, percentiles } from './charts.ts';
import * as figures from './figures.ts';

const { thousands } = figures;

const STYLE = `
:root { color-scheme: light dark; --ink: #1b1f24; --quiet: #57606a; --paper: #fff; --line: #d0d7de;
  --yes: #1a7f37; --no: #9a6700; --later: #8250df; --bad: #cf222e; --free: #6e7781; --mark: #0969da; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --quiet: #9198a1; --paper: #0d1117; --line: #3d444d;
  --yes: #3fb950; --no: #d29922; --later: #ab7df8; --bad: #f85149; --free: #8b949e; --mark: #4493f8; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin: 0; font-size: 1.6rem; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
.verdict { border-left: .5rem solid var(--yes); padding: .2rem 1rem; } .failed { border-color: var(--bad); }
.verdict strong { color: var(--yes); } .failed strong, .failed li { color: var(--bad); } ul { margin: .4rem 0; padding-left: 1.2rem; }
svg { width: 100%; height: auto; } text { fill: var(--ink); font-size: 12px; } text.quiet { fill: var(--quiet); } text.inside { fill: var(--paper); font-weight: 600; }
.yes, .sold { fill: var(--yes); } .no, .held { fill: var(--no); } .later { fill: var(--later); } .free { fill: var(--free); }
.grid { stroke: var(--line); } .line { fill: none; stroke: var(--mark); stroke-width: 2; }
.key span { margin-right: 1.2rem; white-space: nowrap; } .key i { display: inline-block; width: .8em; height: .8em; margin-right: .4em; vertical-align: -.05em; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: right; padding: .25rem .5rem; border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; }
td:first-child, th:first-child { text-align: left; } .wide { overflow-x: auto; } p.quiet, footer { color: var(--quiet); }
`;

export function page(report: Report): string {
  const { metrics, settings, verdict } = report;
  const title = `rushgate ${report.script}: ${verdict.passed ? 'passed' : 'failed'}`;
  const dropped = figures.dropped(metrics);
  const crowd = `${thousands(figures.claims(metrics))} buyers in ${report.seconds.toFixed(1)} s, up to ${settings.rate} a second, at `
    + `${settings.gateways.length} gateway(s), for ${thousands(settings.stock)} units`
    + (dropped > 0 ? `; ${thousands(dropped)} more did not come, for k6 had no buyer free for them` : '');
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(title)}</title><style>${STYLE}</style></head><body>
<header class="verdict${verdict.passed ? '' : ' failed'}"><h1>${escaped(report.script)}: <strong>${verdict.passed ? 'passed' : 'failed'}</strong></h1>
${said(report)}</header>
<p>${escaped(crowd)}.</p>
${section('Over time', key([['yes', 'yes'], ['no', 'no'], ['later', 'ask again'], ['mark', '95th percentile, ms']])
    + overTime(figures.timeline(report), settings.duration))}
${section('What buyers heard', outcomes(figures.answered(metrics), figures.MEANINGS))}
${section('What became of the orders', figures.ended(metrics).length > 0 ? outcomes(figures.ended(metrics), figures.MEANINGS) : '')}
${section('How long a claim took', percentiles(figures.latencies(metrics)))}
${section('capacity = free + held + sold', balance(report))}
<footer>${escaped(`${report.started?.sale ?? 'no sale'}, from ${report.started?.beganAt ?? 'never'}; ${settings.gateways.join(', ')}`)}</footer>
</body></html>
`;
}

function said({ verdict, audit }: Report): string {
  const notes = audit?.sales.flatMap((sale) => sale.notes) ?? [];
  const failures = [...verdict.broken, ...verdict.missed];
  const told = failures.length > 0
    ? `<ul>${failures.map((failure) => `<li>${escaped(failure)}</li>`).join('')}</ul>`
    : '<p>Sold exactly; every yes has its row; nothing is pending, stranded or unexplained.</p>';
  return told + notes.map((note) => `<p class="quiet">${escaped(note)}</p>`).join('');
}

function section(title: string, content: string): string {
  return content === '' ? '' : `<section><h2>${escaped(title)}</h2>${content}</section>`;
}

function key(entries: readonly (readonly [string, string])[]): string {
  return `<p class="key">${entries.map(([colour, name]) => `<span><i style="background: var(--${colour})"></i>${escaped(name)}</span>`).join('')}</p>`;
}

function balance({ balance }: Report): string {
  if (!balance) return '<p class="quiet">It could not be read.</p>';
  const number = (value: number | null | undefined) => (value === null || value === undefined ? '–' : thousands(value));
  const rows = balance.legs.map((leg) => {
    const cells = [leg.capacity, leg.free, leg.held, leg.sold, leg.store?.live, leg.store?.paid].map((value) => `<td>${number(value)}</td>`);
    return `<tr><td>${escaped(leg.from ? `${leg.pool} ${leg.from}–${leg.to}` : leg.pool)}</td>${cells.join('')}</tr>`;
  });
  const drift = balance.drift.units > 0 ? `<p>Inventory and store differ by ${balance.drift.units} units: ${escaped(balance.drift.orders.join(' '))}</p>` : '';
  return `${key([['yes', 'sold'], ['no', 'held'], ['free', 'free']])}${equation(balance.legs)}
<div class="wide"><table><tr><th>pool</th><th>capacity</th><th>free</th><th>held</th><th>sold</th><th>live in the store</th><th>paid in the store</th></tr>${rows.join('')}</table></div>${drift}`;
}
