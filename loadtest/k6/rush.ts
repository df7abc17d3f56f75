// A rush: more and more buyers, each once, for less than they want. They pay at once.
//
//     k6 run loadtest/k6/rush.ts

import { oneTicket, concert } from './lib/sale.ts';
import { script } from './lib/script.ts';

const { options, setup, buyer, teardown, handleSummary } = script({
  name: 'rush',
  defaults: { stock: 2000, rate: 300, duration: 30, hold: 300, patience: 30 },
  arrivals: 'ramping',
  habits: { fast: 100, slow: 0, cancel: 0, repeat: 0, comeBack: 0 },
  sale: concert,
  ask: oneTicket,
});

export { options, setup, teardown, handleSummary };
export default buyer;
