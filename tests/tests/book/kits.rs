//! The conformance kit and a replay, called from a test.

use serde_json::json;
use tidegate_testing::conformance::Kit;
use tidegate_testing::{Setup, recording};
use tidegate_tests::components;

// ANCHOR: conformance
#[test]
fn it_conforms() {
    let component = components::read(&components::sample("hello-plugin"));
    let setup = |component| Setup::component("hello", component).config(&json!({ "greeting": "good morning" }));
    let kit = Kit::new(component, setup).expect("it is a plugin");
    let report = kit.grant_imports().run(|_| {});
    assert!(report.is_passed(), "{report:#?}");
}
// ANCHOR_END: conformance

#[test]
fn a_recording_goes_as_it_went() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let exchange = json!({
        "schema": 1, "id": "a34465ab7d40212b7feb25f942ec7726", "at_ms": 1_796_083_200_000_u64, "plugins": ["audit"],
        "request": { "method": "GET", "target": "/orders/7", "headers": [] },
        "upstream": { "status": 200, "headers": [], "body": { "content": { "text": "hello" } } },
        "answer": { "status": 200, "headers": [], "body": { "content": { "text": "hello" } } },
    });
    std::fs::write(folder.path().join("exchanges-1.ndjson"), format!("{exchange}\n"))?;
    // ANCHOR: replay
    let exchanges = recording::read(folder.path())?;
    let setup = Setup::new(components::plugin("audit")).outbox(["audit.exchange"]);
    let replayed = setup.replay(&exchanges)?;
    assert!(replayed.differences.is_empty(), "{:#?}", replayed.differences);
    // ANCHOR_END: replay
    Ok(())
}
