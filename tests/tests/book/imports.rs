//! What a test of a plugin imports.

// ANCHOR: imports
use serde_json::json;
use std::time::Duration;
use tidegate_testing::{Request, Setup};
// ANCHOR_END: imports

#[test]
fn a_component_that_is_not_built_is_said_to_be_missing() {
    let setup = Setup::new("target/wasm32-wasip2/release/not_built.wasm").config(&json!({}));
    let error = setup.load().map(|mut plugin| drop((plugin.send(Request::get("/")), plugin.stop(Duration::ZERO))));
    assert!(error.is_err_and(|error| error.to_string().contains("not_built.wasm")));
}
