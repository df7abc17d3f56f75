//! Rushgate sells scarce tickets to a crowd: exactly as many as there are, at most what each buyer may have, and it loses no
//! accepted order whatever dies. This page is the map.
//!
//! # The way of a claim
//!
//! ```text
//!             gateway node (many)                                   writer (a few)
//!   LB ──► http ──► admission ──► confirm ──► queue ──────────────► writer ──► store
//!           ▲       shard:        inventory:  broker      lanes     one trans-   │
//!           │       counters,     one call    confirms              action per   │
//!        answer     no I/O        per batch,                        batch        │
//!           │                     with its                                       │
//!           └──── 201 or 202      outbox ──► relay                               │
//!                                                                                ▼
//!   shard ◄── refill ◄── inventory ◄── returns ◄── payment, expiry, cancel ◄── orders
//! ```
//!
//! Who reads one function reads [`confirm::Claims::claim`]: everything that a buyer can hear comes from there. A yes is the
//! inventory's verdict *and* the broker's confirm. Units come back in one way only: the store commits an order's end, and
//! [`returns`] carries it to the inventory.
//!
//! # The floors
//!
//! A module imports only what is below it, never its neighbour; `tests/floors.rs` holds that.
//!
//! | floor | modules | what is there | what is *not* there |
//! |---|---|---|---|
//! | 0 | [`domain`] | the rules: sales, claims, orders, shares, refusals | clocks, locks, waiting, chance |
//! | 0 | [`atomic`] [`bell`] [`tasks`] | what tasks are stopped and run with; a checker of interleavings puts its own in the place of two of them | anything of ours |
//! | 1 | [`bugs`] [`clock`] [`config`] [`cores`] [`crash`] [`meters`] [`readiness`] [`scheduling`] [`shutdown`] [`telemetry`] | the ground every role stands on | backends |
//! | 1 | [`finding`], and on it [`reach`] | what a look at a deployment found; the way to a server, step by step | backends |
//! | 2 | [`inventory`] [`queue`] [`store`] | three contracts, each with its backends beside it | each other; Redis outside `inventory/redis`, AMQP outside `queue/rabbitmq`, SQL outside `store` |
//! | 2 | [`spans`] | whose trace a piece of work belongs to, and the way to a collector | OpenTelemetry outside it |
//! | 3 | [`epochs`] | which epoch this process has joined | opening one: that is [`recovery`]'s |
//! | 4 | [`admission`] | shards, permits, refill, the registry of nodes | granting: a permit is leave to ask |
//! | 5 | [`confirm`] [`writer`] [`relay`] [`expiry`] [`returns`] [`recovery`] [`payment`] [`readmission`] [`sales`] [`audit`] [`reload`] | the stages | each other |
//! | 6 | [`http`] [`admin`] [`supervisor`] | the doors: the public API, the control plane, what a supervisor hands over and hears | decisions |
//! | 6 | [`plan`] | a crowd in virtual time, sent through admission and confirm | a choice of backend, the real time |
//! | 7 | [`roles`] | processes: wiring, and the only place that chooses a backend | rules, loops |
//! | 7 | [`rehearsal`] | a crowd on a shadow sale, by the public and the admin API, and the truth about what it heard | anything of the gateways |
//! | 8 | [`doctor`] | what is wrong with a deployment; what it looks at of a backend lies beside that | changes |
//! | 9 | [`cli`] | the command line | everything else |
//!
//! # Where to go for a change
//!
//! - a new reason to say no: [`domain::Refusal`], the script that finds it (`lua/confirm.lua` and `inventory/memory`), the table
//!   in `http/reply`
//! - a new setting: the table in [`config`], which then also prints, explains and checks it; if it may change while a process runs, a
//!   cell in [`config::live`], which is handed to its module and to no other
//! - a new metric: the list in [`meters`]
//! - another thing that may be wrong with a deployment: a finding in the `doctor` of what it is wrong with
//! - what consoles draw: [`admin::live`]; the page that draws it: the files in `src/console`; the terminal: `cli/top`
//! - another broker or database: a folder beside `queue/rabbitmq` or under `store`, and one line in `roles/backends`; its
//!   contract suite is waiting in `tests/contracts`
//!
//! Why it is safe is the protocol's matter; it is told where it is kept: [`inventory`] (one atomic move), [`queue`] (a confirm
//! per scope), [`store`] (one conditional update), [`recovery`] (seven steps), [`epochs`] (join, never seed).

pub mod atomic;
pub mod bell;
pub mod domain;
pub mod tasks;

pub mod bugs;
pub mod clock;
pub mod config;
pub mod cores;
pub mod crash;
pub mod meters;
pub mod readiness;
pub mod scheduling;
pub mod shutdown;
pub mod telemetry;

pub mod finding;
pub mod reach;

pub mod inventory;
pub mod queue;
pub mod spans;
pub mod store;

pub mod epochs;

pub mod admission;

pub mod audit;
pub mod confirm;
pub mod expiry;
pub mod payment;
pub mod readmission;
pub mod recovery;
pub mod relay;
pub mod reload;
pub mod returns;
pub mod sales;
pub mod writer;

pub mod admin;
pub mod http;
pub mod plan;
pub mod supervisor;

pub mod rehearsal;
pub mod roles;

pub mod doctor;

pub mod cli;

#[cfg(test)]
mod planted;
