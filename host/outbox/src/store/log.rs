//! A look at SQLite's log before SQLite takes it.
//!
//! SQLite reads its log up to the first frame whose checksum is wrong, and drops the rest without a word: that is how the end of
//! a log looks after a crash. But if a commit of the same log follows behind such a frame, it is not the end: something has
//! changed a frame that was whole, and with it go commits that were promised to be kept. So the log is looked at
//! first, and if it is damaged, a copy is put aside and somebody is told. Frames that are no commit may stand there
//! without any damage: those of a transaction that was given up, or cut off by a crash.
//!
//! One thing cannot be told from an ordinary end: a last frame whose salt has been changed.
//!
//! The format is that of <https://sqlite.org/fileformat2.html#the_write_ahead_log>.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// The last bit says in which order of bytes checksums are made.
const MAGIC: u32 = 0x377f_0682;
/// Pages have 512 to 65,536 bytes.
const PAGES: std::ops::RangeInclusive<usize> = 512..=65_536;

/// What a log looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Log {
    /// There is none, or all of it is whole.
    Sound,
    /// It ends in something that is not whole, as after a crash in the middle of a commit.
    CutOff,
    /// There is more behind what is not whole: so many commits, at least, that SQLite will drop.
    Damaged {
        /// Commits behind the damage; the one that is damaged itself may be one more.
        commits: u64,
    },
}

/// The log of the database at this path.
fn of(database: &Path) -> PathBuf {
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

/// Look at the log of a database that nobody has open, and say what SQLite will not say. Nothing is changed.
pub(super) fn inspect(database: &Path) {
    let log = of(database);
    match look(&log) {
        Ok(Log::Sound) => {}
        Ok(Log::CutOff) => tracing::warn!(
            log = %log.display(),
            "the outbox's log ends in something that is not whole, which is dropped: what a crash has cut off before it \
             was accepted, or the last commit, if something has changed it since"
        ),
        Ok(Log::Damaged { commits }) => {
            let mut kept = log.clone().into_os_string();
            kept.push(".damaged");
            let kept = PathBuf::from(kept);
            let copied =
                std::fs::copy(&log, &kept).map_or_else(|error| error.to_string(), |_| kept.display().to_string());
            tracing::error!(
                log = %log.display(), commits, copy = %copied,
                "the outbox's log is damaged: at least so many commits in it are lost, with the events and the deliveries \
                 that they had; a copy of it is kept"
            );
        }
        // SQLite will have something to say.
        Err(error) => tracing::warn!(log = %log.display(), %error, "the outbox's log cannot be looked at"),
    }
}

/// Look at a log that nobody has open.
fn look(log: &Path) -> io::Result<Log> {
    match File::open(log) {
        Ok(file) => read(BufReader::with_capacity(1 << 20, file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Log::Sound),
        Err(error) => Err(error),
    }
}

fn read(mut log: impl Read) -> io::Result<Log> {
    let mut header = [0; HEADER];
    match fill(&mut log, &mut header)? {
        0 => return Ok(Log::Sound),
        HEADER => {}
        _ => return Ok(Log::CutOff),
    }
    let order = word(&header, 0, Order::Big);
    let order = if order == MAGIC | 1 { Order::Big } else { Order::Little };
    let size = usize::try_from(word(&header, 8, Order::Big)).unwrap_or(usize::MAX);
    let mut sum = Sum::default();
    sum.add(header.get(..24).unwrap_or_default(), order);
    if !sum.is_at(&header, 24) || !PAGES.contains(&size) {
        // Of what follows nothing can be told. If nothing does, it is a log that was just begun.
        let mut next = [0];
        return Ok(if fill(&mut log, &mut next)? == 0 { Log::CutOff } else { Log::Damaged { commits: 0 } });
    }
    let salt = header.get(16..24).unwrap_or_default();
    let mut frame = vec![0; FRAME_HEADER + size];
    let mut end = None;
    // Frames of this log behind its end, and commits among them.
    let (mut behind, mut commits) = (0_u64, 0_u64);
    loop {
        let length = fill(&mut log, &mut frame)?;
        if length < frame.len() {
            if length > 0 && end.is_none() {
                end = Some(End::Broken);
            }
            break;
        }
        let ours = frame.get(8..16) == Some(salt);
        if end.is_some() {
            behind += u64::from(ours);
            commits += u64::from(ours && word(&frame, 4, Order::Big) != 0);
            continue;
        }
        sum.add(frame.get(..8).unwrap_or_default(), order);
        sum.add(frame.get(FRAME_HEADER..).unwrap_or_default(), order);
        if !ours {
            end = Some(End::Older);
        } else if !sum.is_at(&frame, 16) {
            end = Some(End::Broken);
        }
    }
    Ok(match end {
        Some(_) if commits > 0 => Log::Damaged { commits },
        Some(End::Older) if behind == 0 => Log::Sound,
        Some(_) => Log::CutOff,
        None => Log::Sound,
    })
}

/// Where SQLite stops.
#[derive(Debug, Clone, Copy)]
enum End {
    /// At a frame of an earlier log in the same file: the ordinary end of a log that has begun anew.
    Older,
    /// At a frame of this log that is not whole.
    Broken,
}

/// Read until the buffer is full or there is no more. How much there was.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
        match from.read(room) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Big,
    Little,
}

/// The 32 bits at this place; 0 beyond the end.
fn word(bytes: &[u8], at: usize, order: Order) -> u32 {
    let bytes = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
    match order {
        Order::Big => u32::from_be_bytes(bytes),
        Order::Little => u32::from_le_bytes(bytes),
    }
}

/// The checksum of everything so far.
#[derive(Debug, Default)]
struct Sum(u32, u32);

impl Sum {
    fn add(&mut self, bytes: &[u8], order: Order) {
        for pair in bytes.chunks_exact(8) {
            self.0 = self.0.wrapping_add(word(pair, 0, order)).wrapping_add(self.1);
            self.1 = self.1.wrapping_add(word(pair, 4, order)).wrapping_add(self.0);
        }
    }

    fn is_at(&self, bytes: &[u8], at: usize) -> bool {
        (self.0, self.1) == (word(bytes, at, Order::Big), word(bytes, at + 4, Order::Big))
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "in a test a panic is a failure")]
mod tests {
    use proptest::prelude::*;
    use rusqlite::Connection;

    use super::*;

    /// A log with a commit for each of these, as a process leaves it that is killed. `begun` are in the database already,
    /// and the log has begun anew over theirs.
    fn log(begun: usize, commits: usize) -> Vec<u8> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("db");
        let connection = Connection::open(&path).expect("a database");
        connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x BLOB)").expect("a table");
        let insert = |count| {
            for _ in 0..count {
                connection.execute("INSERT INTO t VALUES (zeroblob(100))", []).expect("a row");
            }
        };
        insert(begun);
        connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).expect("a checkpoint");
        insert(commits);
        std::fs::read(of(&path)).expect("the log")
    }

    #[test]
    fn a_log_that_is_whole_is_sound_whatever_was_in_its_file_before() {
        for (begun, commits) in [(0, 1), (0, 7), (5, 2), (20, 1), (3, 30)] {
            assert_eq!(read(&*log(begun, commits)).expect("read"), Log::Sound, "{begun} {commits}");
        }
        assert_eq!(read(&[][..]).expect("read"), Log::Sound);
        assert_eq!(look(Path::new("/no/such/log")).expect("none"), Log::Sound);
    }

    #[test]
    fn what_is_missing_at_the_end_is_cut_off() {
        let log = log(0, 5);
        for torn in [1, 100, 4_119] {
            assert_eq!(read(&log[..log.len() - torn]).expect("read"), Log::CutOff, "{torn}");
        }
        assert_eq!(read(&log[..20]).expect("read"), Log::CutOff);
    }

    #[test]
    fn frames_of_a_transaction_that_was_given_up_are_no_damage() {
        let whole = log(0, 5);
        // No commit, of the same log, and with a checksum that does not go on from the one before.
        let mut given_up = whole[HEADER..HEADER + FRAME_HEADER + 4_096].to_vec();
        given_up[4..8].fill(0);
        let log = [&*whole, &*given_up, &*given_up].concat();
        assert_eq!(read(&*log).expect("read"), Log::CutOff);
    }

    #[test]
    fn a_header_that_is_damaged_hides_everything() {
        let mut log = log(0, 5);
        for at in [0, 9, 17, 30] {
            log[at] ^= 0x40;
            assert_eq!(read(&*log).expect("read"), Log::Damaged { commits: 0 }, "{at}");
            log[at] ^= 0x40;
        }
    }

    proptest! {
        #[test]
        fn a_flipped_byte_is_found_wherever_it_is(at in any::<prop::sample::Index>(), bits in 1..=u8::MAX) {
            let mut log = log(0, 6);
            let frames = (log.len() - HEADER) / (FRAME_HEADER + 4_096);
            let at = at.index(log.len());
            log[at] ^= bits;
            let last = at >= HEADER + (frames - 1) * (FRAME_HEADER + 4_096);
            let found = read(&*log).expect("read");
            // The last frame may be the end; with another salt, it looks like that of an older log.
            prop_assert!(matches!(found, Log::Damaged { .. }) || last, "{at}: {found:?}");
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..3_000)) {
            let _ = read(&*bytes);
        }
    }
}
