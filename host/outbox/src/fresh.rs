//! Events on their way from the writer to a sink's delivery, in memory.
//!
//! A delivery that keeps up gets what has been accepted from here, and reads nothing. What it is behind with is in the file
//! alone: here is a bounded part of the order, its latest, or nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::event::Event;
use crate::store::write::Accepted;

/// The most events that are kept.
const MOST_EVENTS: usize = 4_096;
/// The most bytes of them, all of their text and their bodies.
const MOST_BYTES: u64 = 4 << 20;

/// What has been accepted lately for one sink.
#[derive(Debug)]
pub(crate) struct Fresh {
    /// All that the sink gets behind this place in the order, up to `committed`, is in `events`.
    after: i64,
    /// The last place in the order that is in the file, as far as it matters to this sink.
    committed: i64,
    events: VecDeque<(i64, Arc<Event>)>,
    bytes: u64,
}

/// What is new to somebody who knows the order up to some place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum New {
    /// Nothing.
    Nothing,
    /// These, up to this place; there are no others.
    Here(Vec<(i64, Arc<Event>)>, i64),
    /// It is to be read from the file, which has everything up to this place.
    InFile(i64),
}

impl Fresh {
    /// Everything up to this place is in the file alone.
    pub(crate) fn new(committed: i64) -> Self {
        Self { after: committed, committed, events: VecDeque::new(), bytes: 0 }
    }

    /// Events that are in the file now, in their order, the next for this sink. How many those were.
    pub(crate) fn put<'a>(&mut self, accepted: impl Iterator<Item = &'a Accepted>) -> u64 {
        let mut count = 0;
        for Accepted { seq, event, size } in accepted {
            count += 1;
            self.committed = *seq;
            if self.events.len() >= MOST_EVENTS || self.bytes.saturating_add(*size) > MOST_BYTES {
                // Whoever is so far behind reads the file; that gets it to this place.
                self.clear();
                self.after = *seq;
            } else {
                self.bytes += size;
                self.events.push_back((*seq, Arc::clone(event)));
            }
        }
        count
    }

    /// What comes after this place. It is not kept any longer.
    pub(crate) fn take(&mut self, known: i64) -> New {
        if self.committed <= known {
            self.clear();
            self.after = self.committed;
            return New::Nothing;
        }
        if known < self.after {
            return New::InFile(self.committed);
        }
        // Reading may have gone beyond what was said to be in the file.
        let events = self.events.drain(..).filter(|(seq, _)| *seq > known).collect();
        self.bytes = 0;
        self.after = self.committed;
        New::Here(events, self.committed)
    }

    fn clear(&mut self) {
        self.events.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn accepted(seq: i64, size: u64) -> Accepted {
        let event = Event {
            id: Uuid::nil(),
            source: Arc::from("s"),
            topic: Arc::from("t"),
            key: None,
            content_type: None,
            attributes: Vec::new(),
            accepted: Duration::ZERO,
            body: Bytes::new(),
        };
        Accepted { seq, event: Arc::new(event), size }
    }

    fn put(fresh: &mut Fresh, seqs: std::ops::RangeInclusive<i64>, size: u64) {
        let all: Vec<Accepted> = seqs.map(|seq| accepted(seq, size)).collect();
        fresh.put(all.iter());
    }

    fn places(new: New) -> Option<Vec<i64>> {
        match new {
            New::Here(events, _) => Some(events.into_iter().map(|(seq, _)| seq).collect()),
            New::Nothing => Some(Vec::new()),
            New::InFile(_) => None,
        }
    }

    #[test]
    fn who_keeps_up_gets_each_event_once_and_reads_nothing() {
        let mut fresh = Fresh::new(7);
        assert_eq!(fresh.take(7), New::Nothing);
        put(&mut fresh, 8..=9, 1);
        assert_eq!(places(fresh.take(7)), Some(vec![8, 9]));
        assert_eq!(fresh.take(9), New::Nothing);
        put(&mut fresh, 12..=13, 1);
        assert_eq!(places(fresh.take(9)), Some(vec![12, 13]), "places of other sinks are none of ours");
    }

    #[test]
    fn what_was_there_before_is_read_and_what_reading_has_found_is_not_given_again() {
        let mut fresh = Fresh::new(7);
        put(&mut fresh, 8..=10, 1);
        assert_eq!(fresh.take(0), New::InFile(10));
        // The read began before 9 and 10 were there, or after it.
        assert_eq!(places(fresh.take(8)), Some(vec![9, 10]));
    }

    #[test]
    fn more_events_or_bytes_than_are_kept_are_read_from_the_file() {
        for (count, size) in [(MOST_EVENTS as i64 + 1, 1), (5, MOST_BYTES / 4), (1, MOST_BYTES + 1)] {
            let mut fresh = Fresh::new(0);
            put(&mut fresh, 1..=count, size);
            assert!(fresh.events.is_empty() && fresh.bytes == 0, "{count} of {size} bytes");
            put(&mut fresh, count + 1..=count + 2, 1);
            assert_eq!(fresh.take(0), New::InFile(count + 2));
            assert_eq!(fresh.take(count - 1), New::InFile(count + 2));
            assert_eq!(places(fresh.take(count)), Some(vec![count + 1, count + 2]), "and then it keeps up again");
        }
    }

    proptest! {
        /// A reader that takes what is here and reads the rest, in steps as small as it likes, sees every place once, in order.
        #[test]
        fn nothing_is_skipped_and_nothing_comes_twice(
            steps in proptest::collection::vec((0..9_i64, 0..4_u64, 0..5_i64), 1..60)
        ) {
            let mut fresh = Fresh::new(3);
            let (mut last, mut known, mut seen) = (3, 0, Vec::new());
            for (count, quarters, at_a_time) in steps {
                put(&mut fresh, last + 1..=last + count, quarters * MOST_BYTES / 4);
                last += count;
                for _ in 0..at_a_time {
                    match fresh.take(known) {
                        New::Nothing => prop_assert_eq!(known, last),
                        New::Here(events, up_to) => {
                            seen.extend(events.into_iter().map(|(seq, _)| seq));
                            known = up_to;
                        }
                        New::InFile(up_to) => {
                            let read = (known + 1..=up_to).take(3);
                            seen.extend(read.clone());
                            known = read.last().unwrap_or(known);
                        }
                    }
                    prop_assert!(fresh.events.len() <= MOST_EVENTS && fresh.bytes <= MOST_BYTES);
                }
            }
            prop_assert_eq!(seen, (1..=known).collect::<Vec<_>>());
        }
    }
}
