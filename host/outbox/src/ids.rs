//! Ids of events: UUIDs of version 7 (RFC 9562), each greater than the one before.
//!
//! The random numbers are this thread's. [`uuid::Uuid::now_v7`] asks the system for some three times for each id, which is a
//! tenth of what it takes to accept an event.

use std::time::Duration;

use uuid::{Builder, Uuid};

/// The counter has so many bits. It begins each millisecond at random, with its highest bit clear (RFC 9562, section 6.2,
/// method 1).
const COUNTER_BITS: u32 = 42;
/// Of these, those that come behind the variant.
const LOW_BITS: u32 = 30;

/// Makes ids.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    millis: u64,
    counter: u64,
}

impl Ids {
    /// The next id, at this time since the Unix epoch. If the clock has been set back, the latest time that was seen counts.
    pub(crate) fn next(&mut self, now: Duration) -> Uuid {
        let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.counter += 1;
        if millis > self.millis {
            self.begin(millis);
        } else if self.counter >> COUNTER_BITS != 0 {
            // There were more in one millisecond than there are numbers: the rest borrow from the next.
            self.begin(self.millis.saturating_add(1));
        }
        let [.., high0, high1] = (self.counter >> LOW_BITS).to_be_bytes();
        let [.., low0, low1, low2, low3] = (self.counter & ((1 << LOW_BITS) - 1)).to_be_bytes();
        let [random0, random1, random2, random3] = rand::random::<[u8; 4]>();
        let rest = [high0, high1, low0, low1, low2, low3, random0, random1, random2, random3];
        Builder::from_unix_timestamp_millis(self.millis, &rest).into_uuid()
    }

    fn begin(&mut self, millis: u64) {
        self.millis = millis;
        self.counter = rand::random::<u64>() >> (u64::BITS - COUNTER_BITS + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn an_id_is_a_uuid_of_version_7_with_its_time_in_front() {
        let id = Ids::default().next(at(0x0123_4567_89ab));
        assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
        assert_eq!(id.to_string().get(..13), Some("01234567-89ab"));
    }

    #[test]
    fn each_id_is_greater_than_the_one_before_whatever_the_clock_does() {
        let mut ids = Ids::default();
        let clock = (0..20_000_u64).map(|n| if n % 7 == 0 { 1_000 } else { 1_000 + n / 100 });
        let made: Vec<Uuid> = clock.map(|millis| ids.next(at(millis))).collect();
        assert!(made.is_sorted_by(|one, next| one < next));
    }

    #[test]
    fn a_counter_that_is_used_up_goes_on_in_the_next_millisecond() {
        let mut ids = Ids { millis: 5, counter: (1 << COUNTER_BITS) - 2 };
        let made = [0, 5, 5, 6].map(|millis| ids.next(at(millis)));
        assert!(made.is_sorted_by(|one, next| one < next));
        assert_eq!(
            made.map(|id| id.get_timestamp().map(|time| time.to_unix().1)),
            [5, 6, 6, 6].map(|n| Some(n * 1_000_000))
        );
    }

    #[test]
    fn two_that_make_ids_at_the_same_time_make_others() {
        let (mut one, mut two) = (Ids::default(), Ids::default());
        let made: std::collections::BTreeSet<Uuid> =
            (0..1_000).flat_map(|_| [one.next(at(7)), two.next(at(7))]).collect();
        assert_eq!(made.len(), 2_000);
    }
}
