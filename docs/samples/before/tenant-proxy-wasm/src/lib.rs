//! The filter `tenant` as it is written for Envoy: requests without a tenant are refused, others are counted by tenant.

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, MetricType};
use std::time::Duration;

// ANCHOR: filter
proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root { header: String::new(), requests: 0 }));
}}

struct Root {
    header: String,
    requests: u32,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let Some(header) = self.get_plugin_configuration() else { return false };
        self.header = String::from_utf8_lossy(&header).into_owned();
        let Ok(requests) = proxy_wasm::hostcalls::define_metric(MetricType::Counter, "tenant_requests") else {
            return false;
        };
        self.requests = requests;
        self.set_tick_period(Duration::from_secs(10));
        true
    }

    fn on_tick(&mut self) {
        let (seen, _) = self.get_shared_data("seen");
        log::info!("{} requests with a tenant", number(seen));
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Exchange { header: self.header.clone(), requests: self.requests, tenant: None }))
    }
}

struct Exchange {
    header: String,
    requests: u32,
    tenant: Option<String>,
}

impl Context for Exchange {}

impl HttpContext for Exchange {
    fn on_http_request_headers(&mut self, _count: usize, _end: bool) -> Action {
        let Some(tenant) = self.get_http_request_header(&self.header) else {
            self.send_http_response(400, vec![], Some(b"whose request is this?\n"));
            return Action::Pause;
        };
        let _ = proxy_wasm::hostcalls::increment_metric(self.requests, 1);
        // All workers share the data; who was slower reads it again.
        loop {
            let (seen, version) = self.get_shared_data("seen");
            let more = (number(seen) + 1).to_le_bytes();
            if self.set_shared_data("seen", Some(&more), version).is_ok() {
                break;
            }
        }
        self.tenant = Some(tenant);
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _count: usize, _end: bool) -> Action {
        self.set_http_response_header("x-served-for", self.tenant.as_deref());
        Action::Continue
    }
}

fn number(bytes: Option<Vec<u8>>) -> u64 {
    bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}
// ANCHOR_END: filter
