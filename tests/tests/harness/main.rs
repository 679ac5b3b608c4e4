//! The harness for plugins is what it claims: virtual time, the same course every time, and no planted fault goes unseen.

#![expect(clippy::indexing_slicing, reason = "in a test a panic is a failure")]

mod budgets;
mod conformance;
mod examples;
mod faults;
mod replay;
mod stops;
mod time;
mod versions;
mod world;

use serde_json::json;
use tidegate_testing::{Request, Setup};
use tidegate_tests::components;

/// The guest with a fault of its own, which publishes batches of three.
fn planted(fault: &str) -> Setup {
    Setup::new(components::guest("planted")).config(&json!({ "fault": fault, "batch": 3 })).outbox(["planted.seen"])
}

fn numbered(number: usize) -> Request {
    Request::get(&format!("/{number}"))
}
