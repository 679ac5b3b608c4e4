//! The filter `tenant`, ported: requests without a tenant are refused, others are counted by all instances together.

use serde::Deserialize;
use tidegate_sdk::kv::Bucket;
use tidegate_sdk::metrics;
use tidegate_sdk::prelude::*;

// ANCHOR: filter
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    header: String,
}

struct Tenant {
    header: String,
    counts: Bucket,
}

#[tidegate_sdk::plugin]
impl Plugin for Tenant {
    type Config = Config;

    fn configure(config: Config) -> Result<Self> {
        Ok(Self { header: config.header, counts: Bucket::open("counts")? })
    }

    fn on_request(&mut self, request: &mut Request) -> Result<Verdict> {
        let Some(tenant) = request.header(&self.header) else {
            return Ok(Verdict::Respond(Reply::new(400).body("whose request is this?\n")));
        };
        metrics::counter("tenant_requests").add(1);
        self.counts.increment("seen", 1)?;
        request.set_note("tenant", tenant)?;
        Ok(Verdict::Forward)
    }

    fn on_response(&mut self, request: &Request, response: &mut Response) -> Result<()> {
        if let Some(tenant) = request.note("tenant") {
            response.set_header("x-served-for", tenant)?;
        }
        Ok(())
    }

    fn on_tick(&mut self) -> Result<()> {
        let seen = self.counts.get("seen")?.unwrap_or_default();
        log::info!("{} requests with a tenant", String::from_utf8_lossy(&seen));
        Ok(())
    }
}
// ANCHOR_END: filter
