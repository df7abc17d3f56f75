//! How the kernel is to schedule this process.
//!
//! A process that serves a crowd wakes thousands of times a second, each time for little, and as the kernel schedules by default a thread
//! that wakes may take its core from whoever works there: from a thread of the same process, which then finds half a batch, or from a
//! server on the same machine. In the batch class it waits for its turn (`sched(7)`). So there are fewer switches and larger batches; an idle
//! core is taken at once as ever.

use thread_priority::{
    Error, NormalThreadSchedulePolicy as Normal, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id, thread_schedule_policy,
};

/// Puts the thread that calls, and all that it starts from then on, into the batch class. To be called before there are other threads.
/// Whoever started this process in a class other than the usual one has chosen, and keeps that. Takes no privilege.
pub fn batch() -> Result<(), Error> {
    if thread_schedule_policy()? != ThreadSchedulePolicy::Normal(Normal::Other) {
        return Ok(());
    }
    set_thread_priority_and_policy(thread_native_id(), as_it_is()?, ThreadSchedulePolicy::Normal(Normal::Batch))
}

/// The niceness that it has, in the words of the crate, which sets both.
fn as_it_is() -> Result<ThreadPriority, Error> {
    let nice = rustix::process::getpriority_process(None).map_err(|error| Error::OS(error.raw_os_error()))?;
    let names_it = |priority: &ThreadPriority| matches!(priority.to_posix(ThreadSchedulePolicy::Normal(Normal::Batch)), Ok(known) if known == nice);
    let known = (0..=99).filter_map(|value| ThreadPriorityValue::try_from(value).ok());
    known.map(ThreadPriority::Crossplatform).find(names_it).ok_or(Error::Priority("a niceness that nobody has"))
}
