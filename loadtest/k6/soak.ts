// A soak: for a long time, orders are made, cancelled, left to expire and sold again, until the last is paid.
//
//     k6 run -e DURATION=8h loadtest/k6/soak.ts

import { concert, oneTicket } from './lib/sale.ts';
import { script } from './lib/script.ts';

const { options, setup, buyer, teardown, handleSummary } = script({
  name: 'soak',
  defaults: { stock: 10_000, rate: 50, duration: 1800, hold: 30, patience: 60 },
  arrivals: 'constant',
  habits: { fast: 5, slow: 5, cancel: 40, repeat: 5, comeBack: 20 },
  sale: concert,
  ask: oneTicket,
});

export { options, setup, teardown, handleSummary };
export default buyer;
