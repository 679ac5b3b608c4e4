//! Sends a request to the upstream that it names in `x-upstream`, on the path that it names in `x-path`.

use tidegate_sdk::prelude::*;

#[derive(Default)]
struct Reroute;

#[tidegate_sdk::plugin]
impl Plugin for Reroute {
    fn on_request(&mut self, request: &mut Request) -> Result<()> {
        if let Some(upstream) = request.header("x-upstream") {
            request.set_upstream(&upstream)?;
        }
        if let Some(path) = request.header("x-path") {
            request.set_path(&path)?;
        }
        Ok(())
    }
}
