//! The thread that makes lines of exchanges and writes them, one by one. The disk is its alone to wait for.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

use tidegate_testing::recording::LONGEST_LINE;

use super::draft::Draft;
use super::folder::{AppendError, Folder, FolderError};
use super::{Counts, Loss};

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Message {
    /// Write it.
    Exchange(Box<Draft>),
    /// End. Whatever was sent before has been written by then.
    Close,
}

/// Start it.
pub(super) fn start(
    queue: Receiver<Message>,
    folder: Folder,
    counts: Arc<Counts>,
) -> Result<JoinHandle<()>, FolderError> {
    std::thread::Builder::new()
        .name("recorder".to_owned())
        .spawn(move || write(&queue, folder, &counts))
        .map_err(FolderError::Thread)
}

fn write(queue: &Receiver<Message>, mut folder: Folder, counts: &Counts) {
    let mut line = Vec::new();
    while let Ok(Message::Exchange(draft)) = queue.recv() {
        write_one(draft, &mut line, &mut folder, counts);
        counts.settled();
        // One long exchange must not take its memory for ever.
        line.shrink_to(1 << 20);
    }
}

fn write_one(draft: Box<Draft>, line: &mut Vec<u8>, folder: &mut Folder, counts: &Counts) {
    let Some(exchange) = draft.into_recorded() else { return };
    line.clear();
    if serde_json::to_writer(&mut *line, &exchange).is_err() {
        // Strings, numbers and lists always become JSON.
        return;
    }
    if line.len() > LONGEST_LINE {
        // Nobody could read it.
        return counts.dropped(Loss::Length);
    }
    line.push(b'\n');
    match folder.append(line) {
        Ok(()) => counts.wrote(line.len()),
        Err(AppendError::Length) => counts.dropped(Loss::Length),
        Err(AppendError::Disk(error)) => counts.dropped_because(Loss::Disk, error.as_ref()),
    }
}
