// SPDX-License-Identifier: GPL-2.0

//! The current task: its name and its process id.
//!
//! C header: [`include/linux/sched.h`](srctree/include/linux/sched.h)

use core::fmt::{
    self,
    Display,
    Write, //
};

use kernel::task::Pid;

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
