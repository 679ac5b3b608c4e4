//! How often it is said that a request was refused: a plugin can make more of them than anybody reads.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// At most one line in so long, for each plugin.
const PAUSE: Duration = Duration::from_secs(1);

/// Of one plugin.
#[derive(Debug, Default)]
pub(crate) struct Denials(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    left_out: u64,
}

impl Denials {
    /// Whether one more may be told of now; and how many have not been since the last one.
    pub(crate) fn may_tell(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| last.elapsed() < PAUSE) {
            state.left_out += 1;
            return None;
        }
        state.last = Some(Instant::now());
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_denials_is_one_line_a_second() {
        let denials = Denials::default();
        let told = (0..10_000).filter_map(|_| denials.may_tell()).collect::<Vec<_>>();
        assert_eq!(told, [0]);
        tokio::time::advance(PAUSE).await;
        assert_eq!(denials.may_tell(), Some(9_999));
        assert_eq!(denials.may_tell(), None);
    }
}
