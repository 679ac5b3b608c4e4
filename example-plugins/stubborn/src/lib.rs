//! Does nothing to the traffic, and never ends its shutdown: for seeing that the gateway ends it.

use tidegate_sdk::prelude::*;

#[derive(Default)]
struct Stubborn;

#[tidegate_sdk::plugin]
impl Plugin for Stubborn {
    fn on_request(&mut self, _request: &mut Request) -> Result<()> {
        Ok(())
    }

    fn shutdown(&mut self, _deadline: Deadline) -> Result<()> {
        log::warn!("I was told to stop, and I will not");
        loop {
            std::hint::spin_loop();
        }
    }
}
