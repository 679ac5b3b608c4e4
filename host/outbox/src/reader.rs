//! The one thread that reads events back. Reading waits for the disk, so it is nothing for the tasks that deliver.

use std::sync::mpsc::{Receiver, Sender, channel};

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::store::describe;
use crate::store::read::{Waiting, waiting, waiting_among};

/// Where to ask. The thread ends with the last of them.
#[derive(Debug, Clone)]
pub(crate) struct Reader(Sender<Request>);

#[derive(Debug)]
struct Request {
    sink: i64,
    which: Which,
    reply: oneshot::Sender<Result<Vec<Waiting>, String>>,
}

/// Which of a sink's deliveries.
#[derive(Debug)]
pub(crate) enum Which {
    /// Those after this place in the order; as many events, and about as many bytes.
    After(i64, usize, usize),
    /// Those at these places.
    At(Vec<i64>),
}

impl Reader {
    /// Read on a thread of its own.
    pub(crate) fn start(connection: Connection) -> std::io::Result<Self> {
        let (sender, requests) = channel();
        // It holds nothing but the connection, and ends when nobody can ask any more.
        std::thread::Builder::new().name("outbox-reader".to_owned()).spawn(move || run(&connection, &requests))?;
        Ok(Self(sender))
    }

    /// Deliveries that wait for a sink.
    pub(crate) async fn read(&self, sink: i64, which: Which) -> Result<Vec<Waiting>, String> {
        let (reply, answer) = oneshot::channel();
        // Workers ask one at a time each: what queues here is bounded by their number.
        let sent = self.0.send(Request { sink, which, reply });
        match (sent, answer.await) {
            (Ok(()), Ok(answer)) => answer,
            _ => Err("the thread that reads the outbox is gone".to_owned()),
        }
    }
}

fn run(connection: &Connection, requests: &Receiver<Request>) {
    while let Ok(Request { sink, which, reply }) = requests.recv() {
        let found = match which {
            Which::After(after, most, bytes) => waiting(connection, sink, after, most, bytes),
            Which::At(seqs) => waiting_among(connection, sink, &seqs),
        };
        // Who asked may have been told to stop.
        let _ = reply.send(found.map_err(|error| describe(&error)));
    }
}
