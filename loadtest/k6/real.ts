// The shape of a real sale: one of a hundred gets a ticket. Some click twice, some pay late or never, and of those who hear that
// the last units are unpaid, some come back for them.
//
//     k6 run loadtest/k6/real.ts

import { concert, oneTicket } from './lib/sale.ts';
import { script } from './lib/script.ts';

const { options, setup, buyer, teardown, handleSummary } = script({
  name: 'real',
  defaults: { stock: 150, rate: 300, duration: 60, hold: 10, patience: 30 },
  arrivals: 'ramping',
  habits: { fast: 60, slow: 20, cancel: 5, repeat: 10, comeBack: 5 },
  sale: concert,
  ask: oneTicket,
});

export { options, setup, teardown, handleSummary };
export default buyer;
