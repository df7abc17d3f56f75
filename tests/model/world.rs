//! All that the protocol's parties know at one instant, small enough to keep millions of them.

/// Buyers, each with one request, which is one order.
pub(crate) const BUYERS: usize = 2;
/// Processes that recover.
pub(crate) const RECOVERERS: usize = 2;
/// Epochs at the most: the first, and one for each recovery that the bounds allow.
pub(crate) const EPOCHS: usize = LAST_EPOCH as usize;
pub(crate) const LAST_EPOCH: Epoch = 4;

/// Epochs count from 1; 0 is none.
pub(crate) type Epoch = u8;
/// One bit per buyer, or per epoch.
pub(crate) type Set = u8;

/// What the inventory knows of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Known {
    Nothing,
    Held,
    Paid,
    /// Its units went back; it is remembered so that a late retry meets its end.
    Ended,
}

/// One epoch's keys in the inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shelf {
    /// Below zero if the inventory gave what it had not.
    pub(crate) free: i8,
    pub(crate) known: [Known; BUYERS],
    pub(crate) outbox: Set,
    /// The scripts are loaded and the scope is open: calls in this epoch are served.
    pub(crate) served: bool,
}

/// Where a buyer's request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Fresh,
    /// Granted in this epoch; the broker was not told.
    Reserved(Epoch),
    Published(Epoch),
    /// The buyer heard yes.
    Promised,
    /// The buyer heard no.
    Refused,
    /// The buyer heard nothing, or that it is not known.
    Pending,
    /// A retry that met the end of its order.
    Ended,
}

/// An order's row in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Row {
    None,
    Held,
    Paid,
    Expired,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Store {
    pub(crate) epoch: Epoch,
    pub(crate) open: bool,
    pub(crate) min_epoch: Epoch,
    pub(crate) rows: [Row; BUYERS],
    /// Epochs whose barrier is stored.
    pub(crate) barriers: Set,
    /// Orders that ended and whose units the inventory has not heard of.
    pub(crate) returns: Set,
    /// Orders of a closed epoch that wait to be admitted again.
    pub(crate) stale: Set,
    /// Those that were.
    pub(crate) readmitted: Set,
    /// Orders with a payment that came too late and waits for a verdict.
    pub(crate) late: Set,
}

/// How far a recoverer has come with its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Idle,
    Fenced,
    ExchangesDeleted,
    Redriven,
    BarrierSent,
    BarrierStored,
    MinEpochSet,
    /// It has read this from the store.
    Snapshot([Known; BUYERS]),
    Rebuilt,
    ExchangeMade,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Recoverer {
    pub(crate) stage: Stage,
    pub(crate) epoch: Epoch,
    /// The inventory restarted since this recoverer last looked who it is.
    pub(crate) restarted: bool,
    /// Orders that this try took from the old outbox.
    pub(crate) salvaged: Set,
}

pub(crate) const IDLE: Recoverer = Recoverer { stage: Stage::Idle, epoch: 0, restarted: false, salvaged: 0 };

/// What a lane carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    Order { buyer: usize, epoch: Epoch },
    Barrier { epoch: Epoch },
}

/// The messages of the one lane, the first in the lowest four bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lane {
    messages: u64,
    len: u8,
}

/// What may still go wrong or be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    /// The inventory restarts from older data.
    pub(crate) restarts: u8,
    /// The inventory is replaced by a copy with older data, while the old one still serves those who are connected to it.
    pub(crate) failovers: u8,
    /// A recoverer begins anew what another has begun.
    pub(crate) takeovers: u8,
    /// A publish is lost on its way.
    pub(crate) losses: u8,
    /// A publish overtakes the deletion of its exchange inside of the broker.
    pub(crate) overtakings: u8,
    /// The relay publishes once more, per buyer.
    pub(crate) relays: [u8; BUYERS],
    /// A buyer asks once more with the same key.
    pub(crate) retries: [u8; BUYERS],
    /// A payment comes after the order expired.
    pub(crate) late_payments: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct World {
    pub(crate) shelves: [Shelf; EPOCHS],
    /// What a restart, or the server that takes over, would have.
    pub(crate) disk: [Shelf; EPOCHS],
    /// The server was replaced, and no epoch was opened since.
    pub(crate) replaced: bool,
    pub(crate) asks: [Ask; BUYERS],
    /// The epoch that each buyer's gateway has joined.
    pub(crate) joined: [Epoch; BUYERS],
    /// By buyer: the epochs in which a publish of the order is under way.
    pub(crate) wire: [Set; BUYERS],
    /// By buyer: the epochs in which the broker has confirmed the order.
    pub(crate) confirmed: [Set; BUYERS],
    pub(crate) lane: Lane,
    /// Epochs that have an exchange.
    pub(crate) exchanges: Set,
    pub(crate) store: Store,
    pub(crate) recoverers: [Recoverer; RECOVERERS],
    /// By buyer: the epoch in which the inventory gave units for a late payment; 0: none.
    pub(crate) revived: [Epoch; BUYERS],
    pub(crate) budget: Budget,
}

pub(crate) const fn bit(number: usize) -> Set {
    1 << number
}

/// The bit of an epoch.
pub(crate) const fn mark(epoch: Epoch) -> Set {
    1 << epoch
}

impl Shelf {
    pub(crate) const ABSENT: Self = Self { free: 0, known: [Known::Nothing; BUYERS], outbox: 0, served: false };

    /// Grants the order, if there is a unit.
    pub(crate) fn grant(&mut self, buyer: usize) {
        self.known[buyer] = Known::Held;
        self.free -= 1;
        self.outbox |= bit(buyer);
    }
}

impl Ask {
    fn code(self) -> u64 {
        match self {
            Self::Fresh => 0,
            Self::Promised => 1,
            Self::Refused => 2,
            Self::Pending => 3,
            Self::Ended => 4,
            Self::Reserved(epoch) => 4 + u64::from(epoch),
            Self::Published(epoch) => 8 + u64::from(epoch),
        }
    }
}

impl Recoverer {
    fn code(self) -> u64 {
        let (stage, known) = match self.stage {
            Stage::Idle => (0, 0),
            Stage::Fenced => (1, 0),
            Stage::ExchangesDeleted => (2, 0),
            Stage::Redriven => (3, 0),
            Stage::BarrierSent => (4, 0),
            Stage::BarrierStored => (5, 0),
            Stage::MinEpochSet => (6, 0),
            Stage::Snapshot([one, other]) => (7, (one as u64) << 2 | other as u64),
            Stage::Rebuilt => (8, 0),
            Stage::ExchangeMade => (9, 0),
        };
        let code = stage << 4 | known;
        let code = code << 4 | u64::from(self.epoch) << 1 | u64::from(self.restarted);
        code << 2 | u64::from(self.salvaged)
    }
}

impl Budget {
    fn code(self) -> u64 {
        let mut code = 0;
        for count in [self.restarts, self.failovers, self.takeovers, self.losses, self.overtakings, self.late_payments]
        {
            code = code << 2 | u64::from(count);
        }
        for counts in [self.relays, self.retries] {
            code = code << 4 | u64::from(counts[0]) << 2 | u64::from(counts[1]);
        }
        code
    }
}

fn shelves(shelves: &[Shelf; EPOCHS]) -> u64 {
    let mut code = 0;
    for Shelf { free, known, outbox, served } in shelves {
        // What is below zero breaks a promise before it is ever packed beside another.
        code = code << 3 | u64::from(free.cast_unsigned() & 7);
        code = code << 4 | (known[0] as u64) << 2 | known[1] as u64;
        code = code << 3 | u64::from(*outbox) << 1 | u64::from(*served);
    }
    code
}

impl Lane {
    const EMPTY: Self = Self { messages: 0, len: 0 };
    const MOST: u8 = 11;

    pub(crate) fn push(&mut self, message: Message) {
        assert!(self.len < Self::MOST, "the bounds allow more messages than a lane of the model holds");
        let code = match message {
            Message::Order { buyer, epoch } => u64::from(epoch - 1) << 1 | buyer as u64,
            Message::Barrier { epoch } => u64::from(epoch - 1) << 1 | 8,
        };
        self.messages |= code << (4 * self.len);
        self.len += 1;
    }

    pub(crate) fn first(&self) -> Option<Message> {
        self.iter().next()
    }

    pub(crate) fn pop(&mut self) {
        self.messages >>= 4;
        self.len -= 1;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Message> + use<> {
        let messages = self.messages;
        (0..self.len).map(move |at| {
            let [code, ..] = (messages >> (4 * at) & 15).to_le_bytes();
            let epoch = (code >> 1 & 3) + 1;
            if code & 8 == 8 {
                Message::Barrier { epoch }
            } else {
                Message::Order { buyer: usize::from(code & 1), epoch }
            }
        })
    }
}

impl Store {
    pub(crate) fn live(&self) -> i8 {
        self.rows.iter().map(|row| i8::from(matches!(row, Row::Held | Row::Paid))).sum()
    }
}

impl World {
    /// The first epoch is open and nothing is sold.
    pub(crate) fn new(units: i8, budget: Budget) -> Self {
        let mut shelves = [Shelf::ABSENT; EPOCHS];
        shelves[0] = Shelf { free: units, served: true, ..Shelf::ABSENT };
        Self {
            shelves,
            disk: shelves,
            replaced: false,
            asks: [Ask::Fresh; BUYERS],
            joined: [1; BUYERS],
            wire: [0; BUYERS],
            confirmed: [0; BUYERS],
            lane: Lane::EMPTY,
            exchanges: mark(1),
            store: Store {
                epoch: 1,
                open: true,
                min_epoch: 1,
                rows: [Row::None; BUYERS],
                barriers: 0,
                returns: 0,
                stale: 0,
                readmitted: 0,
                late: 0,
            },
            recoverers: [IDLE; RECOVERERS],
            revived: [0; BUYERS],
            budget,
        }
    }

    pub(crate) fn shelf(&self, epoch: Epoch) -> &Shelf {
        &self.shelves[usize::from(epoch) - 1]
    }

    pub(crate) fn shelf_mut(&mut self, epoch: Epoch) -> &mut Shelf {
        &mut self.shelves[usize::from(epoch) - 1]
    }

    /// All of it in 256 bits: two worlds are the same if these are.
    pub(crate) fn packed(&self) -> [u64; 4] {
        let Store { epoch, open, min_epoch, rows, barriers, returns, stale, readmitted, late } = self.store;
        let mut store = u64::from(epoch - 1) << 2 | u64::from(min_epoch - 1);
        store = store << 1 | u64::from(open);
        store = store << 4 | (rows[0] as u64) << 2 | rows[1] as u64;
        store = store << 4 | u64::from(barriers >> 1);
        store = store << 4 | u64::from(returns) << 2 | u64::from(stale);
        store = store << 4 | u64::from(readmitted) << 2 | u64::from(late);
        let mut buyers = u64::from(self.replaced);
        for buyer in 0..BUYERS {
            buyers = buyers << 4 | self.asks[buyer].code();
            buyers = buyers << 5 | u64::from(self.joined[buyer] - 1) << 3 | u64::from(self.revived[buyer]);
            buyers = buyers << 8 | u64::from(self.wire[buyer] >> 1) << 4 | u64::from(self.confirmed[buyer] >> 1);
        }
        let [one, other] = self.recoverers;
        let lane = self.lane.messages << 4 | u64::from(self.lane.len);
        [
            shelves(&self.shelves) << 21 | store,
            shelves(&self.disk) << 20 | self.budget.code(),
            (buyers << 4 | u64::from(self.exchanges >> 1)) << 14 | one.code(),
            lane << 14 | other.code(),
        ]
    }

    /// Is the epoch open in the store, on an inventory that is still the one that it was opened on?
    pub(crate) fn is_whole(&self) -> bool {
        self.store.open && !self.replaced && self.shelf(self.store.epoch).served
    }
}
