// SPDX-License-Identifier: GPL-2.0

//! A directory of text files under `/sys/kernel`.
//!
//! The files are binary attributes. Only for these does the kernel say which open file a call is
//! for, and only these may be longer than a page. A [`File`] returns its text line by line. This
//! module fits the lines to the pages and offsets that the kernel asks for. It also decides who may
//! read and write.
//!
//! C headers: [`include/linux/sysfs.h`](srctree/include/linux/sysfs.h),
//! [`include/linux/kernfs.h`](srctree/include/linux/kernfs.h)
//!
//! # Examples
//!
//! ```ignore
//! /// `/sys/kernel/example/numbers`: the numbers from 0 to 99, one a line.
//! struct NumbersFile;
//!
//! /// The text of `numbers`.
//! struct NumbersText;
//!
//! impl File for NumbersFile {
//!     const NAME: &'static CStr = c"numbers";
//!     const MODE: u16 = 0o400;
//!
//!     fn lines(&self) -> Result<impl Lines + '_> {
//!         Ok(NumbersText)
//!     }
//! }
//!
//! impl Lines for NumbersText {
//!     fn line(&self, index: usize, out: &mut Output<'_>) -> Result<bool> {
//!         if index >= 100 {
//!             return Ok(false);
//!         }
//!         writeln!(out, "{index}")?;
//!         Ok(true)
//!     }
//! }
//!
//! // The file is there until `numbers` is dropped.
//! let directory = Directory::new(c"example")?;
//! let numbers = KBox::pin_init(Attribute::new(directory, NumbersFile), GFP_KERNEL)?;
//! ```

use core::{
    marker::{
        PhantomData,
        PhantomPinned, //
    },
    ptr::NonNull,
    slice, //
};

use kernel::{
    bindings::{
        self,
        bin_attribute,
        file,
        kernfs_open_file,
        kobject,
        loff_t,
        seq_file, //
    },
    error::to_result,
    fmt,
    prelude::*,
    sync::Arc,
    types::Opaque, //
};

use crate::linux::{
    bindings as raw,
    compat::estale,
    net,
    ratelimit,
    task::TaskName, //
};

/// A directory under `/sys/kernel`, removed when the last [`Attribute`] in it is.
///
/// # Invariants
///
/// Owns a reference to a kobject.
pub(crate) struct Directory(NonNull<kobject>);

// SAFETY: A kobject may be used by any thread.
unsafe impl Send for Directory {}
// SAFETY: As above.
unsafe impl Sync for Directory {}

impl Directory {
    /// Creates the directory `name`.
    ///
    /// Process context; may sleep. Fails with `ENOMEM`. C: `kobject_create_and_add()`.
    pub(crate) fn new(name: &CStr) -> Result<Arc<Self>> {
        // SAFETY: `kernel_kobj` is there since boot. The function copies `name`.
        let directory =
            unsafe { bindings::kobject_create_and_add(name.as_char_ptr(), bindings::kernel_kobj) };

        // INVARIANT: The reference is ours.
        let directory = Self(NonNull::new(directory).ok_or(ENOMEM)?);

        Ok(Arc::new(directory, GFP_KERNEL)?)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // SAFETY: By the type invariants. The first call removes the directory from the file system
        // now, even if its memory is freed later.
        unsafe {
            bindings::kobject_del(self.0.as_ptr());
            bindings::kobject_put(self.0.as_ptr());
        }
    }
}

/// A file: its name, who may use it, and its text.
///
/// All functions are called in process context, one at a time for each open file. See the
/// [module](self) for an example.
pub(crate) trait File: Send + Sync + 'static {
    /// Name of the file.
    const NAME: &'static CStr;

    /// Mode of the file, as in `0o600`. Without a bit for writing, it cannot be opened for that.
    const MODE: u16;

    /// Whether the mode alone decides who may use the file.
    ///
    /// Else the opener must have had `CAP_NET_ADMIN` in the initial user namespace when it opened
    /// the file, and the caller must be in the initial network namespace. A call fails with `EPERM`
    /// otherwise.
    const PUBLIC: bool = false;

    /// Returns the text as it is now, for one call of `read(2)`. It is dropped at the end of the
    /// call.
    fn lines(&self) -> Result<impl Lines + '_>;

    /// Takes the text of one call of `write(2)`: a page at most, and all of it or none.
    ///
    /// `_file` is the open file that it was written to. The default fails with `EPERM`.
    fn write(&self, _file: &OpenFile<'_>, _text: &[u8]) -> Result {
        Err(EPERM)
    }
}

/// The text of a file.
pub(crate) trait Lines {
    /// Returns the version of the text, of which the lowest 62 bits count.
    ///
    /// A read at another offset than 0 fails with `ESTALE` where the version has changed since the
    /// open file's last read. A text whose lines may come from different times keeps the version 0.
    fn version(&self) -> u64 {
        0
    }

    /// Returns a line that starts at `_offset` or before, and the offset in bytes at which it
    /// starts.
    ///
    /// The nearer that is, the fewer lines are written in vain. In one version, a line must have
    /// the same length each time it is written. The default is line 0, at offset 0.
    fn seek(&self, _offset: u64) -> (usize, u64) {
        (0, 0)
    }

    /// Writes line `index`, counted from 0, with its newline, and returns `true`. Where the text
    /// ends before that line, writes nothing and returns `false`.
    fn line(&self, index: usize, out: &mut Output<'_>) -> Result<bool>;
}

/// The place that a line is written to: the rest of a page of the reader's.
pub(crate) struct Output<'a> {
    page: &'a mut [u8],
    len: usize,
    /// Bytes that are still to be left out: the reader has them already.
    skip: u64,
    overflow: bool,
}

impl<'a> Output<'a> {
    /// Creates an output to `page` that leaves the first `skip` bytes out.
    fn new(page: &'a mut [u8], skip: u64) -> Self {
        Self {
            page,
            len: 0,
            skip,
            overflow: false,
        }
    }

    /// Writes bytes. Those that do not fit are dropped: the reader's next call asks for their line
    /// again.
    fn write_bytes(&mut self, bytes: &[u8]) {
        let skip = usize::try_from(self.skip).unwrap_or(usize::MAX);
        let skip = skip.min(bytes.len());
        self.skip = self.skip.saturating_sub(skip as u64);

        let bytes = bytes.get(skip..).unwrap_or_default();
        let room = self.page.get_mut(self.len..).unwrap_or_default();
        let n = bytes.len().min(room.len());

        for (to, from) in room.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.len = self.len.saturating_add(n);
        self.overflow |= n < bytes.len();
    }
}

impl fmt::Write for Output<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.write_bytes(s.as_bytes());
        Ok(())
    }
}

/// The state of an open file, in the eight bytes that kernfs keeps for its user. Zero after
/// opening.
#[derive(Clone, Copy)]
struct OpenState(u64);

impl OpenState {
    /// Flag: a read has stored a version.
    const HAS_VERSION: u64 = 1 << 63;
    /// Flag: see [`OpenFile::is_stopped()`].
    const STOPPED: u64 = 1 << 62;
    /// The bits that are no part of a version.
    const FLAGS: u64 = Self::HAS_VERSION | Self::STOPPED;

    /// Returns the version of the last read; [`None`] before the first.
    fn version(self) -> Option<u64> {
        (self.0 & Self::HAS_VERSION != 0).then_some(self.0 & !Self::FLAGS)
    }

    /// Returns the state with `version` stored.
    fn with_version(self, version: u64) -> Self {
        let version = version & !Self::FLAGS;
        Self(self.0 & Self::STOPPED | Self::HAS_VERSION | version)
    }
}

/// Fills `page` with the lines from byte `offset` on, and returns the number of bytes written.
///
/// It writes as many whole lines as fit. Of a line that is longer than the page, it writes the part
/// that fits. Fails with `ESTALE` where `offset` is not 0 and the version is not that of the last
/// read.
fn read_lines(
    lines: &impl Lines,
    state: &mut OpenState,
    offset: u64,
    page: &mut [u8],
) -> Result<usize> {
    let now = state.with_version(lines.version());
    if offset != 0 && state.version().is_some() && state.version() != now.version() {
        return Err(estale());
    }
    *state = now;

    let (mut line, start) = lines.seek(offset);
    let mut out = Output::new(page, offset.saturating_sub(start));
    loop {
        let len = out.len;
        let more = lines.line(line, &mut out)?;

        if out.overflow {
            return Ok(if len == 0 { out.len } else { len });
        }
        if !more {
            return Ok(len);
        }
        line = line.checked_add(1).ok_or(EFBIG)?;
    }
}

/// As [`read_lines()`], of the text that `file` has now. Where that changes while the first page of
/// it is written, begins anew: the reader has nothing yet.
fn read_file(
    file: &impl File,
    state: &mut OpenState,
    offset: u64,
    page: &mut [u8],
) -> Result<usize> {
    /// The most attempts.
    const MOST: usize = 10;

    for _ in 1..MOST {
        match read_lines(&file.lines()?, state, offset, page) {
            Err(error) if error == estale() && offset == 0 => {}
            result => return result,
        }
    }
    read_lines(&file.lines()?, state, offset, page)
}

/// The open file that a call is for.
///
/// # Invariants
///
/// Points at a `struct file` of a binary attribute. It is valid for `'a`, the length of a call, for
/// which kernfs holds the open file's mutex.
pub(crate) struct OpenFile<'a>(NonNull<file>, PhantomData<&'a file>);

impl OpenFile<'_> {
    /// Returns a reference that keeps the open file, so that a later call can be compared with it.
    pub(crate) fn hold(&self) -> HeldFile {
        // SAFETY: By the type invariants.
        unsafe { raw::ctskip_get_file(self.0.as_ptr()) };

        // INVARIANT: The reference was taken just now.
        HeldFile(self.0)
    }

    /// Checks that the caller may use a file that is not public; returns why it may not.
    ///
    /// The opener must have had the capability, not the caller. A process that is handed an open
    /// file gains its rights. A process that is tricked into writing to one adds none of its own.
    /// C: `file_ns_capable()`.
    fn check(&self) -> Result<(), &'static str> {
        // SAFETY: By the type invariants. `init_user_ns` is a static variable: it is always valid.
        let capable = unsafe {
            bindings::file_ns_capable(
                self.0.as_ptr(),
                &raw mut bindings::init_user_ns,
                bindings::CAP_NET_ADMIN as c_int,
            )
        };

        if capable && net::current_is_in_init() {
            Ok(())
        // SAFETY: By the type invariants.
        } else if !unsafe { raw::ctskip_opened_in_init_user_ns(self.0.as_ptr()) } {
            Err("the file was opened outside of the initial user namespace")
        } else if !capable {
            Err("the file was opened without CAP_NET_ADMIN")
        } else {
            Err("the caller is not in the initial network namespace")
        }
    }

    /// Returns kernfs's data of the open file.
    ///
    /// C: `kernfs_of()`. Every open file of kernfs has a `seq_file`, a binary attribute too.
    fn kernfs_of(&self) -> *mut kernfs_open_file {
        // SAFETY: By the type invariants.
        unsafe { (*(*self.0.as_ptr()).private_data.cast::<seq_file>()).private }.cast()
    }

    /// Returns the state of the open file.
    ///
    /// It lies in `priv`, which kernfs leaves to its user. sysfs does not use it.
    fn open_state(&self) -> OpenState {
        // SAFETY: By the type invariants no other thread writes it now.
        OpenState(unsafe { (*self.kernfs_of()).priv_ } as u64)
    }

    /// Stores the state of the open file.
    fn set_open_state(&self, state: OpenState) {
        static_assert!(size_of::<*mut c_void>() == size_of::<OpenState>());

        // SAFETY: By the type invariants no other thread uses it now.
        unsafe { (*self.kernfs_of()).priv_ = state.0 as *mut c_void };
    }

    /// Sets the flag that [`Self::is_stopped()`] returns.
    pub(crate) fn stop(&self, stopped: bool) {
        let OpenState(state) = self.open_state();

        self.set_open_state(OpenState(match stopped {
            true => state | OpenState::STOPPED,
            false => state & !OpenState::STOPPED,
        }));
    }

    /// Returns the flag that was last set by [`Self::stop()`]; `false` before that. The caller
    /// decides on its meaning: this module does not look at it.
    pub(crate) fn is_stopped(&self) -> bool {
        self.open_state().0 & OpenState::STOPPED != 0
    }
}

/// A reference to an open file. While it is held, no other open file has the same address.
///
/// # Invariants
///
/// Owns a reference to a `struct file`.
pub(crate) struct HeldFile(NonNull<file>);

// SAFETY: An open file may be used by any thread.
unsafe impl Send for HeldFile {}
// SAFETY: As above.
unsafe impl Sync for HeldFile {}

impl HeldFile {
    /// Returns whether `other` is the same open file.
    pub(crate) fn is(&self, other: &OpenFile<'_>) -> bool {
        self.0 == other.0
    }

    /// Returns whether only this reference is left: every process has closed the file. C:
    /// `file_count()`.
    pub(crate) fn is_gone(&self) -> bool {
        // SAFETY: By the type invariants.
        unsafe { raw::ctskip_file_count(self.0.as_ptr()) <= 1 }
    }
}

impl Drop for HeldFile {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::fput(self.0.as_ptr()) };
    }
}

/// A file in a [`Directory`], removed when dropped (process context).
///
/// The drop waits for calls that are under way. So the caller must hold no lock that a function of
/// [`File`] takes.
///
/// # Invariants
///
/// `attribute` is in `directory`. Its `private` points at this structure.
#[pin_data(PinnedDrop)]
pub(crate) struct Attribute<T: File> {
    file: T,
    directory: Arc<Directory>,
    #[pin]
    attribute: Opaque<bin_attribute>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: `attribute` is constant after `new()`. The other fields may be sent.
unsafe impl<T: File> Send for Attribute<T> {}
// SAFETY: `attribute` is constant after `new()`. The other fields may be shared.
unsafe impl<T: File> Sync for Attribute<T> {}

impl<T: File> Attribute<T> {
    /// Creates the file in `directory`. It may be opened before this function has returned.
    ///
    /// Process context; may sleep. Fails with `ENOMEM` or `EEXIST`. C: `sysfs_create_bin_file()`.
    pub(crate) fn new(directory: Arc<Directory>, file: T) -> impl PinInit<Self, Error> {
        try_pin_init!(&this in Self {
            file,
            directory,
            attribute: Opaque::new(Self::attribute(this.as_ptr())),
            _pin: PhantomPinned,
            _: {
                // SAFETY: Both are initialised. They stay in their place until `drop()` has removed
                // the file.
                to_result(unsafe {
                    bindings::sysfs_create_bin_file(directory.0.as_ptr(), attribute.get())
                })?
            },
        })
    }

    /// Returns the C description of the file at `this`.
    fn attribute(this: *mut Self) -> bin_attribute {
        let mut attribute = bin_attribute::default();

        attribute.attr.name = T::NAME.as_char_ptr();
        attribute.attr.mode = T::MODE;
        attribute.private = this.cast();
        attribute.read = Some(read::<T>);
        if T::MODE & 0o222 != 0 {
            attribute.write = Some(write::<T>);
        }
        #[cfg(CONFIG_DEBUG_LOCK_ALLOC)]
        {
            attribute.attr.key = kernel::static_lock_class!().as_ptr();
        }
        attribute
    }
}

#[pinned_drop]
impl<T: File> PinnedDrop for Attribute<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariants the file is there. The call waits for those under way, and
        // no other call can start.
        unsafe { bindings::sysfs_remove_bin_file(self.directory.0.as_ptr(), self.attribute.get()) };
    }
}

/// Returns the file and the open file of a call. Fails with `EPERM` where the caller may not use
/// it.
///
/// # Safety
///
/// The arguments must be those of a call to a function of an [`Attribute`], and `'a` must end with
/// it.
unsafe fn enter<'a, T: File>(
    file: *mut file,
    attribute: *const bin_attribute,
) -> Result<(&'a T, OpenFile<'a>)> {
    // SAFETY: `Attribute::new()` has set `private`. kernfs does not let the attribute be removed
    // during the call.
    let this = unsafe { &*(*attribute).private.cast::<Attribute<T>>() };
    // INVARIANT: By the safety requirements.
    let file = OpenFile(NonNull::new(file).ok_or(EINVAL)?, PhantomData);

    if !T::PUBLIC {
        file.check().map_err(|why| denied(T::NAME, why))?;
    }
    Ok((&this.file, file))
}

/// Logs that the current task may not use the file `name`, where the log is not full of it. Returns
/// `EPERM`.
#[cold]
fn denied(name: &CStr, why: &str) -> Error {
    if ratelimit::denials() {
        pr_info!(
            "{}: EPERM for {}: {}\n",
            name.to_str().unwrap_or_default(),
            format_args!("{}", TaskName::current()),
            why,
        );
    }
    EPERM
}

/// Returns the result as C has it: a number of bytes, or a negative error.
fn to_ssize(result: Result<usize>) -> isize {
    match result {
        Ok(n) => n as isize,
        Err(e) => e.to_errno() as isize,
    }
}

/// Reads from a file: the `read` of an [`Attribute`].
///
/// # Safety
///
/// Must be used only as the `read` of an [`Attribute`]'s description.
unsafe extern "C" fn read<T: File>(
    file: *mut file,
    _kobj: *mut kobject,
    attribute: *const bin_attribute,
    page: *mut c_char,
    offset: loff_t,
    count: usize,
) -> isize {
    let read = || {
        // SAFETY: By the safety requirements.
        let (this, file) = unsafe { enter::<T>(file, attribute) }?;
        let offset = u64::try_from(offset).map_err(|_| EINVAL)?;
        // SAFETY: sysfs lends `count` bytes for the length of the call. They are initialised here.
        let page = unsafe {
            page.write_bytes(0, count);
            slice::from_raw_parts_mut(page, count)
        };

        let mut state = file.open_state();
        let n = read_file(this, &mut state, offset, page)?;

        file.set_open_state(state);
        Ok(n)
    };

    to_ssize(read())
}

/// Writes to a file: the `write` of an [`Attribute`].
///
/// # Safety
///
/// Must be used only as the `write` of an [`Attribute`]'s description.
unsafe extern "C" fn write<T: File>(
    file: *mut file,
    _kobj: *mut kobject,
    attribute: *const bin_attribute,
    text: *mut c_char,
    _offset: loff_t,
    count: usize,
) -> isize {
    let write = || {
        // SAFETY: By the safety requirements.
        let (this, file) = unsafe { enter::<T>(file, attribute) }?;
        // SAFETY: sysfs lends `count` bytes of text for the length of the call.
        let text = unsafe { slice::from_raw_parts(text, count) };

        this.write(&file, text).map(|()| count)
    };

    to_ssize(write())
}
