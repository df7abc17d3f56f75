//! How the kernel is to schedule this process.
//!
//! A process that serves wakes thousands of times a second, each time for little, and as Linux schedules by default a thread that wakes
//! may take its core from whoever works there: from a thread of the same process, which then finds half a batch, or from a server on the
//! same machine. In the batch class it waits for its turn (`sched(7)`). So there are fewer switches and larger batches; an idle core is taken at
//! once as ever.

/// Puts the thread that calls, and all that it starts from then on, into the batch class. To be called before there are other threads.
/// Whoever started this process in a class other than the usual one has chosen, and keeps that, as does a system that has no such class. Takes
/// no privilege; where the kernel may not be asked for it all the same, as in some sandboxes, the log says so and all goes on without.
pub fn batch() {
    #[cfg(target_os = "linux")]
    if let Err(error) = linux::batch() {
        tracing::warn!(
            %error,
            "the kernel refuses the batch class: let this process call sched_setscheduler, or set node.scheduling to inherited"
        );
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;

    use thread_priority::{
        Error, NormalThreadSchedulePolicy as Normal, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
        set_thread_priority_and_policy, thread_native_id, thread_schedule_policy,
    };

    const BATCH: ThreadSchedulePolicy = ThreadSchedulePolicy::Normal(Normal::Batch);

    pub(super) fn batch() -> io::Result<()> {
        if !is_usual() {
            return Ok(());
        }
        let nice = rustix::process::getpriority_process(None)?;
        let priority = named(nice).ok_or_else(|| io::Error::other(format!("no name for the niceness {nice}")))?;
        match set_thread_priority_and_policy(thread_native_id(), priority, BATCH) {
            // It sets the class and then the niceness, which is what it was.
            Err(error) if is_usual() => Err(match error {
                Error::OS(code) => io::Error::from_raw_os_error(code),
                other => io::Error::other(other),
            }),
            _ => Ok(()),
        }
    }

    /// Is it in the class of those who have chosen none?
    fn is_usual() -> bool {
        matches!(thread_schedule_policy(), Ok(ThreadSchedulePolicy::Normal(Normal::Other)))
    }

    /// A niceness in the words of the crate, which counts from 0 to 99 and sets it together with the class.
    fn named(nice: i32) -> Option<ThreadPriority> {
        let values = (0..=99).filter_map(|value| ThreadPriorityValue::try_from(value).ok());
        let mut priorities = values.map(ThreadPriority::Crossplatform);
        priorities.find(|priority| matches!(priority.to_posix(BATCH), Ok(known) if known == nice))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn every_niceness_has_a_name() {
            for nice in -20..20 {
                assert_eq!(named(nice).unwrap().to_posix(BATCH).unwrap(), nice);
            }
        }
    }
}
