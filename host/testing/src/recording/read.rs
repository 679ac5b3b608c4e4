//! Who reads a recording: line by line, and never more than fits into memory.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use super::{RecordedExchange, SCHEMA};

/// The longest line that is read, bytes: a request and two responses, all of whose bytes JSON may write in six.
pub const LONGEST_LINE: usize = 64 << 20;

/// Bytes of lines whose exchanges are in memory together: twice what a gateway keeps unless it is told otherwise.
const MOST: usize = 512 << 20;

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The system says no.
    #[error("{}: {problem}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        problem: String,
    },
    /// There is no exchange.
    #[error("{} has no files `exchanges-*.ndjson`", .0.display())]
    Empty(PathBuf),
    /// A line is none of this version.
    #[error("{}:{line}: {problem}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// There are too many exchanges for the memory.
    #[error("{} has more than {} MiB of exchanges", .0.display(), MOST >> 20)]
    TooLarge(PathBuf),
}

/// Read a recording: a folder, or one of its files. The exchanges come in the order in which they began.
///
/// # Errors
/// When a file cannot be read, is none, or there is more than 512 MiB. The last line of a file may be broken off, as the end
/// of a gateway may leave it.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<RecordedExchange>, RecordingError> {
    read_where(path, |_| true)
}

/// The same, of the exchanges of which `is_wanted` says so. Of the others no more than one is in memory.
///
/// # Errors
/// As those of [`read`]; 512 MiB is for the exchanges that are wanted.
pub fn read_where(
    path: impl AsRef<Path>,
    is_wanted: impl FnMut(&RecordedExchange) -> bool,
) -> Result<Vec<RecordedExchange>, RecordingError> {
    read_within(MOST, path.as_ref(), is_wanted)
}

fn read_within(
    most: usize,
    path: &Path,
    mut is_wanted: impl FnMut(&RecordedExchange) -> bool,
) -> Result<Vec<RecordedExchange>, RecordingError> {
    let (mut exchanges, mut bytes) = (Vec::new(), 0);
    for file in files(path)? {
        let mut lines = Lines::of(&file)?;
        while let Some(exchange) = lines.read()? {
            if is_wanted(&exchange) {
                bytes += lines.line.len();
                exchanges.push(exchange);
            }
            if bytes > most {
                return Err(RecordingError::TooLarge(path.to_owned()));
            }
        }
    }
    exchanges.sort_by_key(|exchange| exchange.at_ms);
    Ok(exchanges)
}

fn unreadable(path: &Path) -> impl Fn(std::io::Error) -> RecordingError {
    move |error| RecordingError::Unreadable { path: path.to_owned(), problem: error.to_string() }
}

/// The files of a recording, the oldest first.
fn files(path: &Path) -> Result<Vec<PathBuf>, RecordingError> {
    if !std::fs::metadata(path).map_err(unreadable(path))?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable(path))? {
        let entry = entry.map_err(unreadable(path))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("exchanges-") && name.ends_with(".ndjson") {
            files.push(entry.path());
        }
    }
    if files.is_empty() {
        return Err(RecordingError::Empty(path.to_owned()));
    }
    files.sort();
    Ok(files)
}

/// The lines of a file, one in memory at a time.
struct Lines<'f> {
    file: &'f Path,
    reader: BufReader<File>,
    line: Vec<u8>,
    /// The number of the line, from 1.
    number: usize,
}

impl<'f> Lines<'f> {
    fn of(file: &'f Path) -> Result<Self, RecordingError> {
        let reader = BufReader::new(File::open(file).map_err(unreadable(file))?);
        Ok(Self { file, reader, line: Vec::new(), number: 0 })
    }

    /// The next exchange; `None` at the end, and before a line that is broken off.
    fn read(&mut self) -> Result<Option<RecordedExchange>, RecordingError> {
        self.number += 1;
        self.line.clear();
        // One byte more than is taken, so that a longer line shows.
        let mut reader = self.reader.by_ref().take(LONGEST_LINE as u64 + 1);
        reader.read_until(b'\n', &mut self.line).map_err(unreadable(self.file))?;
        let malformed =
            |problem: String| RecordingError::Malformed { file: self.file.to_owned(), line: self.number, problem };
        match self.line.strip_suffix(b"\n") {
            Some(line) => parse(line).map(Some).map_err(malformed),
            None if self.line.len() > LONGEST_LINE => Err(malformed(format!("longer than {} MiB", LONGEST_LINE >> 20))),
            None => Ok(None),
        }
    }
}

fn parse(line: &[u8]) -> Result<RecordedExchange, String> {
    let exchange: RecordedExchange = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    if exchange.schema != SCHEMA {
        return Err(format!("schema {}; this version reads {SCHEMA}", exchange.schema));
    }
    // What cannot be sent again is told of here, and not when it is sent.
    exchange.request.request()?;
    if let Some(upstream) = &exchange.upstream {
        upstream.response()?;
    }
    exchange.answer.body.content.bytes()?;
    Ok(exchange)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_has_to_fit_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let line = |id: u8, at_ms: u64| {
            format!(
                r#"{{"schema":1,"id":"{id}","at_ms":{at_ms},"request":{{"method":"GET","target":"/","headers":[]}},
                "answer":{{"status":200,"headers":[]}}}}"#
            )
            .replace('\n', "")
                + "\n"
        };
        let (one, other) = (line(1, 8), line(2, 7));
        std::fs::write(folder.path().join("exchanges-1.ndjson"), one.clone() + &other).expect("written");
        std::fs::write(folder.path().join("exchanges-2.ndjson"), line(3, 9)).expect("written");
        let ids = |most, wanted: &str| {
            let exchanges = read_within(most, folder.path(), |exchange| wanted.contains(&exchange.id))?;
            Ok::<_, RecordingError>(exchanges.into_iter().map(|exchange| exchange.id).collect::<Vec<_>>())
        };
        let room = one.len() + other.len();
        assert_eq!(ids(room, "12").expect("they fit"), ["2", "1"]);
        assert_eq!(ids(room, "3").expect("it fits"), ["3"]);
        assert_eq!(ids(0, "").expect("nothing fits always"), [""; 0]);
        assert!(matches!(ids(room, "123"), Err(RecordingError::TooLarge(_))));
    }
}
