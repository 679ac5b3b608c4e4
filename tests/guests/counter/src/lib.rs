//! Counts the exchanges its instance has seen, and says so on the response: shows which isolation is at work.

use tidegate_sdk::prelude::*;

#[derive(Default)]
struct Counter {
    seen: u64,
}

#[tidegate_sdk::plugin]
impl Plugin for Counter {
    fn on_response(&mut self, _request: &Request, response: &mut Response) -> Result<()> {
        self.seen += 1;
        response.set_header("x-count", self.seen.to_string())?;
        Ok(())
    }

    fn shutdown(&mut self, _deadline: Deadline) -> Result<()> {
        log::info!("counted {}", self.seen);
        Ok(())
    }
}
