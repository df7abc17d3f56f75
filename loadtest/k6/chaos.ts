// Chaos: while buyers come, somebody kills, freezes or cuts off what they like, and lets it come back. Answers may be slow or
// missing meanwhile; what was promised must be true in the end, when all has come back.
//
//     k6 run loadtest/k6/chaos.ts

import { concert, oneTicket } from './lib/sale.ts';
import { script } from './lib/script.ts';

const { options, setup, buyer, teardown, handleSummary } = script({
  name: 'chaos',
  defaults: { stock: 3000, rate: 50, duration: 120, hold: 20, patience: 120 },
  arrivals: 'constant',
  habits: { fast: 50, slow: 15, cancel: 15, repeat: 10, comeBack: 20 },
  sale: concert,
  ask: oneTicket,
  mayFail: true,
  hint: 'the crowd comes: break something now, and let it come back before the end',
});

export { options, setup, teardown, handleSummary };
export default buyer;
