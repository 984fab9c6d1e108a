// SPDX-License-Identifier: GPL-2.0

//! Who is calling.
//!
//! C header: [`include/linux/sched.h`](srctree/include/linux/sched.h)

use core::fmt::{
    self,
    Display,
    Write, //
};

use kernel::task::Pid;

use crate::linux::bindings as raw;

/// The length of a command name, with its NUL. C: `TASK_COMM_LEN`.
const COMM_LEN: usize = 16;

/// The name and process id of a task, as they were; printed as `comm[pid]`.
///
/// The id is that of the thread group, in the initial pid namespace, as the kernel's log has it.
#[derive(Clone, Copy)]
pub(crate) struct TaskName {
    comm: [u8; COMM_LEN],
    tgid: Pid,
}

impl TaskName {
    /// Names the current task. Process context.
    pub(crate) fn current() -> Self {
        let mut comm = [0; COMM_LEN];

        // SAFETY: The helper writes `TASK_COMM_LEN` bytes, the last of them NUL.
        let tgid = unsafe { raw::ctskip_current(comm.as_mut_ptr()) };

        Self { comm, tgid }
    }
}

impl Display for TaskName {
    /// A task may call itself anything: what is not a plain character becomes `?`, a space `_`.
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
