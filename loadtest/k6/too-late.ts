// Too late: everything is sold and paid before the crowd comes, and each of it hears no.
//
//     k6 run loadtest/k6/too-late.ts

import { concert, oneTicket } from './lib/sale.ts';
import { script } from './lib/script.ts';

const { options, setup, buyer, teardown, handleSummary } = script({
  name: 'too-late',
  defaults: { stock: 100, rate: 1000, duration: 30, hold: 300, patience: 30 },
  arrivals: 'constant',
  habits: { fast: 100, slow: 0, cancel: 0, repeat: 0, comeBack: 0 },
  sale: concert,
  ask: oneTicket,
  soldOut: true,
});

export { options, setup, teardown, handleSummary };
export default buyer;
