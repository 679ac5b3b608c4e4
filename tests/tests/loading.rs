//! What is no plugin is refused when it is loaded, with an error that says what to change.

use std::time::Duration;

use serde_json::json;
use tidegate_runtime::{EndCause, Hook, LoadError};
use tidegate_testing::{Plugin, Setup, SetupError};
use tidegate_tests::components;
use tidegate_tests::setups::hostile;

/// Load these bytes as a plugin.
fn load(bytes: impl Into<Vec<u8>>) -> Result<Plugin, SetupError> {
    Setup::component("plugin", bytes.into()).load()
}

fn error(loaded: Result<Plugin, SetupError>) -> LoadError {
    match loaded.expect_err("refused") {
        SetupError::Refused(error) => error,
        other => panic!("{other}"),
    }
}

fn refused(bytes: impl Into<Vec<u8>>) -> (LoadError, String) {
    let error = error(load(bytes));
    let hint = error.hint().unwrap_or_default();
    (error, hint)
}

/// How the `configure` of a plugin ended that is refused for it.
fn configured(setup: Setup) -> EndCause {
    match error(setup.load()) {
        LoadError::Configure(error) => error.cause,
        other => panic!("{other}"),
    }
}

fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("well-formed")
}

#[test]
fn what_is_not_webassembly() {
    for bytes in [&b""[..], b"\0as", b"#!/bin/sh\n", b"\0asm"] {
        let (error, hint) = refused(bytes);
        assert!(matches!(error, LoadError::Malformed(_)), "{error}");
        assert!(hint.contains("wasm32-wasip2"), "{hint}");
    }
}

#[test]
fn a_core_module() {
    let (error, hint) = refused(component("(module)"));
    assert!(matches!(error, LoadError::CoreModule), "{error}");
    assert!(hint.contains("component new"), "{hint}");
}

#[test]
fn a_component_that_is_cut_off_anywhere() {
    let whole = components::read(&components::plugin("stamp"));
    for keep in [9, 100, whole.len() / 2, whole.len() - 1] {
        let (error, _) = refused(whole.get(..keep).expect("shorter"));
        assert!(matches!(error, LoadError::Malformed(_)), "{keep} bytes: {error}");
    }
}

#[test]
fn a_component_for_another_world() {
    let (error, hint) = refused(components::read(&components::guest("wrong-world")));
    assert!(matches!(error, LoadError::NoHooks { .. }), "{error}");
    assert!(hint.contains("another host"), "{hint}");
}

#[test]
fn an_import_that_is_not_granted() {
    let text = format!("(component (import \"wasi:http/outgoing-handler@0.2.6\" (instance)) {HOOK})");
    let (error, hint) = refused(component(&text));
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

#[test]
fn the_smallest_plugin_there_is_loads() {
    load(component(&format!("(component {HOOK})"))).expect("a plugin");
}

#[test]
fn a_component_of_many_modules_has_as_many_instances_as_any_other_also_while_it_is_replaced() {
    // As toolchains do that link libraries when the component is instantiated.
    let library = "(core instance (instantiate $library))".repeat(40);
    let text = format!("(component (core module $library) {library} {HOOK})");
    let setup = || Setup::component("plugin", component(&text)).instances(4);
    let old = setup().load().expect("loads");
    let new = setup().load_beside(&old).expect("loads beside the old version");
    assert_eq!([old.stats(), new.stats()].map(|stats| stats.instances.idle), [4, 4]);
}

#[test]
fn a_hook_with_the_wrong_signature() {
    let text = format!("(component {})", HOOK.replace("u64)", "s64)"));
    let (error, _) = refused(component(&text));
    assert!(matches!(error, LoadError::WrongSignature { hook: Hook::Shutdown, .. }), "{error}");
    assert!(error.to_string().contains("shutdown: func(deadline-ms: u64) -> result<_, string>"), "{error}");
}

#[test]
fn a_hook_of_another_version() {
    let text = format!("(component {})", HOOK.replace("@0.1.0", "@0.2.0"));
    let (error, hint) = refused(component(&text));
    assert!(matches!(error, LoadError::WrongVersion { .. }), "{error}");
    assert!(hint.contains("tidegate:plugin@0.1.0"), "{hint}");
}

#[test]
fn a_config_that_the_plugin_refuses() {
    let setup = Setup::new(components::plugin("stamp")).config(&json!({ "nonsense": 1 }));
    let cause = configured(setup);
    assert!(matches!(&cause, EndCause::Returned { message } if message.contains("nonsense")), "{cause}");
}

#[test]
fn a_config_for_a_plugin_that_takes_none() {
    let setup = Setup::new(components::guest("no-shutdown")).config(&json!({ "a": 1 }));
    let error = error(setup.load());
    assert!(matches!(error, LoadError::NoConfigure), "{error}");
}

#[test]
fn a_configure_that_does_not_end() {
    let configure = Duration::from_millis(50);
    for how in ["spin", "sleep", "doze"] {
        let setup = || hostile(&json!({ "configure": how })).limits(|limits| limits.configure = configure);
        for setup in [setup(), setup().fresh()] {
            let cause = configured(setup);
            assert!(matches!(cause, EndCause::Cpu { .. } | EndCause::Wall { .. }), "{how}: {cause}");
        }
    }
}

#[test]
fn an_instance_that_does_not_fit_into_its_memory() {
    let setup = Setup::new(components::plugin("stamp")).limits(|limits| limits.memory = 512 << 10);
    let cause = configured(setup);
    assert!(matches!(cause, EndCause::Memory { .. }), "{cause}");
}
