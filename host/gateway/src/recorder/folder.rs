//! The folder of a recording: files `exchanges-TIME.ndjson`, of which the oldest go when there are too many bytes.
//!
//! A line is in a file whole or not at all, but for the last one of a file whose process or disk ended in the middle of
//! it.

use std::collections::VecDeque;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Into how many files a full folder is divided, so that what goes is no more than this part.
const FILES: u64 = 8;

/// How long a disk that has failed is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The system says no.
    #[error("nothing can be recorded in {}: {error}", path.display())]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another gateway has it.
    #[error("another gateway records in {}", .0.display())]
    InUse(PathBuf),
    /// There is no thread to write it.
    #[error("the recording has no thread: {0}")]
    Thread(io::Error),
}

/// Why a line was not written.
#[derive(Debug)]
pub(super) enum AppendError {
    /// It is longer than the folder may be.
    Length,
    /// The disk has failed, just now or a moment ago.
    Disk(Option<io::Error>),
}

/// The folder. Nobody else writes to it as long as this lives.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// The folder itself, locked.
    _lock: File,
    limit: u64,
    /// Files that are full, the oldest first, and their lengths.
    full: VecDeque<(PathBuf, u64)>,
    current: Option<Current>,
    /// When the newest file was made, in milliseconds since the Unix epoch: what its name says.
    newest: u64,
    disk: Disk,
}

/// The file that is written to.
#[derive(Debug)]
struct Current {
    path: PathBuf,
    file: File,
    /// Bytes in whole lines.
    length: u64,
}

#[derive(Debug)]
enum Disk {
    Sound,
    /// It is not tried again before that.
    Failing(Instant),
}

impl Folder {
    /// Make the folder if it is not there, and a file in it. `limit` is for all files together, those of earlier
    /// recordings included.
    pub(super) fn open(path: &Path, limit: u64) -> Result<Self, FolderError> {
        let unusable = |error| FolderError::Unusable { path: path.to_owned(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        let lock = File::open(path).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FolderError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        let full = earlier(path).map_err(unusable)?;
        let newest = full.back().and_then(|(path, _)| time_of(path)).unwrap_or_default();
        let mut folder =
            Self { path: path.to_owned(), _lock: lock, limit, full, current: None, newest, disk: Disk::Sound };
        folder.current = Some(folder.next().map_err(unusable)?);
        Ok(folder)
    }

    /// Write a line.
    pub(super) fn append(&mut self, line: &[u8]) -> Result<(), AppendError> {
        let length = line.len() as u64;
        if length > self.limit {
            return Err(AppendError::Length);
        }
        if let Disk::Failing(until) = self.disk
            && Instant::now() < until
        {
            return Err(AppendError::Disk(None));
        }
        let written = self.write(line, length);
        self.disk = if written.is_ok() { Disk::Sound } else { Disk::Failing(Instant::now() + PAUSE) };
        written.map_err(|error| AppendError::Disk(Some(error)))
    }

    fn write(&mut self, line: &[u8], length: u64) -> io::Result<()> {
        // Somebody has removed the file: what is written to it now is nowhere.
        self.current.take_if(|current| current.file.metadata().is_ok_and(|about| about.nlink() == 0));
        if let Some(current) =
            self.current.take_if(|current| current.length > 0 && current.length + length > (self.limit / FILES).max(1))
        {
            self.full.push_back((current.path, current.length));
        }
        self.make_room(length)?;
        let current = match &mut self.current {
            Some(current) => current,
            None => {
                let next = self.next()?;
                self.current.insert(next)
            }
        };
        match current.file.write_all(line) {
            Ok(()) => {
                current.length += length;
                Ok(())
            }
            Err(error) => {
                // What there is of the line goes. If it cannot, nothing may come after it.
                if current.file.set_len(current.length).is_err()
                    && let Some(current) = self.current.take()
                {
                    self.full.push_back((current.path, current.length + length));
                }
                Err(error)
            }
        }
    }

    /// The oldest files go until there is room for so many bytes.
    fn make_room(&mut self, length: u64) -> io::Result<()> {
        let current = self.current.as_ref().map_or(0, |current| current.length);
        let full: u64 = self.full.iter().map(|(_, length)| length).sum();
        let mut over = (full + current + length).saturating_sub(self.limit);
        while over > 0 {
            let Some((path, length)) = self.full.front() else { return Ok(()) };
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => over = over.saturating_sub(*length),
            }
            self.full.pop_front();
        }
        Ok(())
    }

    fn next(&mut self) -> io::Result<Current> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        // Names are in the order in which files are made, also when the clock has been set back: the oldest go first.
        self.newest = u64::try_from(now).unwrap_or(u64::MAX).max(self.newest.saturating_add(1));
        let path = self.path.join(format!("exchanges-{:013}.ndjson", self.newest));
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Current { path, file, length: 0 })
    }
}

/// What the name of a file says.
fn time_of(file: &Path) -> Option<u64> {
    file.file_stem()?.to_str()?.strip_prefix("exchanges-")?.parse().ok()
}

/// The files of earlier recordings, the oldest first.
fn earlier(folder: &Path) -> io::Result<VecDeque<(PathBuf, u64)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let about = entry.metadata()?;
        if !name.starts_with("exchanges-") || !name.ends_with(".ndjson") || !about.is_file() {
            continue;
        }
        if about.len() == 0 {
            // Of a gateway that had nothing to record; a hundred starts must not leave a hundred of them.
            std::fs::remove_file(entry.path())?;
        } else {
            files.push((entry.path(), about.len()));
        }
    }
    files.sort();
    Ok(files.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn line(number: u64) -> Vec<u8> {
        format!("{number:099}\n").into_bytes()
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).expect("it can be read");
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("it can be read").path()).collect();
        files.sort();
        files
    }

    fn lines(folder: &Path) -> Vec<String> {
        files(folder)
            .iter()
            .flat_map(|file| {
                let text = std::fs::read_to_string(file).expect("it can be read");
                text.lines().map(|line| line.trim_start_matches('0').to_owned()).collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn the_oldest_files_go_and_the_folder_stays_below_its_bound() {
        let parent = tempfile::tempdir().expect("a folder");
        let path = parent.path().join("a/b");
        let mut folder = Folder::open(&path, 2_000).expect("it can be used");
        for number in 1..=100 {
            folder.append(&line(number)).expect("it is written");
            let bytes: u64 = files(&path).iter().map(|file| std::fs::metadata(file).expect("it is there").len()).sum();
            assert!(bytes <= 2_000, "{bytes} after {number}");
        }
        let kept = lines(&path);
        let last: Vec<String> = (101 - kept.len()..=100).map(|number| number.to_string()).collect();
        assert_eq!(kept, last);
        assert!(kept.len() >= 17, "no more than a file goes at a time: {}", kept.len());
        assert!(matches!(folder.append(&[b'x'; 2_001]), Err(AppendError::Length)));

        drop(folder);
        let mut folder = Folder::open(&path, 500).expect("it can be used again");
        folder.append(&line(101)).expect("it is written");
        let kept = lines(&path);
        assert!(kept.len() <= 5 && kept.last().is_some_and(|last| last == "101"), "{kept:?}");
    }

    #[test]
    fn folder_and_files_are_their_owners_and_one_gateway_s() {
        let parent = tempfile::tempdir().expect("a folder");
        let path = parent.path().join("recording");
        let folder = Folder::open(&path, 2_000).expect("it can be used");
        let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(files(&path).iter().map(|file| mode(file)).collect::<Vec<_>>(), [0o600]);
        assert!(matches!(Folder::open(&path, 2_000), Err(FolderError::InUse(_))));
        drop(folder);
        drop(Folder::open(&path, 2_000).expect("nobody has it any more"));
        assert_eq!(files(&path).len(), 1, "files that are empty go");
        assert!(matches!(Folder::open(Path::new("/dev/null/x"), 2_000), Err(FolderError::Unusable { .. })));
    }

    #[test]
    fn where_somebody_has_removed_the_file_there_is_another_and_no_folder_is_a_failure() {
        let parent = tempfile::tempdir().expect("a folder");
        let path = parent.path().join("recording");
        let mut folder = Folder::open(&path, 2_000).expect("it can be used");
        folder.append(&line(1)).expect("it is written");
        for file in files(&path) {
            std::fs::remove_file(file).expect("it is there");
        }
        folder.append(&line(2)).expect("it is written");
        assert_eq!(lines(&path), ["2"]);
        std::fs::remove_dir_all(&path).expect("it is there");
        assert!(matches!(folder.append(&line(3)), Err(AppendError::Disk(Some(_)))));
    }

    #[test]
    fn a_disk_that_fails_is_left_alone_for_a_moment_and_then_tried_again() {
        let parent = tempfile::tempdir().expect("a folder");
        let mut folder = Folder::open(parent.path(), 2_000).expect("it can be used");
        folder.append(&line(1)).expect("it is written");
        let full = OpenOptions::new().append(true).open("/dev/full").expect("the system has it");
        let sound = std::mem::replace(&mut folder.current.as_mut().expect("there is one").file, full);
        assert!(matches!(folder.append(&line(2)), Err(AppendError::Disk(Some(_)))));
        assert!(matches!(folder.append(&line(3)), Err(AppendError::Disk(None))), "not tried");
        folder.disk = Disk::Failing(Instant::now());
        if let Some(current) = &mut folder.current {
            current.file = sound;
        }
        folder.append(&line(4)).expect("it is sound again");
        assert_eq!(lines(parent.path()), ["1", "4"]);
    }
}
