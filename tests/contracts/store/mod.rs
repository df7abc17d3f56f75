//! The suite of the store's contract, run over SQLite, over the MySQL or MariaDB of the run, over a real MySQL, and over the store in
//! memory that the simulation runs on.
//!
//! Every test has a database of its own, and moves the store's clock instead of sleeping.
#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "these are tests")]

mod endings;
mod late;
mod letters;
mod partitions;
mod payments;
mod recording;
mod repairs;
mod reports;
mod rig;
mod sales;
mod schema;
mod sequence;
mod stale;
mod traps;

/// One module per backend, with the tests of the contract in it. Databases have the tests of their tables too, those of MySQL the ones
/// of its traps, and the others the ones that need a clock that stands still.
macro_rules! suite {
    (contract { $($contract:tt)+ } exact { $($exact:tt)+ } tables { $($tables:tt)+ } traps { $($traps:tt)+ }) => {
        backend! { memory $($contract)+ $($exact)+ }
        backend! { sqlite $($contract)+ $($exact)+ $($tables)+ }
        backend! { mysql $($contract)+ $($tables)+ $($traps)+ }
        backend! { real_mysql $($contract)+ $($tables)+ $($traps)+ }
    };
}

macro_rules! backend {
    ($backend:ident $($module:ident::$name:ident,)+) => {
        mod $backend {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::rig::run(super::rig::$backend().await, |rig| Box::pin(super::$module::$name(rig))).await;
                }
            )+
        }
    };
}

suite! { contract {
    schema::a_new_schema_is_behind_and_then_current,
    schema::several_processes_migrate_at_once,
    schema::a_deployment_stays_as_the_first_process_began_it,
    schema::a_deployment_has_the_most_lanes_that_any_process_came_with,
    partitions::a_partition_has_no_row_before_it_is_fenced,
    partitions::of_two_who_fence_at_once_one_wins,
    partitions::only_the_current_scope_is_opened,
    partitions::barriers_are_stored_once_per_lane_and_scope,
    partitions::min_epoch_is_set_by_the_current_epoch_only,
    partitions::a_snapshot_has_the_sales_of_the_partition_and_all_their_orders,
    partitions::a_snapshot_waits_for_no_batch_and_sees_none_in_half,
    sales::a_sale_reads_back_as_it_was_put,
    sales::of_two_changes_of_one_version_one_wins,
    sales::a_conflict_shows_what_is_stored,
    sales::the_guard_stands_at_the_larger_capacity_until_the_change_is_applied,
    sales::a_guard_below_what_is_live_is_a_fault_and_changes_nothing,
    sales::pools_that_are_gone_leave_the_guard_when_they_are_empty,
    sales::an_old_version_that_is_applied_late_lowers_nothing,
    sales::changes_are_listed_newest_first,
    recording::a_batch_is_recorded_once_however_often_it_comes,
    recording::an_order_reads_back_as_it_was_granted,
    recording::an_order_that_stands_twice_in_a_batch_is_one,
    recording::overlapping_batches_of_many_recorders_are_recorded_once,
    recording::nothing_of_a_batch_over_the_guard_is_stored,
    recording::the_guard_names_the_leg_that_does_not_hold,
    recording::a_sale_that_is_unknown_is_a_guard_that_does_not_hold,
    recording::recorders_never_grant_more_than_the_capacity_between_them,
    recording::a_batch_with_content_that_does_not_fit_is_rejected_whole,
    recording::orders_of_an_old_epoch_are_kept_as_stale,
    recording::a_stale_order_that_is_admitted_again_is_no_longer_stale,
    recording::quarantined_orders_are_kept_and_counted_once,
    recording::ids_that_differ_in_case_are_different,
    recording::odd_ids_come_back_unchanged,
    recording::a_batch_larger_than_a_statement_is_recorded,
    recording::ten_thousand_orders_in_batches,
    payments::a_payment_pays_the_order,
    payments::the_same_payment_twenty_times_at_once_is_one,
    payments::of_many_payments_of_one_order_one_pays_it,
    payments::an_amount_or_currency_that_is_not_the_orders_is_a_mismatch,
    payments::a_payment_within_the_grace_is_taken_and_after_it_is_not,
    payments::a_payment_for_an_order_that_ended_is_a_refund_due,
    payments::a_payment_that_comes_before_its_order_waits_for_it,
    payments::a_waiting_payment_counts_from_when_it_came,
    payments::of_payments_that_wait_the_first_that_fits_pays,
    payments::a_payment_and_its_order_at_once_always_meet,
    payments::one_event_id_for_two_orders_is_a_fault,
    late::a_late_payment_pays_an_expired_order_whose_units_were_taken_again,
    late::a_late_payment_pays_an_order_that_did_not_expire_yet,
    late::a_late_payment_that_is_refused_is_due_back_once,
    late::what_was_taken_in_an_epoch_that_is_over_changes_nothing,
    late::what_ends_an_order_before_the_verdict_makes_its_late_payments_due_back,
    late::units_that_the_guard_has_no_room_for_are_given_back,
    late::a_late_payment_of_a_journey_counts_on_every_leg,
    late::of_many_who_settle_one_late_payment_one_does,
    late::late_payments_expiry_and_cancel_at_once_end_in_one,
    late::no_late_payment_is_settled_behind_a_fence,
    late::a_payment_that_never_came_is_a_fault,
    stale::stale_orders_are_listed_as_they_came,
    stale::a_stale_order_is_readmitted_when_it_is_stored,
    stale::a_stale_order_that_is_refused_stays_so_and_is_counted,
    stale::one_that_was_stored_meanwhile_is_not_refused,
    endings::a_buyer_cancels_their_own_order_only,
    endings::an_order_is_cancelled_once,
    endings::a_paid_order_is_refunded_and_its_payment_due_back,
    endings::what_is_over_expires_in_portions,
    endings::an_order_that_the_store_refuses_to_expire_keeps_no_other_one_waiting,
    endings::orders_that_are_refused_by_the_hundred_keep_no_other_one_waiting,
    endings::expiry_frees_every_leg_of_a_journey,
    endings::pay_cancel_and_expiry_at_once_end_in_one,
    endings::several_who_expire_share_the_work,
    endings::expiry_and_recording_at_once_keep_the_guard_right,
    endings::moves_are_forgotten_one_kind_at_a_time,
    reports::orders_are_listed_newest_first_and_filtered,
    reports::a_walk_by_id_meets_every_order_once,
    reports::the_next_release_is_the_earliest_held_order_of_the_sale,
    reports::a_tally_counts_orders_units_and_legs,
    reports::an_order_that_nobody_knows_has_nothing,
    letters::dead_letters_are_kept_byte_by_byte,
    letters::a_walk_through_dead_letters_goes_on_where_it_was,
    letters::a_list_of_dead_letters_has_only_the_beginning_of_a_long_one,
    letters::a_dead_letter_is_dropped_once_and_its_id_is_not_used_again,
    letters::long_words_about_a_dead_letter_are_cut,
    repairs::a_recount_beside_those_who_write_is_exact,
    repairs::orders_in_quarantine_are_named_until_they_are_rows,
    sequence::a_random_sequence_leaves_what_a_model_of_it_says,
} exact {
    endings::payment_ends_and_expiry_begins_at_the_same_millisecond,
} tables {
    repairs::a_payment_that_was_left_behind_is_applied_as_its_recording_would_have,
    repairs::a_guard_of_more_than_there_is_is_left,
    repairs::a_guard_that_counts_wrong_is_counted_again,
    schema::a_schema_of_a_later_program_is_ahead,
    schema::a_migration_that_is_not_ours_is_a_fault,
} traps {
    traps::orders_of_before_the_table_was_copied_are_as_they_were,
    traps::a_lock_that_does_not_come_in_time_undoes_the_whole_batch,
    traps::a_connection_that_is_killed_leaves_no_half_batch,
    traps::a_commit_whose_answer_is_lost_is_replayed_without_effect,
    traps::a_server_that_falls_silent_is_given_up_and_found_again,
    traps::an_operation_that_is_dropped_leaves_nothing_open,
    traps::raising_min_epoch_waits_for_batches_under_way,
    traps::a_recorder_that_failed_says_so_until_it_is_dropped,
    traps::a_server_that_is_not_there_is_named_with_the_cause,
    traps::a_migration_waits_for_one_that_runs,
    traps::the_clock_is_the_servers,
    traps::orders_are_searched_in_the_replica_and_nothing_else_is_read_there,
} }
