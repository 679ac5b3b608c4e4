//! What is no plugin is refused when it is loaded, with an error that says what to change.

use std::time::Duration;

use tidegate_runtime::{EndCause, Hook, Isolation, Limits, LoadError};
use tidegate_tests::components;
use tidegate_tests::plugins::{Fixture, runtime};

/// Load these bytes as a plugin.
async fn load(bytes: impl AsRef<[u8]>) -> Result<(), LoadError> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("plugin.wasm");
    std::fs::write(&file, bytes).expect("written");
    Fixture::new(file).load(&runtime(2)).await.map(drop)
}

async fn refused(bytes: impl AsRef<[u8]>) -> (LoadError, String) {
    let error = load(bytes).await.expect_err("refused");
    let hint = error.hint().unwrap_or_default();
    (error, hint)
}

fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("well-formed")
}

#[tokio::test]
async fn what_is_not_webassembly() {
    for bytes in [&b""[..], b"\0as", b"#!/bin/sh\n", b"\0asm"] {
        let (error, hint) = refused(bytes).await;
        assert!(matches!(error, LoadError::Malformed(_)), "{error}");
        assert!(hint.contains("wasm32-wasip2"), "{hint}");
    }
}

#[tokio::test]
async fn a_core_module() {
    let (error, hint) = refused(component("(module)")).await;
    assert!(matches!(error, LoadError::CoreModule), "{error}");
    assert!(hint.contains("component new"), "{hint}");
}

#[tokio::test]
async fn a_component_that_is_cut_off_anywhere() {
    let whole = components::read(&components::plugin("stamp"));
    for keep in [9, 100, whole.len() / 2, whole.len() - 1] {
        let (error, _) = refused(whole.get(..keep).expect("shorter")).await;
        assert!(matches!(error, LoadError::Malformed(_)), "{keep} bytes: {error}");
    }
}

#[tokio::test]
async fn a_component_for_another_world() {
    let (error, hint) = refused(components::read(&components::guest("wrong-world"))).await;
    assert!(matches!(error, LoadError::NoHooks { .. }), "{error}");
    assert!(hint.contains("another host"), "{hint}");
}

#[tokio::test]
async fn an_import_that_is_not_granted() {
    let text = format!("(component (import \"wasi:http/outgoing-handler@0.2.6\" (instance)) {HOOK})");
    let (error, hint) = refused(component(&text)).await;
    assert!(matches!(&error, LoadError::NotGranted { import, .. } if import.starts_with("wasi:http/")), "{error}");
    assert!(hint.contains("`http = ["), "{hint}");
}

/// `shutdown`, and nothing else: a core function that returns ok.
const HOOK: &str = r#"
    (core module $m
        (memory (export "mem") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 64)
        (func (export "shutdown") (param i64) (result i32) i32.const 0))
    (core instance $i (instantiate $m))
    (func $shutdown (param "deadline-ms" u64) (result (result (error string)))
        (canon lift (core func $i "shutdown") (memory $i "mem") (realloc (func $i "realloc"))))
    (instance $hook (export "shutdown" (func $shutdown)))
    (export "tidegate:plugin/shutdown-hook@0.1.0" (instance $hook))"#;

#[tokio::test]
async fn the_smallest_plugin_there_is_loads() {
    load(component(&format!("(component {HOOK})"))).await.expect("a plugin");
}

#[tokio::test]
async fn a_component_of_many_modules_has_as_many_instances_as_any_other_also_while_it_is_replaced() {
    // As toolchains do that link libraries when the component is instantiated.
    let library = "(core instance (instantiate $library))".repeat(40);
    let text = format!("(component (core module $library) {library} {HOOK})");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("plugin.wasm");
    std::fs::write(&file, component(&text)).expect("written");
    let (runtime, fixture) = (runtime(4), Fixture { instances: 4, ..Fixture::new(file) });
    let old = fixture.load(&runtime).await.expect("loads");
    let new = fixture.load(&runtime).await.expect("loads beside the old version");
    assert_eq!([old.stats(), new.stats()].map(|stats| stats.instances.idle), [4, 4]);
}

#[tokio::test]
async fn a_hook_with_the_wrong_signature() {
    let text = format!("(component {})", HOOK.replace("u64)", "s64)"));
    let (error, _) = refused(component(&text)).await;
    assert!(matches!(error, LoadError::WrongSignature { hook: Hook::Shutdown, .. }), "{error}");
    assert!(error.to_string().contains("shutdown: func(deadline-ms: u64) -> result<_, string>"), "{error}");
}

#[tokio::test]
async fn a_hook_of_another_version() {
    let text = format!("(component {})", HOOK.replace("@0.1.0", "@0.2.0"));
    let (error, hint) = refused(component(&text)).await;
    assert!(matches!(error, LoadError::WrongVersion { .. }), "{error}");
    assert!(hint.contains("tidegate:plugin@0.1.0"), "{hint}");
}

#[tokio::test]
async fn a_config_that_the_plugin_refuses() {
    let fixture = Fixture { config: r#"{"nonsense": 1}"#.into(), ..Fixture::new(components::plugin("stamp")) };
    let error = fixture.load(&runtime(2)).await.map(drop).expect_err("refused");
    let LoadError::Configure(error) = error else { panic!("{error}") };
    assert!(matches!(&error.cause, EndCause::Returned { message } if message.contains("nonsense")), "{error}");
}

#[tokio::test]
async fn a_config_for_a_plugin_that_takes_none() {
    let fixture = Fixture { config: r#"{"a": 1}"#.into(), ..Fixture::new(components::guest("no-shutdown")) };
    let error = fixture.load(&runtime(2)).await.map(drop).expect_err("refused");
    assert!(matches!(error, LoadError::NoConfigure), "{error}");
}

#[tokio::test]
async fn a_configure_that_does_not_end() {
    let limits = Limits { configure: Duration::from_millis(50), ..Limits::default() };
    for (how, isolation) in [("spin", Isolation::Warm), ("sleep", Isolation::Warm), ("spin", Isolation::Fresh)] {
        let fixture = Fixture { limits, isolation, ..Fixture::hostile(&format!(r#"{{"configure": "{how}"}}"#)) };
        let error = fixture.load(&runtime(2)).await.map(drop).expect_err("refused");
        let LoadError::Configure(error) = error else { panic!("{error}") };
        assert!(matches!(error.cause, EndCause::Cpu { .. } | EndCause::Wall { .. }), "{error}");
    }
}

#[tokio::test]
async fn an_instance_that_does_not_fit_into_its_memory() {
    let limits = Limits { memory: 512 << 10, ..Limits::default() };
    let fixture = Fixture { limits, ..Fixture::new(components::plugin("stamp")) };
    let error = fixture.load(&runtime(2)).await.map(drop).expect_err("refused");
    let LoadError::Configure(error) = error else { panic!("{error}") };
    assert!(matches!(error.cause, EndCause::Memory { .. }), "{error}");
}
