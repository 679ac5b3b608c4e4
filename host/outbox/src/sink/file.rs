//! The sink `file`: a line of JSON per event, in a file that is rotated by its size.
//!
//! A call's lines are in the file as a whole or not at all: what a full disk cut off is taken back. A line that a crash
//! cut off is ended, so that the next one is not lost with it.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::lines::{LineSink, Lines};
use super::{Sink, SinkError};
use crate::event::Event;
use crate::store::Durability;

/// Where and how lines are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileOptions {
    /// The file. Its folder has to be there when something is written.
    pub path: PathBuf,
    /// A file that has reached this many bytes is put aside before more is written.
    pub rotate: u64,
    /// How many are kept that were put aside: `path.1` is the latest, and the oldest is removed. 0 keeps none.
    pub keep: usize,
    /// Whether lines are on the disk before they count as delivered.
    pub durability: Durability,
}

/// Writes events to a file.
#[derive(Debug)]
pub struct FileSink(LineSink);

impl FileSink {
    /// Opens nothing yet.
    ///
    /// # Errors
    /// When there can be no thread for it.
    pub fn new(options: FileOptions) -> std::io::Result<Self> {
        LineSink::start("outbox-file", Log { options, open: None }).map(Self)
    }
}

impl Sink for FileSink {
    fn deliver(&self, events: Vec<Arc<Event>>) -> BoxFuture<'_, Result<(), SinkError>> {
        self.0.deliver(events)
    }

    fn batch(&self) -> usize {
        self.0.batch()
    }
}

struct Log {
    options: FileOptions,
    open: Option<Open>,
}

struct Open {
    file: File,
    length: u64,
    /// Device and number: whether the name still means this file.
    identity: (u64, u64),
}

impl Lines for Log {
    fn write(&mut self, text: &[u8]) -> Result<(), String> {
        self.append(text).map_err(|error| {
            // Whatever it was, it begins anew.
            self.open = None;
            format!("{}: {error}", self.options.path.display())
        })
    }
}

impl Log {
    fn append(&mut self, text: &[u8]) -> std::io::Result<()> {
        let (path, durability) = (self.options.path.clone(), self.options.durability);
        let mut open = match self.open.take().filter(|open| open.is_at(&path)) {
            Some(open) => open,
            None => Open::at(&path, durability)?,
        };
        if open.length >= self.options.rotate && open.length > 0 {
            drop(open);
            self.put_aside()?;
            open = Open::at(&path, durability)?;
        }
        open.append(text, durability)?;
        self.open = Some(open);
        Ok(())
    }

    /// `path` becomes `path.1`, `path.1` becomes `path.2`, and so on.
    fn put_aside(&self) -> std::io::Result<()> {
        let FileOptions { path, keep, durability, .. } = &self.options;
        let aside = |number: usize| match number {
            0 => path.clone(),
            number => {
                let mut name = path.as_os_str().to_owned();
                name.push(format!(".{number}"));
                PathBuf::from(name)
            }
        };
        if *keep == 0 {
            std::fs::remove_file(path)?;
        }
        for number in (0..*keep).rev() {
            match std::fs::rename(aside(number), aside(number + 1)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        sync_folder(path, *durability)
    }
}

impl Open {
    fn at(path: &Path, durability: Durability) -> std::io::Result<Self> {
        // A named pipe nobody reads would block, and a device never fills.
        if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(std::io::Error::other("it is there, and it is no file"));
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)?;
        sync_folder(path, durability)?;
        let metadata = file.metadata()?;
        let (mut length, identity) = (metadata.len(), (metadata.dev(), metadata.ino()));
        if length > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                length += 1;
            }
        }
        Ok(Self { file, length, identity })
    }

    /// Somebody else may rotate it as well.
    fn is_at(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity)
    }

    fn append(&mut self, text: &[u8], durability: Durability) -> std::io::Result<()> {
        let written = self.file.write_all(text).and_then(|()| match durability {
            Durability::Process => Ok(()),
            Durability::Power => self.file.sync_data(),
        });
        match written {
            Ok(()) => {
                self.length += text.len() as u64;
                Ok(())
            }
            Err(error) => {
                // If not even that works, the torn line is ended when the file is opened again.
                let _ = self.file.set_len(self.length);
                Err(error)
            }
        }
    }
}

fn sync_folder(path: &Path, durability: Durability) -> std::io::Result<()> {
    match durability {
        Durability::Process => Ok(()),
        Durability::Power => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder)?.sync_all()
        }
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a missing member fails the test")]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;

    fn options(folder: &Path) -> FileOptions {
        FileOptions { path: folder.join("events"), rotate: 1 << 20, keep: 2, durability: Durability::Power }
    }

    fn event(number: u128) -> Arc<Event> {
        Arc::new(Event {
            id: Uuid::from_u128(number),
            source: Arc::from("audit"),
            topic: Arc::from("audit.login"),
            key: None,
            content_type: None,
            attributes: Vec::new(),
            accepted: Duration::ZERO,
            body: Bytes::from_static(b"body"),
        })
    }

    fn numbers(path: &Path) -> Vec<u128> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let number = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            line["id"].as_str().and_then(|id| id.parse::<Uuid>().ok()).expect("an id").as_u128()
        };
        text.lines().map(number).collect()
    }

    #[tokio::test]
    async fn every_event_is_a_line_in_its_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let sink = FileSink::new(options(folder.path())).expect("a thread");
        assert_eq!(sink.deliver((1..=3).map(event).collect()).await, Ok(()));
        assert_eq!(sink.deliver(vec![event(4)]).await, Ok(()));
        assert_eq!(numbers(&folder.path().join("events")), [1, 2, 3, 4]);
    }

    #[tokio::test]
    async fn a_file_that_has_its_size_is_put_aside_and_the_oldest_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let sink = FileSink::new(FileOptions { rotate: 1, ..options(folder.path()) }).expect("a thread");
        for number in 1..=4 {
            assert_eq!(sink.deliver(vec![event(number)]).await, Ok(()));
        }
        let names = ["events", "events.1", "events.2", "events.3"].map(|name| numbers(&folder.path().join(name)));
        assert_eq!(names, [vec![4], vec![3], vec![2], vec![]]);
    }

    #[tokio::test]
    async fn a_line_that_a_crash_cut_off_is_ended() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("events");
        std::fs::write(&path, "{\"id\":\"torn").expect("written");
        let sink = FileSink::new(options(folder.path())).expect("a thread");
        assert_eq!(sink.deliver(vec![event(1)]).await, Ok(()));
        let text = std::fs::read_to_string(&path).expect("text");
        assert!(text.starts_with("{\"id\":\"torn\n{\"specversion\""), "{text}");
    }

    #[tokio::test]
    async fn a_file_that_somebody_else_has_moved_is_begun_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("events");
        let sink = FileSink::new(options(folder.path())).expect("a thread");
        assert_eq!(sink.deliver(vec![event(1)]).await, Ok(()));
        std::fs::rename(&path, folder.path().join("moved")).expect("moved");
        assert_eq!(sink.deliver(vec![event(2)]).await, Ok(()));
        assert_eq!((numbers(&folder.path().join("moved")), numbers(&path)), (vec![1], vec![2]));
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_out_of_reach_until_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("later/events");
        let sink = FileSink::new(FileOptions { path: path.clone(), ..options(folder.path()) }).expect("a thread");
        let error = sink.deliver(vec![event(1)]).await.expect_err("no folder");
        assert!(
            matches!(&error.problem, super::super::Problem::Unreachable(text) if text.contains("later/events")),
            "{error}"
        );
        std::fs::create_dir(folder.path().join("later")).expect("a folder");
        assert_eq!(sink.deliver(vec![event(1)]).await, Ok(()));
        assert_eq!(numbers(&path), [1]);
    }
}
