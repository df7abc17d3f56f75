// A train run: four legs, two classes, families. A seat that one leaves at a stop is another's from there.
//
//     k6 run loadtest/k6/train.ts

import { journey, trainRun } from './lib/sale.ts';
import { script } from './lib/script.ts';

const { options, setup, buyer, teardown, handleSummary } = script({
  name: 'train',
  defaults: { stock: 1000, rate: 200, duration: 30, hold: 10, patience: 30 },
  arrivals: 'ramping',
  habits: { fast: 70, slow: 10, cancel: 10, repeat: 0, comeBack: 5 },
  sale: trainRun,
  ask: journey,
});

export { options, setup, teardown, handleSummary };
export default buyer;
