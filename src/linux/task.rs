// SPDX-License-Identifier: GPL-2.0

//! The current task: its name and its process id, and whether it is to end.
//!
//! C headers: [`include/linux/sched.h`](srctree/include/linux/sched.h),
//! [`include/linux/sched/signal.h`](srctree/include/linux/sched/signal.h),
//! [`include/linux/mutex.h`](srctree/include/linux/mutex.h)

use core::fmt::{
    self,
    Display,
    Write, //
};

use kernel::{
    error::to_result,
    prelude::*,
    sync::{
        lock::Guard,
        Mutex,
        MutexGuard, //
    },
    task::Pid, //
};

use crate::linux::bindings as raw;

/// Bytes of a command name, its NUL included. C: `TASK_COMM_LEN`.
const COMM_LEN: usize = 16;

/// The command name and the process id of a task at one time. Printed as `comm[pid]`.
///
/// The id is that of the thread group in the initial pid namespace, as in the kernel's log.
#[derive(Clone, Copy)]
pub(crate) struct TaskName {
    comm: [u8; COMM_LEN],
    tgid: Pid,
}

impl TaskName {
    /// Returns the name of the current task. Process context.
    pub(crate) fn current() -> Self {
        let mut comm = [0; COMM_LEN];

        // SAFETY: The helper writes `TASK_COMM_LEN` bytes, and the last is NUL.
        let tgid = unsafe { raw::ctskip_current(comm.as_mut_ptr()) };

        Self { comm, tgid }
    }
}

impl Display for TaskName {
    /// Writes `comm[pid]`. A task may choose any command name. So a space becomes `_`; a quote, a
    /// backslash and a byte outside of printable ASCII become `?`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.comm.iter().take_while(|&&byte| byte != 0) {
            f.write_char(match byte {
                b' ' => '_',
                b'"' | b'\\' => '?',
                0x21..=0x7e => char::from(*byte),
                _ => '?',
            })?;
        }
        write!(f, "[{}]", self.tgid)
    }
}

/// Returns whether a signal ends the current task, which then needs no result any more. Process
/// context. C: `fatal_signal_pending()`.
pub(crate) fn current_is_killed() -> bool {
    // SAFETY: The call has no requirement but process context, where there is a current task.
    unsafe { raw::ctskip_current_is_killed() }
}

/// Acquires `mutex`. Fails with `EINTR` where a signal ends the task meanwhile. Process context.
///
/// The kernel crate has no such function. C: `mutex_lock_killable()`.
pub(crate) fn lock_killable<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>> {
    let raw = core::ptr::from_ref(mutex).cast_mut().cast();

    // SAFETY: A `Mutex` is `repr(C)`, and its first field is a `struct mutex`, which was initialised
    // when it was made. That field may be changed through a shared reference.
    to_result(unsafe { raw::ctskip_mutex_lock_killable(raw) })?;

    // SAFETY: The lock was acquired just now.
    Ok(unsafe { Guard::new(mutex, ()) })
}
