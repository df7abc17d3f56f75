// Charts as SVG, drawn here so that a report needs nothing from elsewhere. Colours are the page's.

import { ANSWERS } from '../metrics.ts';
import type { Leg } from '../admin.ts';
import type { Latency, Share, Slice } from './figures.ts';
import { milliseconds, thousands } from './figures.ts';

const WIDTH = 760;

export function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
}

function svg(height: number, title: string, content: string): string {
  return `<svg viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${escaped(title)}">${content}</svg>`;
}

function label(x: number, y: number, said: string, anchor = 'start', kind = ''): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}" class="${kind}">${escaped(said)}</text>`;
}

function bar(x: number, y: number, width: number, height: number, kind: string, told: string): string {
  if (width <= 0 || height <= 0) return '';
  const box = `x="${x.toFixed(1)}" y="${y.toFixed(1)}" width="${width.toFixed(1)}" height="${height.toFixed(1)}"`;
  return `<rect ${box} class="${kind}"><title>${escaped(told)}</title></rect>`;
}

/** A round number that is not below this one, for the end of an axis. */
function roundUp(value: number): number {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= value) ?? value;
}

/** Answers per second as columns, the 95th percentile of their time as a line with its own axis. */
export function overTime(slices: readonly Slice[], seconds: number): string {
  const [left, right, top, bottom, height] = [60, 60, 16, 28, 260];
  const [wide, high] = [WIDTH - left - right, height - top - bottom];
  const each = seconds / slices.length;
  const rate = (slice: Slice) => ANSWERS.reduce((sum, kind) => sum + slice.answers[kind], 0) / each;
  const most = roundUp(Math.max(...slices.map(rate)));
  const slowest = roundUp(Math.max(...slices.map((slice) => slice.p95)));
  const step = wide / slices.length;
  const columns = slices.map((slice, number) => {
    let base = top + high;
    return ANSWERS.map((kind) => {
      const tall = slice.answers[kind] / each / most * high;
      base -= tall;
      const told = `${slice.at.toFixed(1)} s: ${thousands(slice.answers[kind] / each)} ${kind} a second`;
      return bar(left + number * step + 0.5, base, step - 1, tall, kind, told);
    }).join('');
  });
  const points = slices.flatMap((slice, number) => (slice.p95 > 0
    ? [`${(left + (number + 0.5) * step).toFixed(1)},${(top + high * (1 - slice.p95 / slowest)).toFixed(1)}`] : []));
  const axes = [0, 0.5, 1].map((part) => {
    const y = top + high * (1 - part);
    return `<line x1="${left}" x2="${WIDTH - right}" y1="${y}" y2="${y}" class="grid"/>`
      + label(left - 8, y + 4, thousands(most * part), 'end') + label(WIDTH - right + 8, y + 4, `${milliseconds(slowest * part)} ms`);
  });
  const times = [0, 0.25, 0.5, 0.75, 1].map((part) => label(left + wide * part, height - 8, `${Number((seconds * part).toFixed(1))} s`, 'middle'));
  return svg(height, 'Answers per second, and the 95th percentile of their time',
    `${axes.join('')}${columns.join('')}<polyline points="${points.join(' ')}" class="line"/>${times.join('')}`);
}

export function outcomes(shares: readonly Share[], meanings: Readonly<Record<string, string>>): string {
  const [left, row] = [130, 26];
  const most = Math.max(1, ...shares.map((share) => share.count));
  const wide = WIDTH - left - 330;
  const rows = shares.map(({ name, count }, number) => {
    const y = number * row + 4;
    const [kind] = /^(yes|no)(?=:)/.exec(meanings[name] ?? '') ?? ['later'];
    const long = Math.max(1, count / most * wide);
    return label(left - 10, y + 14, name, 'end', 'name') + bar(left, y, long, row - 8, kind, `${name}: ${thousands(count)}`)
      + label(left + long + 8, y + 14, thousands(count)) + label(WIDTH, y + 14, meanings[name] ?? '', 'end', 'quiet');
  });
  return svg(shares.length * row + 4, 'Answers by outcome', rows.join(''));
}

/** Percentiles by kind of answer, on a logarithmic axis: a crowd's slowest are far from its middle. */
export function percentiles(latencies: readonly Latency[]): string {
  const [left, right, row] = [130, 90, 16];
  const values = latencies.flatMap((latency) => latency.values.map(({ value }) => value)).filter((value) => value > 0);
  const least = Math.floor(Math.log10(Math.max(0.001, Math.min(...values))));
  const most = Math.max(least + 1, Math.ceil(Math.log10(Math.max(0.01, ...values))));
  const x = (value: number) => left + (Math.max(least, Math.log10(Math.max(value, 1e-9))) - least) / (most - least) * (WIDTH - left - right);
  let y = 4;
  const rows = latencies.map(({ name, values: told }) => {
    const bars = told.map((stat) => {
      const at = y;
      y += row;
      return label(left - 10, at + 11, `${name} ${stat.name}`, 'end', 'name')
        + bar(left, at, Math.max(1, x(stat.value) - left), row - 4, name, `${name}, ${stat.name}: ${milliseconds(stat.value)} ms`)
        + label(Math.max(left + 1, x(stat.value)) + 8, at + 11, `${milliseconds(stat.value)} ms`);
    });
    y += 10;
    return bars.join('');
  });
  const grid = Array.from({ length: most - least + 1 }, (_, number) => {
    const at = x(10 ** (least + number));
    return `<line x1="${at}" x2="${at}" y1="0" y2="${y}" class="grid"/>${label(at, y + 12, `${10 ** (least + number)} ms`, 'middle', 'quiet')}`;
  });
  return svg(y + 18, 'Time of claims by answer', grid.join('') + rows.join(''));
}

/** capacity = free + held + sold, a bar for each leg. */
export function equation(legs: readonly Leg[]): string {
  const [left, row, wide] = [170, 30, WIDTH - 170 - 10];
  const rows = legs.map((leg, number) => {
    const y = number * row + 4;
    const parts = [['sold', leg.sold], ['held', leg.held], ['free', leg.free]] as const;
    const whole = Math.max(leg.capacity, parts.reduce((sum, [, count]) => sum + (count ?? 0), 0), 1);
    let at = left;
    const bars = parts.map(([kind, count]) => {
      const long = (count ?? 0) / whole * wide;
      const drawn = bar(at, y, long, row - 8, kind, `${count} ${kind}`) + (long > 60 ? label(at + long / 2, y + 15, `${thousands(count ?? 0)} ${kind}`, 'middle', 'inside') : '');
      at += long;
      return drawn;
    });
    const name = leg.from ? `${leg.pool} ${leg.from}–${leg.to}` : leg.pool;
    return label(left - 10, y + 15, name, 'end', 'name') + bars.join('');
  });
  return svg(legs.length * row + 4, 'Capacity by leg: sold, held, free', rows.join(''));
}
