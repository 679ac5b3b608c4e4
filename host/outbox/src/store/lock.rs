//! One process per outbox: a file beside it that is locked for as long as the process lives.
//!
//! Not the database itself: closing a second descriptor of that would let go of SQLite's own locks.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use super::OpenError;

/// The lock. Dropping it, or the end of the process in any way, lets it go.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

impl Lock {
    /// Take it. `outbox` is free of links.
    pub(crate) fn take(outbox: &Path) -> Result<Self, OpenError> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = beside(outbox);
        let unusable = |error: std::io::Error| OpenError::Unusable {
            path: outbox.to_owned(),
            problem: format!("its lock {}: {error}", path.display()),
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Who it is helps, but is not needed.
                let _ = file.take(16).read_to_string(&mut text);
                return Err(OpenError::InUse { path: outbox.to_owned(), owner: text.trim().parse().ok() });
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        // On a full disk the lock holds without a number in it.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self(file))
    }
}

/// The lock's file. It stays when nobody has it: removing it would race with who takes it next.
fn beside(outbox: &Path) -> PathBuf {
    let mut name = outbox.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}
