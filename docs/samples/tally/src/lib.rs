//! State that goes from one version of a plugin to the next.

use serde::{Deserialize, Serialize};
use tidegate_sdk::lifecycle::{self, SnapshotError};
use tidegate_sdk::prelude::*;

#[derive(Default, Serialize, Deserialize)]
struct Tally {
    seen: u64,
}

#[tidegate_sdk::plugin]
impl Plugin for Tally {
    // ANCHOR: hand-over
    fn configure() -> Result<Self> {
        let mut tally = Self::default();
        for snapshot in lifecycle::snapshots() {
            tally.seen += serde_json::from_slice::<Self>(&snapshot)?.seen;
        }
        Ok(tally)
    }

    fn shutdown(&mut self, _deadline: Deadline) -> Result<()> {
        match lifecycle::leave_snapshot(&serde_json::to_vec(self)?) {
            // No version follows: the gateway exits, say. Whatever has to survive that goes elsewhere.
            Err(SnapshotError::NoSuccessor) => Ok(()),
            left => Ok(left?),
        }
    }
    // ANCHOR_END: hand-over

    fn on_request(&mut self, request: &mut Request) -> Result<()> {
        self.seen += 1;
        request.set_header("x-seen", self.seen.to_string())?;
        Ok(())
    }
}
