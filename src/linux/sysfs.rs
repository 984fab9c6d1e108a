// SPDX-License-Identifier: GPL-2.0

//! A directory of text files under `/sys/kernel`.
//!
//! Its files are binary attributes, as only these are told which open file they are called for, and
//! may be longer than a page. A [`File`] gives its text line by line; how that fits the pages and
//! offsets that the kernel asks for, and who may read and write at all, is decided here, in one
//! place.
//!
//! C headers: [`include/linux/sysfs.h`](srctree/include/linux/sysfs.h),
//! [`include/linux/kernfs.h`](srctree/include/linux/kernfs.h)

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
    net, //
};

/// A directory under `/sys/kernel`, removed when the last attribute in it is.
///
/// # Invariants
///
/// Owns a reference on a kobject.
pub(crate) struct Directory(NonNull<kobject>);

// SAFETY: A kobject may be used by any thread.
unsafe impl Send for Directory {}
// SAFETY: As above.
unsafe impl Sync for Directory {}

impl Directory {
    /// Makes the directory. Process context; fails with `ENOMEM`.
    ///
    /// C: `kobject_create_and_add()`.
    pub(crate) fn new(name: &CStr) -> Result<Arc<Self>> {
        // SAFETY: `kernel_kobj` is there since boot; `name` is a string that is copied.
        let directory =
            unsafe { bindings::kobject_create_and_add(name.as_char_ptr(), bindings::kernel_kobj) };

        // INVARIANT: The reference is ours.
        let directory = Self(NonNull::new(directory).ok_or(ENOMEM)?);

        Ok(Arc::new(directory, GFP_KERNEL)?)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // SAFETY: By the type invariants. It is taken out of the file system now, even if its memory
        // is let go later.
        unsafe {
            bindings::kobject_del(self.0.as_ptr());
            bindings::kobject_put(self.0.as_ptr());
        }
    }
}

/// What is in a file.
///
/// All calls are made in process context, for one open file one at a time.
pub(crate) trait File: Send + Sync + 'static {
    /// Its name.
    const NAME: &'static CStr;

    /// Its mode, as in `0o600`. Without a bit for writing, it cannot be opened for that.
    const MODE: u16;

    /// Whether anyone may use it that its mode lets. Else it takes `CAP_NET_ADMIN` in the initial
    /// user namespace, held when the file was opened, and the initial network namespace.
    const PUBLIC: bool = false;

    /// Gives the text as it is now, for one call of `read(2)`. What it holds is let go right after.
    fn lines(&self) -> Result<impl Lines + '_>;

    /// Takes what one call of `write(2)` has given, a page at most, all of it or none.
    ///
    /// `file` is the open file that it is written to.
    fn write(&self, _file: &OpenFile<'_>, _text: &[u8]) -> Result {
        Err(EPERM)
    }
}

/// The text of a file.
pub(crate) trait Lines {
    /// Tells the text's versions apart: when it has changed between two reads, the second fails with
    /// `ESTALE`. To be left as it is for a text whose lines may come from different times.
    fn version(&self) -> u64 {
        0
    }

    /// Gives a line that starts at `offset` or before, and where it starts: the nearer, the less is
    /// written in vain. Between versions, every line has the same length each time it is written.
    fn seek(&self, _offset: u64) -> (usize, u64) {
        (0, 0)
    }

    /// Writes line `index`, counted from 0, with its newline, and gives `true`; or writes nothing and
    /// gives `false` where the text ends before it.
    fn line(&self, index: usize, out: &mut Output<'_>) -> Result<bool>;
}

/// Where a line is written to: what is left of a page, for the reader.
pub(crate) struct Output<'a> {
    page: &'a mut [u8],
    len: usize,
    /// Bytes still to be left out, as the reader has them.
    skip: u64,
    overflow: bool,
}

impl<'a> Output<'a> {
    /// Makes an output to `page` that leaves the first `skip` bytes out.
    fn new(page: &'a mut [u8], skip: u64) -> Self {
        Self {
            page,
            len: 0,
            skip,
            overflow: false,
        }
    }

    /// Writes bytes. What does not fit is dropped, and the line will be asked for again.
    pub(crate) fn write_bytes(&mut self, bytes: &[u8]) {
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

/// What is remembered of an open file, in the eight bytes that kernfs keeps for its user; zero when
/// it is opened.
#[derive(Clone, Copy)]
struct OpenState(u64);

impl OpenState {
    /// Whether a version is remembered.
    const SEEN: u64 = 1 << 63;
    /// Whether what is written is not to be carried out.
    const STOPPED: u64 = 1 << 62;

    /// The version that it is being read in, if a read has begun.
    fn version(self) -> Option<u64> {
        (self.0 & Self::SEEN != 0).then_some(self.0 & !(Self::SEEN | Self::STOPPED))
    }

    /// With `version` as that.
    fn with_version(self, version: u64) -> Self {
        let version = version & !(Self::SEEN | Self::STOPPED);
        Self(self.0 & Self::STOPPED | Self::SEEN | version)
    }
}

/// Fills a page with the lines at `offset`, as many whole ones as fit; of a line that does not fit by
/// itself, with what does. Gives the number of bytes.
///
/// Fails with `ESTALE` where the text was another when the reader began.
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

/// The open file that a call is made for.
///
/// # Invariants
///
/// Points at a `struct file` of a binary attribute that is valid for `'a`, the length of a call, for
/// which kernfs holds the open file's mutex.
pub(crate) struct OpenFile<'a>(NonNull<file>, PhantomData<&'a file>);

impl OpenFile<'_> {
    /// Keeps the open file, to know it again.
    pub(crate) fn hold(&self) -> HeldFile {
        // SAFETY: By the type invariants.
        unsafe { raw::ctskip_get_file(self.0.as_ptr()) };

        // INVARIANT: We have just taken a reference.
        HeldFile(self.0)
    }

    /// Checks that the caller may use a file that is not public.
    ///
    /// It is the opener that must have been privileged: a file given to another process keeps its
    /// rights, as one that was tricked into writing to it gains none. C: `file_ns_capable()`.
    fn check(&self) -> Result {
        // SAFETY: By the type invariants; `init_user_ns` is there always.
        let capable = unsafe {
            bindings::file_ns_capable(
                self.0.as_ptr(),
                &raw mut bindings::init_user_ns,
                bindings::CAP_NET_ADMIN as c_int,
            )
        };

        if capable && net::current_is_in_init() {
            Ok(())
        } else {
            Err(EPERM)
        }
    }

    /// Gives what kernfs keeps for an open file.
    ///
    /// C: `kernfs_of()`: every open file of kernfs has a `seq_file`, this one too.
    fn kernfs(&self) -> *mut kernfs_open_file {
        // SAFETY: By the type invariants.
        unsafe { (*(*self.0.as_ptr()).private_data.cast::<seq_file>()).private }.cast()
    }

    /// Gives what is remembered of the open file.
    ///
    /// It is kept in `priv`, which kernfs leaves to its user; sysfs makes no use of it.
    fn open_state(&self) -> OpenState {
        // SAFETY: By the type invariants nobody writes to it at the same time.
        OpenState(unsafe { (*self.kernfs()).priv_ } as u64)
    }

    /// Remembers something of the open file.
    fn remember(&self, state: OpenState) {
        static_assert!(size_of::<*mut c_void>() == size_of::<OpenState>());

        // SAFETY: By the type invariants nobody uses it at the same time.
        unsafe { (*self.kernfs()).priv_ = state.0 as *mut c_void };
    }

    /// Has [`Self::is_stopped()`] tell so from now on.
    pub(crate) fn stop(&self, stopped: bool) {
        let OpenState(state) = self.open_state();

        self.remember(OpenState(match stopped {
            true => state | OpenState::STOPPED,
            false => state & !OpenState::STOPPED,
        }));
    }

    /// Tells whether this open file was stopped.
    pub(crate) fn is_stopped(&self) -> bool {
        self.open_state().0 & OpenState::STOPPED != 0
    }
}

/// An open file that is kept: while it is, no other is at its place.
///
/// # Invariants
///
/// Owns a reference on a `struct file`.
pub(crate) struct HeldFile(NonNull<file>);

// SAFETY: A file may be used by any thread.
unsafe impl Send for HeldFile {}
// SAFETY: As above.
unsafe impl Sync for HeldFile {}

impl HeldFile {
    /// Tells whether `other` is the same open file.
    pub(crate) fn is(&self, other: &OpenFile<'_>) -> bool {
        self.0 == other.0
    }

    /// Tells whether all others have closed it. C: `file_count()`.
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

/// A file in a [`Directory`], removed when dropped.
///
/// That waits for the calls in flight: whoever drops it must hold no lock that [`File`]'s functions
/// take.
///
/// # Invariants
///
/// `attribute` is in `directory`, and its `private` points at this.
#[pin_data(PinnedDrop)]
pub(crate) struct Attribute<T: File> {
    file: T,
    directory: Arc<Directory>,
    #[pin]
    attribute: Opaque<bin_attribute>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: The description is not written to after `new()`; the rest may be sent.
unsafe impl<T: File> Send for Attribute<T> {}
// SAFETY: As above; `T` is `Sync`.
unsafe impl<T: File> Sync for Attribute<T> {}

impl<T: File> Attribute<T> {
    /// Puts the file into the directory: it may be opened before this has returned.
    ///
    /// Process context; fails with `ENOMEM`, or `EEXIST`. C: `sysfs_create_bin_file()`.
    pub(crate) fn new(directory: Arc<Directory>, file: T) -> impl PinInit<Self, Error> {
        try_pin_init!(&this in Self {
            file,
            directory,
            attribute: Opaque::new(Self::attribute(this.as_ptr())),
            _pin: PhantomPinned,
            _: {
                // SAFETY: Both are initialised, and stay where they are until `drop()` has removed
                // the file.
                to_result(unsafe {
                    bindings::sysfs_create_bin_file(directory.0.as_ptr(), attribute.get())
                })?
            },
        })
    }

    /// Fills in the description of the file that is at `this`.
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
        // SAFETY: By the type invariants it is there. The call waits for those in flight, and no
        // others come.
        unsafe { bindings::sysfs_remove_bin_file(self.directory.0.as_ptr(), self.attribute.get()) };
    }
}

/// Gives the file and the open file of a call, after checking that it may be made.
///
/// # Safety
///
/// Both must be what a binary attribute of this module was called with, and `'a` the call.
unsafe fn enter<'a, T: File>(
    file: *mut file,
    attribute: *const bin_attribute,
) -> Result<(&'a T, OpenFile<'a>)> {
    // SAFETY: `private` was set by `Attribute::new()`; kernfs keeps the attribute from being removed
    // during the call.
    let this = unsafe { &*(*attribute).private.cast::<Attribute<T>>() };
    // INVARIANT: By the safety requirements.
    let file = OpenFile(NonNull::new(file).ok_or(EINVAL)?, PhantomData);

    if !T::PUBLIC {
        file.check()?;
    }
    Ok((&this.file, file))
}

/// Gives what a function of C returns for a number of bytes or an error.
fn to_ssize(result: Result<usize>) -> isize {
    match result {
        Ok(n) => n as isize,
        Err(e) => e.to_errno() as isize,
    }
}

/// Reads from a file.
///
/// # Safety
///
/// To be used as `read` of an [`Attribute`]'s description only.
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
        // SAFETY: sysfs lends `count` bytes for the call, which are initialised here.
        let page = unsafe {
            page.write_bytes(0, count);
            slice::from_raw_parts_mut(page, count)
        };

        let mut state = file.open_state();
        let n = read_lines(&this.lines()?, &mut state, offset, page)?;

        file.remember(state);
        Ok(n)
    };

    to_ssize(read())
}

/// Writes to a file.
///
/// # Safety
///
/// To be used as `write` of an [`Attribute`]'s description only.
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
        // SAFETY: sysfs lends `count` bytes of text for the call.
        let text = unsafe { slice::from_raw_parts(text, count) };

        this.write(&file, text).map(|()| count)
    };

    to_ssize(write())
}
