//! An event as a row, and back.
//!
//! The checksum covers everything that is delivered, and the place in the order. A row that does not have the checksum it
//! was written with is damaged: it is kept, and never delivered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::Row;
use rusqlite::types::ValueRef;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::event::Event;

/// The columns of [`decode`], in its order.
pub(crate) const COLUMNS: &str = "event.seq, event.id, event.checksum, event.accepted, event.source, event.topic, event.key, event.content_type, event.attributes, event.body";
/// How many there are.
pub(crate) const WIDTH: usize = 10;

/// What is wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damage(pub(crate) String);

/// An event's attributes, as they are stored; `None` for none.
pub(crate) fn attributes(event: &Event) -> Option<String> {
    // Pairs of strings always become JSON.
    (!event.attributes.is_empty()).then(|| serde_json::to_string(&event.attributes).unwrap_or_default())
}

/// When it was accepted, as it is stored: microseconds.
pub(crate) fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// The first half of SHA-256 over the row. Not against an adversary, who could write any row: against disks.
pub(crate) fn checksum(seq: i64, event: &Event, attributes: Option<&str>) -> [u8; 16] {
    let mut sum = Sha256::new();
    sum.update(seq.to_le_bytes());
    sum.update(event.id.as_bytes());
    sum.update(micros(event.accepted).to_le_bytes());
    let mut field = |bytes: Option<&[u8]>| {
        // Absent and empty are two things; the length keeps fields apart.
        sum.update(bytes.map_or(u64::MAX, |bytes| bytes.len() as u64).to_le_bytes());
        sum.update(bytes.unwrap_or_default());
    };
    field(Some(event.source.as_bytes()));
    field(Some(event.topic.as_bytes()));
    field(event.key.as_deref().map(str::as_bytes));
    field(event.content_type.as_deref().map(str::as_bytes));
    field(attributes.map(str::as_bytes));
    field(Some(&event.body));
    let mut half = [0; 16];
    half.iter_mut().zip(sum.finalize()).for_each(|(to, from)| *to = from);
    half
}

/// The event of a row whose first columns are [`COLUMNS`].
pub(crate) fn decode(row: &Row<'_>) -> rusqlite::Result<(i64, Result<Event, Damage>)> {
    let seq = row.get(0)?;
    Ok((seq, event(seq, row)?))
}

fn event(seq: i64, row: &Row<'_>) -> rusqlite::Result<Result<Event, Damage>> {
    let bytes = |at| {
        Ok::<_, rusqlite::Error>(match row.get_ref(at)? {
            ValueRef::Blob(bytes) | ValueRef::Text(bytes) => Some(bytes),
            _ => None,
        })
    };
    let text = |at| Ok::<_, rusqlite::Error>(bytes(at)?.and_then(|bytes| std::str::from_utf8(bytes).ok()));
    let accepted = match row.get_ref(3)? {
        ValueRef::Integer(micros) => u64::try_from(micros).ok().map(Duration::from_micros),
        _ => None,
    };
    let attributes = text(8)?;
    let damaged = |what: &str| Ok(Err(Damage(what.to_owned())));
    let (Some(id), Some(sum), Some(accepted)) = (bytes(1)?, bytes(2)?, accepted) else {
        return damaged("its id, its checksum or its time is no such thing");
    };
    let (Ok(id), Some(source), Some(topic), Some(body)) = (Uuid::from_slice(id), text(4)?, text(5)?, bytes(9)?) else {
        return damaged("its id, source, topic or body is no such thing");
    };
    let event = Event {
        id,
        source: Arc::from(source),
        topic: Arc::from(topic),
        key: text(6)?.map(str::to_owned),
        content_type: text(7)?.map(str::to_owned),
        attributes: match attributes.map(serde_json::from_str) {
            None => Vec::new(),
            Some(Ok(attributes)) => attributes,
            Some(Err(_)) => return damaged("its attributes are no such thing"),
        },
        accepted,
        body: Bytes::copy_from_slice(body),
    };
    if checksum(seq, &event, attributes) != sum {
        return damaged("it does not have its checksum");
    }
    Ok(Ok(event))
}
