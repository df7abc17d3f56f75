//! What our libraries and servers do to whoever does not know it, and the tests that fail when we fall for it again. Each was seen on
//! the exact versions. `tests/documents.rs` looks whether the tests are there.
//!
//! | trap | our answer | held by |
//! |---|---|---|
//! | lapin: tasks that share a channel get each other's confirms | one task owns a publishing channel | `every_message_gets_its_own_verdict`, `many_publishers_at_once_lose_nothing_and_send_nothing_twice` |
//! | lapin: a returned message hangs on the wrong confirm | an alternate exchange, and returns are told apart by message id | `what_no_queue_at_all_took_is_not_confirmed`, `what_no_lane_is_bound_for_goes_to_the_catch_all_and_is_confirmed` |
//! | lapin: before a frozen broker a confirm fails only after two heartbeats | a time limit of our own, and the outcome is unknown | `a_frozen_broker_holds_nobody_up_and_is_used_again_when_it_thaws`, `lost_confirms_leave_the_outcome_unknown_and_the_connection_is_made_anew` |
//! | lapin: on a blocked connection a publish never returns | nothing is begun while it blocks; claims are shut out | `a_blocked_connection_holds_nobody_up_and_says_so`, `a_connection_that_blocks_in_mid_storm_holds_nobody_up`, `a_broker_that_is_short_of_memory_makes_claims_busy_and_nothing_else` |
//! | lapin: its own recovery gives up, and while it is on no connect ever fails | plain connects, made again for ever by us | `a_broker_that_is_down_at_the_start_is_said_to_be_and_found_when_it_is_up`, `a_broker_that_stays_frozen_is_left_and_found_again` |
//! | lapin: `ack` may say `Ok(false)`, and a consumer's stream may end | both mean: not acknowledged, take the lane anew | `a_lane_of_a_cut_connection_ends_with_an_error_and_its_messages_come_again`, `a_lane_whose_queue_is_deleted_ends_with_an_error_and_can_be_taken_anew` |
//! | lapin: a connect or a close that is abandoned leaves its thread and socket | each session holds its socket and cuts it | `attempts_to_reach_a_speechless_broker_leave_nothing_behind` |
//! | lapin: a channel number that the broker ended is never opened again | the next number is tried | `the_numbers_of_channels_may_come_round` |
//! | redis: a black-holed connection is never replaced | replaced after two timeouts | `connections_that_stopped_answering_are_replaced`, `a_connection_that_the_server_closed_is_replaced_before_it_is_used` |
//! | redis: no keepalive by default | set | `connections_that_rest_are_kept_alive_by_the_kernel` |
//! | redis: a script call reloads the script by itself, and with it opens a server that lost its data | raw `EVALSHA`; only a recovery loads | `a_server_without_the_scripts_sells_nothing_until_a_recovery`, `a_server_that_restarted_sells_nothing_until_a_recovery` |
//! | sqlx: a cancelled `begin` leaves a transaction open on a pooled connection | connections of a fault are not pooled again | `an_operation_that_is_dropped_leaves_nothing_open` |
//! | sqlx (MySQL): `rows_affected` counts rows that matched | whether something is new is read, not counted | `a_batch_is_recorded_once_however_often_it_comes`, `an_order_is_cancelled_once` |
//! | sqlx: the migrator's lock does nothing on MariaDB, which does not wait for minus one second | a lock of our own, with a bound | `a_migration_waits_for_one_that_runs`, `several_processes_migrate_at_once` |
//! | sqlx (MySQL): Nagle's algorithm is on, and behind a statement that is closed the next one waits 40 ms for an acknowledgement | statements are few and stay prepared | `no_statement_is_closed_behind_which_another_one_waits` |
//! | MySQL: 1205 undoes the statement only, 1213 the transaction | on any error all is undone, and the batch replayed | `a_lock_that_does_not_come_in_time_undoes_the_whole_batch`, `overlapping_batches_of_many_recorders_are_recorded_once` |
//! | MySQL and MariaDB differ | the common subset; the store's suite runs over both | `a_random_sequence_leaves_what_a_model_of_it_says` |
//! | MySQL: large prepared inserts are slow with a binary log | inserts of few sizes, in portions | `portions_are_powers_of_two_and_all_there_is`, `a_batch_larger_than_a_statement_is_recorded` |
//! | mysqld: one that starts deletes `#sql*` in its tmpdir, whose ever they are | every server of a test has a tmpdir of its own | `a_database_server_that_starts_leaves_the_tables_of_others_alone` |
//! | hyper: a client that leaves takes the handler with it | what was begun runs in a task of its own | `a_client_that_leaves_does_not_take_the_order_with_it`, `on_the_way_to_a_yes` |
//! | hyper: the header timeout does nothing without a timer | both are set | `a_slow_head_is_refused_and_one_who_says_nothing_is_left_without_a_word` |
//! | hyper: the header timeout also closes connections that rest between two requests | a longer one there, and our own for a head that has begun | `one_who_rests_between_two_requests_may_rest_longer` |
//! | serde: a JSON list is taken for a struct | objects are read as objects | `a_list_is_no_object`, `a_list_of_objects_holds_nothing_else` |
//! | RabbitMQ: a quorum queue drops what came back too often | every argument is set, dead-lettering at least once | `a_dead_letter_that_the_broker_itself_moved_says_so` |
//! | RabbitMQ: a time to live expires at the head of a queue only | deadlines of payment live in the store | `what_is_over_expires_in_portions`, `payment_ends_and_expiry_begins_at_the_same_millisecond` |
//! | metrics: a look-up costs many times a held handle | handles are held | `a_held_handle_costs_less_than_a_look_up` |

use sqlx::{Connection, Executor, MySqlConnection};

use crate::private_mariadb::PrivateMariaDb;

#[tokio::test(flavor = "multi_thread")]
async fn a_database_server_that_starts_leaves_the_tables_of_others_alone() {
    let one = PrivateMariaDb::start().await;
    let mut connection = MySqlConnection::connect(&one.url()).await.unwrap();
    // Files in the server's tmpdir, which it opens anew after a flush.
    connection.execute("CREATE TEMPORARY TABLE t (x INT) ENGINE = Aria").await.unwrap();
    connection.execute("INSERT INTO t VALUES (1)").await.unwrap();
    let _other = PrivateMariaDb::start().await;
    connection.execute("FLUSH TABLES").await.unwrap();
    connection.execute("INSERT INTO t VALUES (2)").await.unwrap();
    let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM t").fetch_one(&mut connection).await.unwrap();
    assert_eq!(rows, 2);
}
