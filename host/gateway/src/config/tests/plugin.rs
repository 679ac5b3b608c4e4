//! `[[plugin]]`: instances, limits, config.

use tidegate_runtime::Instances;

use super::*;

#[test]
fn half_of_instances_may_be_left_out() {
    let instances = |text: &str| parse(&with_plugin(&format!("instances = {text}"))).plugins[0].instances;
    assert_eq!(instances("{ max = 1 }"), Instances::fixed(1));
    assert_eq!(instances("{ min = 900 }"), Instances::fixed(900));
}

#[test]
fn a_limit_that_another_one_makes_unreachable_is_refused() {
    check(
        &with_plugin("[plugin.limits]\ncpu = \"200ms\""),
        r#"
error: `cpu` is greater than `wall`
 --> tidegate.toml:5:7
  |
5 | cpu = "200ms"
  |       ^^^^^^^ a call ends after 100ms, before it can use 200ms of CPU time
hint: raise `wall` or lower `cpu`
"#,
    );
    check(
        &with_plugin("[plugin.limits]\nmemory = \"1MiB\"\nbody = \"2MiB\""),
        r#"
error: `body` is greater than `memory`
 --> tidegate.toml:6:8
  |
5 | memory = "1MiB"
  |          ------
6 | body = "2MiB"
  |        ^^^^^^ a body of 2MiB does not fit into 1MiB of memory
hint: raise `memory` or lower `body`
"#,
    );
}

#[test]
fn an_instance_can_be_recycled_within_its_limits_only() {
    check(
        &with_plugin("recycle = { memory = \"48MiB\" }"),
        r#"
error: `recycle.memory` is greater than `limits.memory`
 --> tidegate.toml:4:22
  |
4 | recycle = { memory = "48MiB" }
  |                      ^^^^^^^ a plugin that may use 32MiB never reaches 48MiB
hint: raise `limits.memory` or lower `recycle.memory`
"#,
    );
    check(
        &with_plugin("recycle = { memory = \"64MiB\", call = 1 }\nlimits.memory = \"48MiB\""),
        r#"
error: `recycle.memory` is greater than `limits.memory`
 --> tidegate.toml:4:22
  |
4 | recycle = { memory = "64MiB", call = 1 }
  |                      ^^^^^^^ a plugin that may use 48MiB never reaches 64MiB
5 | limits.memory = "48MiB"
  |                 ------- 
hint: raise `limits.memory` or lower `recycle.memory`

error: unknown key `call` in `recycle`
 --> tidegate.toml:4:31
  |
4 | recycle = { memory = "64MiB", call = 1 }
  |                               ^^^^
hint: did you mean `calls`?
"#,
    );
    check(
        &with_plugin("recycle = { calls = 0, memory = \"1KiB\" }"),
        r#"
error: `calls` is out of range
 --> tidegate.toml:4:21
  |
4 | recycle = { calls = 0, memory = "1KiB" }
  |                     ^ must be from 1 to 1000000000000

error: `memory` is out of range
 --> tidegate.toml:4:33
  |
4 | recycle = { calls = 0, memory = "1KiB" }
  |                                 ^^^^^^ must be from 64KiB to 4GiB
"#,
    );
    check(
        &with_plugin("recycle = {}"),
        r#"
error: `recycle` says neither `calls` nor `memory`
 --> tidegate.toml:4:11
  |
4 | recycle = {}
  |           ^^
hint: for example `recycle = { calls = 100000, memory = "48MiB" }`
"#,
    );
    check(
        &with_plugin("recycle = 1000"),
        r#"
error: `recycle` has the wrong type
 --> tidegate.toml:4:11
  |
4 | recycle = 1000
  |           ^^^^ expected { calls = .., memory = .. }, found a whole number
"#,
    );
    assert!(parse(&with_plugin("recycle = { memory = \"32MiB\" }")).plugins[0].recycle.calls.is_none());
}

#[test]
fn what_other_keys_make_pointless_is_refused() {
    check(
        &with_plugin("instances = { min = 2, max = 2, idle = \"5s\" }"),
        r#"
error: `idle` has no effect
 --> tidegate.toml:4:40
  |
4 | instances = { min = 2, max = 2, idle = "5s" }
  |                                        ^^^^ `min` and `max` are the same: there is never an instance too many
hint: take it out, or raise `max`
"#,
    );
    check(
        &with_plugin(
            "instances = { min = 2, max = 4, idle = \"0s\" }\nrecycle = { calls = 10 }\nisolation = \"fresh\"\n\
             hand_over = true",
        ),
        r#"
error: `idle` is out of range
 --> tidegate.toml:4:40
  |
4 | instances = { min = 2, max = 4, idle = "0s" }
  |                                        ^^^^ must be from 1ms to 24h

error: `idle` has no effect
 --> tidegate.toml:4:40
  |
4 | instances = { min = 2, max = 4, idle = "0s" }
  |                                        ^^^^ with `isolation = "fresh"` no instance outlives its call
hint: take `idle` out, or `isolation`

error: `recycle` has no effect
 --> tidegate.toml:5:11
  |
5 | recycle = { calls = 10 }
  |           ^^^^^^^^^^^^^^ with `isolation = "fresh"` no instance outlives its call
hint: take `recycle` out, or `isolation`

error: `hand_over` has no effect
 --> tidegate.toml:7:13
  |
7 | hand_over = true
  |             ^^^^ with `isolation = "fresh"` no instance outlives its call
hint: take `hand_over` out, or `isolation`
"#,
    );
    parse(&with_plugin("isolation = \"fresh\"\nhand_over = false"));
    // Whether these have a surplus depends on the machine: `max`, or `min`, is its default.
    for keys in ["{ max = 1, idle = \"5s\" }", "{ min = 900, idle = \"5s\" }"] {
        parse(&with_plugin(&format!("instances = {keys}")));
    }
}

#[test]
fn state_is_handed_over_when_the_file_says_so() {
    let read = |keys: &str| parse(&with_plugin(keys)).plugins.remove(0);
    assert!(!read("").hand_over);
    let asked = read("hand_over = true\nlimits.snapshot = \"2MiB\"");
    assert_eq!((asked.hand_over, asked.limits.snapshot), (true, 2 << 20));
    // The default is no promise of so much memory.
    assert_eq!(read("limits = { memory = \"512KiB\", body = \"1KiB\" }").limits.snapshot, 1 << 20);
    check(
        &with_plugin("[plugin.limits]\nmemory = \"2MiB\"\nsnapshot = \"3MiB\""),
        r#"
error: `snapshot` is greater than `memory`
 --> tidegate.toml:6:12
  |
5 | memory = "2MiB"
  |          ------
6 | snapshot = "3MiB"
  |            ^^^^^^ a snapshot of 3MiB does not fit into 2MiB of memory
hint: raise `memory` or lower `snapshot`
"#,
    );
    check(
        &with_plugin("hand_over = \"yes\"\nlimits.snapshot = \"65MiB\""),
        r#"
error: `hand_over` has the wrong type
 --> tidegate.toml:4:13
  |
4 | hand_over = "yes"
  |             ^^^^^ expected true or false, found a string

error: `snapshot` is out of range
 --> tidegate.toml:5:19
  |
5 | limits.snapshot = "65MiB"
  |                   ^^^^^^^ must be from 1B to 64MiB
"#,
    );
}

#[test]
fn a_plugin_config_must_fit_json() {
    check(
        &with_plugin("[plugin.config]\nratio = nan\nbig = 99999999999999999999"),
        r#"
error: this value cannot be handed to the plugin as JSON
 --> tidegate.toml:5:9
  |
5 | ratio = nan
  |         ^^^ JSON has no such number

error: this value cannot be handed to the plugin as JSON
 --> tidegate.toml:6:7
  |
6 | big = 99999999999999999999
  |       ^^^^^^^^^^^^^^^^^^^^ does not fit into 64 bits
"#,
    );
}
