//! The fault matrix: each thing that can break, broken in the middle of a sale, and what buyers noticed, for how long.
//!
//! A row heals what it broke, waits until buyers hear yes again, and prints one line: the fault, what claims heard, what was heard
//! about orders, and the longest time without a yes. All lines of a run are in `fault-matrix.md` in the target folder's `tmp`.
//! Every row ends with the checker.
//!
//! Rows that stand elsewhere:
//!
//! | fault | test |
//! |---|---|
//! | a process dies at each named point | `crash_points` |
//! | Redis killed without persistence, all units sold | `lost_redis` |
//! | each inventory key lost, an older copy, a lagging replica, a recoverer that dies, two recoverers | `tests/gateway/recovery.rs`, `crash_points` |
//! | RabbitMQ on memory alarm, a store that is away for long | `tests/gateway/pressure.rs` |
//! | a message that is poison, of another version, too large | `a_message_that_is_none_of_ours_is_parked_and_stops_nobody` |
//! | several faults at once, from a seed | `nemesis` |
//!
//! Rows that are not played, and why:
//!
//! | fault | why not |
//! |---|---|
//! | packets lost, doubled or out of order | TCP hides all but the delay, and delay is played; netem wants a kernel module that many machines lack |
//! | network namespaces for each process | a proxy on each link cuts the same pairs, either way, without being root |
//! | a gateway that is killed for its memory (cgroup) | it is the same signal as in the row where it is killed |
//! | 50,000 idle connections | more than the descriptors of a test; 400 against a bound of 300 play the same |
//! | slow fsync, then a kill of Redis | what is left is an older copy of its data, which is a row |
//! | a full disk under MySQL | InnoDB waits for room, which is what the locked store plays; the server would need a disk of its own |
//! | a million messages of backlog | ten minutes; the frozen writer and the bounds of the lanes in `tests/stages` play the same |
//! | failover of MySQL to a stale copy | the store is believed: what it lost was never stored, and no promise covers that |
//! | a jump of MySQL's clock | the store's clock decides what is due: whoever sets it an hour ahead has said that an hour is over |

mod clock;
mod gateway;
mod mysql;
mod network;
mod rabbitmq;
mod redis;
mod scene;
mod table;
