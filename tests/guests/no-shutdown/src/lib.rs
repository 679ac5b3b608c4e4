//! One hook and no other: neither `configure` nor `shutdown`.

use tidegate_sdk::prelude::*;

#[derive(Default)]
struct NoShutdown;

#[tidegate_sdk::plugin]
impl Plugin for NoShutdown {
    fn on_request(&mut self, request: &mut Request) -> Result<()> {
        request.set_header("x-no-shutdown", "1")?;
        Ok(())
    }
}
