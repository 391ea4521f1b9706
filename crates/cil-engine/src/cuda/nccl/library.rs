//! NCCL's functions, loaded when they are first asked for: a program on one GPU needs no such library.
//!
//! cudarc's bindings are linked with, so every program would need the library to start; hence these few of our own.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;

use candle_core::{Error, Result};
use libloading::Library;

/// The name of NCCL 2, which is looked for as the loader looks for any.
const NAME: &str = "libnccl.so.2";

/// The bytes by which the ranks of a job find each other.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Id(pub(super) [u8; 128]);

/// A communicator.
pub(super) type Comm = *mut c_void;
/// A stream of the driver.
pub(super) type Stream = *mut c_void;

/// `ncclUint8`
pub(super) const BYTES: c_int = 1;

/// NCCL's functions, by its own names, and those of nccl.h in their order of arguments.
pub(super) struct Functions {
    pub(super) get_unique_id: unsafe extern "C" fn(*mut Id) -> c_int,
    pub(super) comm_init_rank: unsafe extern "C" fn(*mut Comm, c_int, Id, c_int) -> c_int,
    pub(super) group_start: unsafe extern "C" fn() -> c_int,
    pub(super) group_end: unsafe extern "C" fn() -> c_int,
    pub(super) send: unsafe extern "C" fn(*const c_void, usize, c_int, c_int, Comm, Stream) -> c_int,
    pub(super) recv: unsafe extern "C" fn(*mut c_void, usize, c_int, c_int, Comm, Stream) -> c_int,
    pub(super) broadcast:
        unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, c_int, Comm, Stream) -> c_int,
    pub(super) all_gather:
        unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, Comm, Stream) -> c_int,
    get_error_string: unsafe extern "C" fn(c_int) -> *const c_char,
    get_last_error: unsafe extern "C" fn(Comm) -> *const c_char,
}

/// NCCL, if it can be loaded.
///
/// # Errors
/// If there is no such library, or it is older than 2.13.
pub(super) fn nccl() -> Result<&'static Functions> {
    static LOADED: OnceLock<std::result::Result<Functions, String>> = OnceLock::new();
    LOADED.get_or_init(|| load(NAME)).as_ref().map_err(|why| Error::Msg(why.clone()))
}

fn load(name: &str) -> std::result::Result<Functions, String> {
    let found = || {
        // SAFETY: NCCL does nothing when it is loaded, and the signatures are those of its header, which never changed.
        unsafe {
            let library = Library::new(name)?;
            let functions = Functions {
                get_unique_id: *library.get(c"ncclGetUniqueId")?,
                comm_init_rank: *library.get(c"ncclCommInitRank")?,
                group_start: *library.get(c"ncclGroupStart")?,
                group_end: *library.get(c"ncclGroupEnd")?,
                send: *library.get(c"ncclSend")?,
                recv: *library.get(c"ncclRecv")?,
                broadcast: *library.get(c"ncclBroadcast")?,
                all_gather: *library.get(c"ncclAllGather")?,
                get_error_string: *library.get(c"ncclGetErrorString")?,
                get_last_error: *library.get(c"ncclGetLastError")?,
            };
            // It stays loaded: its functions are called as long as the process lives.
            std::mem::forget(library);
            Ok::<_, libloading::Error>(functions)
        }
    };
    found().map_err(|error| {
        let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        format!(
            "processes that share a batch on GPUs need NCCL ({why}); install NCCL 2.13 or newer, or use --device cpu"
        )
    })
}

impl Functions {
    /// An answer of NCCL as a result.
    pub(super) fn check(&self, answer: c_int, doing: &str) -> Result<()> {
        if answer == 0 {
            return Ok(());
        }
        let text = |text: *const c_char| {
            // SAFETY: NCCL's texts end with a zero and are not freed; without a communicator it tells the last error of
            // the process.
            (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
        };
        // SAFETY: as above.
        let (what, last) =
            unsafe { ((self.get_error_string)(answer), (self.get_last_error)(std::ptr::null_mut())) };
        let (what, last) = (text(what).unwrap_or_default(), text(last).unwrap_or_default());
        Err(Error::Msg(format!(
            "NCCL, {doing}: {what} ({last}); set NCCL_DEBUG=WARN to see its own messages"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::load;

    #[test]
    fn a_missing_library_is_one_sentence_that_names_it() {
        let message = load("libnccl-of-nobody.so.2").map(|_| ()).expect_err("there is none");
        assert!(
            message.contains("libnccl-of-nobody.so.2") && message.ends_with("or use --device cpu"),
            "{message}"
        );
        assert!(!message.contains('\n'), "{message}");
        // A library that is not NCCL.
        let message = load("libc.so.6").map(|_| ()).expect_err("it is another one");
        assert!(message.contains("ncclGetUniqueId"), "{message}");
    }
}
