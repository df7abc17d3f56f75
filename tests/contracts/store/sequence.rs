//! A long random sequence of everything, beside a model that is too simple to be wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use rushgate::domain::{OrderStatus, Partition, Sale, UnixMillis};
use rushgate::store::{CancelOutcome, LateClaim, PaymentOutcome, RecordFault, Recordable};

use super::rig::{GRACE, Rig, change, expire, id, line, payment, scope, train};

/// One step of the clock. So long that what a real clock adds during the test does not matter.
const STEP: Duration = Duration::from_secs(1000);
const STEPS: u32 = 250;

struct Model {
    now: UnixMillis,
    sale: Sale,
    orders: BTreeMap<u32, (Recordable, OrderStatus)>,
    /// Payments that wait for their order: their events, and when they came.
    waiting: BTreeMap<u32, (String, UnixMillis)>,
    refunds_due: u64,
    /// Late payments: their events and orders, the oldest first.
    late: Vec<(String, u32)>,
    moves: usize,
    chance: fastrand::Rng,
}

pub(super) async fn a_random_sequence_leaves_what_a_model_of_it_says(rig: &Rig) {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    rig.store.migrate().await.unwrap();
    let sale = train("c", 30, 40);
    rig.put(&sale).await;
    rig.store.fence(Partition(0), None).await.unwrap();
    let mut model = Model {
        now: rig.start,
        sale,
        orders: BTreeMap::new(),
        waiting: BTreeMap::new(),
        refunds_due: 0,
        late: Vec::new(),
        moves: 0,
        chance: fastrand::Rng::with_seed(seed),
    };
    for step in 0..STEPS {
        match model.chance.u32(0..14) {
            0..4 => model.record(rig).await,
            4..7 => model.pay(rig, step).await,
            7 => model.cancel(rig).await,
            8 => model.refund(rig).await,
            9 => model.resize(rig).await,
            10 => {
                rig.advance(STEP);
                model.now = model.now.plus(STEP);
            }
            11 => model.expire(rig).await,
            _ => model.settle(rig).await,
        }
        model.check(rig, seed, step).await;
    }
}

impl Model {
    fn order(&mut self, rig: &Rig, n: u32) -> Recordable {
        if let Some((known, _)) = self.orders.get(&n) {
            return known.clone();
        }
        let pool = if n.is_multiple_of(2) { "first" } else { "second" };
        let from = self.chance.u8(0..4);
        let to = self.chance.u8(from + 1..=4);
        let mut one = rig.order_of("c", n, vec![line(pool, from, to, self.chance.u32(1..4))]);
        one.order.price.amount = 100;
        one.order.pay_by = self.now.plus(STEP / 2 + STEP * self.chance.u32(0..2));
        one
    }

    fn live(&self) -> BTreeMap<(String, u8), u32> {
        let mut live = BTreeMap::new();
        for (one, _) in self.orders.values().filter(|(_, status)| status.is_live()) {
            for line in &one.order.lines {
                for leg in line.legs.iter() {
                    *live.entry((line.pool.to_string(), leg)).or_default() += line.quantity;
                }
            }
        }
        live
    }

    async fn record(&mut self, rig: &Rig) {
        let numbers: Vec<u32> = (0..self.chance.usize(1..8)).map(|_| self.chance.u32(0..60)).collect();
        let batch: Vec<_> = numbers.iter().map(|n| self.order(rig, *n)).collect();
        let mut after = Self { orders: self.orders.clone(), waiting: BTreeMap::new(), ..self.copy() };
        let mut fresh = Vec::new();
        for (n, one) in numbers.iter().zip(&batch) {
            if !after.orders.contains_key(n) {
                after.orders.insert(*n, (one.clone(), OrderStatus::Held));
                fresh.push(*n);
            }
        }
        // Of an order that stands twice in the batch, the store takes the first.
        let fits = after.live().iter().all(|((pool, _), live)| *live <= self.sale.pool(pool).unwrap().1.capacity);
        let recorded = rig.store.recorder().await.unwrap().record(&batch).await;
        if !fits {
            assert!(matches!(recorded, Err(RecordFault::Guard { .. })), "{recorded:?}");
            return;
        }
        assert_eq!(recorded.unwrap().fresh as usize, fresh.len());
        self.orders = after.orders;
        for n in fresh {
            let Some((event, came)) = self.waiting.remove(&n) else { continue };
            let (one, status) = self.orders.get_mut(&n).unwrap();
            if came < one.order.pay_by.plus(GRACE) {
                *status = OrderStatus::Paid;
                self.moves += 1;
            } else {
                self.late.push((event, n));
            }
        }
    }

    async fn pay(&mut self, rig: &Rig, step: u32) {
        let n = self.chance.u32(0..60);
        let event = format!("e{step}");
        let outcome = rig.store.pay(&payment(&event, n), GRACE).await.unwrap().outcome;
        match self.orders.get_mut(&n) {
            None => {
                assert_eq!(outcome, PaymentOutcome::Unmatched);
                // A second one that waits will be given back when the first pays, and so on.
                if self.waiting.insert(n, (event, self.now)).is_some() {
                    self.waiting.remove(&n);
                    self.settle_two(rig, n).await;
                }
            }
            Some((one, status)) if *status == OrderStatus::Held && self.now < one.order.pay_by.plus(GRACE) => {
                assert!(matches!(outcome, PaymentOutcome::Paid(_)), "{outcome:?}");
                *status = OrderStatus::Paid;
                self.moves += 1;
            }
            Some((_, OrderStatus::Held | OrderStatus::Expired)) => {
                assert!(matches!(outcome, PaymentOutcome::Late(_)), "{outcome:?}");
                self.late.push((event, n));
            }
            Some(_) => {
                assert!(matches!(outcome, PaymentOutcome::RefundDue(_)), "{outcome:?}");
                self.refunds_due += 1;
            }
        }
    }

    /// Tells of one late payment that its units were taken, in this epoch or in another, or that they were not.
    async fn settle(&mut self, rig: &Rig) {
        if self.late.is_empty() {
            return;
        }
        let (event, n) = self.late.remove(self.chance.usize(0..self.late.len()));
        let claim = match self.chance.u32(0..5) {
            0 => LateClaim::Refused,
            1 => LateClaim::Taken(scope(0, 2)),
            _ => LateClaim::Taken(scope(0, 1)),
        };
        let settled = rig.store.settle_late(&event, claim).await.unwrap();
        let (one, status) = self.orders[&n].clone();
        let line = &one.order.lines[0];
        let capacity = self.sale.pool(line.pool.as_str()).unwrap().1.capacity;
        let in_use = self.live();
        let fits = |leg| in_use.get(&(line.pool.to_string(), leg)).copied().unwrap_or(0) + line.quantity <= capacity;
        let becomes = match (status, claim) {
            (OrderStatus::Held | OrderStatus::Expired, LateClaim::Taken(wrong)) if wrong.epoch.0 == 2 => {
                assert!(matches!(settled.outcome, PaymentOutcome::Late(_)) && !settled.is_new, "{settled:?}");
                self.late.push((event, n));
                return;
            }
            (OrderStatus::Held, LateClaim::Taken(_)) => OrderStatus::Paid,
            (OrderStatus::Expired, LateClaim::Taken(_)) if line.legs.iter().all(fits) => OrderStatus::Paid,
            (OrderStatus::Expired, LateClaim::Taken(_)) => OrderStatus::Refunded,
            (status, _) => status,
        };
        let is_paid = becomes == OrderStatus::Paid && status != OrderStatus::Paid;
        assert_eq!(matches!(settled.outcome, PaymentOutcome::Paid(_)), is_paid, "{status}, {claim:?}: {settled:?}");
        assert_eq!(matches!(settled.outcome, PaymentOutcome::RefundDue(_)), !is_paid, "{settled:?}");
        self.refunds_due += u64::from(!is_paid);
        self.moves += match (status, becomes) {
            (before, after) if before == after => 0,
            (_, OrderStatus::Refunded) => 2,
            _ => 1,
        };
        self.orders.insert(n, (one, becomes));
    }

    /// Two payments wait for one order: records it alone if it fits, so that the model needs to remember one only.
    async fn settle_two(&mut self, rig: &Rig, n: u32) {
        let mut one = self.order(rig, n);
        one.order.pay_by = self.now.plus(STEP);
        one.order.lines = vec![line("first", 0, 1, 1)];
        let room = self.live().get(&("first".to_owned(), 0)).copied().unwrap_or(0);
        if room < self.sale.pools[0].capacity {
            rig.record(std::slice::from_ref(&one)).await;
            self.orders.insert(n, (one, OrderStatus::Paid));
            self.moves += 1;
            self.refunds_due += 1;
        } else {
            // Full: makes room for it first.
            let victims = self.orders.iter().filter(|(_, (one, status))| {
                status.is_live() && one.order.lines[0].pool.as_str() == "first" && one.order.lines[0].legs.from == 0
            });
            let victim = *victims.map(|(n, _)| n).next().unwrap();
            match self.orders[&victim].1 {
                OrderStatus::Held => self.end(rig, victim, OrderStatus::Cancelled).await,
                _ => self.end(rig, victim, OrderStatus::Refunded).await,
            }
            Box::pin(self.settle_two(rig, n)).await;
        }
    }

    async fn cancel(&mut self, rig: &Rig) {
        let n = self.chance.u32(0..60);
        self.end(rig, n, OrderStatus::Cancelled).await;
    }

    async fn refund(&mut self, rig: &Rig) {
        let n = self.chance.u32(0..60);
        self.end(rig, n, OrderStatus::Refunded).await;
    }

    async fn end(&mut self, rig: &Rig, n: u32, end: OrderStatus) {
        let (from, outcome) = match end {
            OrderStatus::Cancelled => (OrderStatus::Held, rig.store.cancel(id(n), None).await.unwrap()),
            _ => (OrderStatus::Paid, rig.store.refund(id(n)).await.unwrap()),
        };
        match self.orders.get_mut(&n) {
            None => assert_eq!(outcome, CancelOutcome::NotFound),
            Some((_, status)) if *status == from => {
                assert!(matches!(outcome, CancelOutcome::Done(_)), "{outcome:?}");
                *status = end;
                self.moves += 1;
                self.refunds_due += u64::from(end == OrderStatus::Refunded);
            }
            Some(_) => assert!(matches!(outcome, CancelOutcome::NotPossible(_)), "{outcome:?}"),
        }
    }

    async fn resize(&mut self, rig: &Rig) {
        let live = self.live().values().copied().max().unwrap_or(0);
        let version = self.sale.version + 1;
        self.sale = Sale { version, ..train("c", live + self.chance.u32(1..10), live + self.chance.u32(1..10)) };
        rig.store.put_sale(&self.sale, &change("sale.put", "c")).await.unwrap();
        rig.store.mark_applied(&self.sale.id, version).await.unwrap();
    }

    async fn expire(&mut self, rig: &Rig) {
        let now = self.now;
        let due = self
            .orders
            .values_mut()
            .filter(|(one, status)| *status == OrderStatus::Held && one.order.pay_by.plus(GRACE) <= now);
        let mut expected = 0;
        for (_, status) in due {
            *status = OrderStatus::Expired;
            expected += 1;
        }
        assert_eq!(expire(&*rig.store, GRACE, 1000).await, expected);
        self.moves += expected as usize;
    }

    fn copy(&self) -> Self {
        Self {
            now: self.now,
            sale: self.sale.clone(),
            orders: BTreeMap::new(),
            waiting: BTreeMap::new(),
            refunds_due: 0,
            late: Vec::new(),
            moves: 0,
            chance: self.chance.clone(),
        }
    }

    async fn check(&self, rig: &Rig, seed: u64, step: u32) {
        let tally = rig.tally().await;
        let live = self.live();
        for leg in &tally.legs {
            let expected = live.get(&(leg.pool.to_string(), leg.leg)).copied().unwrap_or(0);
            assert_eq!(leg.live, expected, "seed {seed}, step {step}: {leg:?}");
            assert_eq!(leg.capacity, self.sale.pool(leg.pool.as_str()).unwrap().1.capacity, "seed {seed}, step {step}");
        }
        for (status, orders, _) in &tally.by_status {
            let expected = self.orders.values().filter(|(_, model)| model == status).count();
            assert_eq!(*orders, expected as u64, "seed {seed}, step {step}: {status}");
        }
        assert_eq!(tally.refunds_due, self.refunds_due, "seed {seed}, step {step}");
        assert_eq!(tally.late, self.late.len() as u64, "seed {seed}, step {step}");
        assert_eq!(tally.moves_waiting, self.moves as u64, "seed {seed}, step {step}");
    }
}
