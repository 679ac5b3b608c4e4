//! What is about work after the response: `tick`, `[plugin.deferred]`, `limits.deferred`, `grants.background`.

use tidegate_runtime::Deferred;

use super::*;

/// A plugin with these lines.
fn plugin(lines: &str) -> Plugin {
    parse(&with_plugin(lines)).plugins[0].clone()
}

#[test]
fn nothing_is_put_off_or_ticked_unless_the_file_says_so() {
    let silent = plugin("");
    assert_eq!((silent.tick, silent.grants.background), (None, false));
    assert_eq!((silent.deferred, silent.limits.deferred), (Deferred::default(), Duration::from_secs(1)));
    assert_eq!(silent.longest_stop(), Duration::from_secs(5), "it reserves no share");
    let granted = plugin("[plugin.grants]\nbackground = true\n");
    assert_eq!(granted.deferred_share(), Duration::from_secs(2));
    assert_eq!(granted.longest_stop(), Duration::from_secs(7));
}

#[test]
fn every_key_is_read() {
    let told = plugin(
        "instances = 3\ntick = \"250ms\"\n[plugin.grants]\nbackground = true\n[plugin.limits]\ndeferred = \"3s\"\n\
         [plugin.deferred]\nqueue = 10\nbytes = \"1KiB\"\nconcurrency = 3\ndrain = \"4s\"\n",
    );
    let expected = Deferred { queue: 10, bytes: 1024, concurrency: 3, drain: Duration::from_secs(4) };
    assert_eq!((told.deferred, told.tick), (expected, Some(Duration::from_millis(250))));
    assert_eq!((told.limits.deferred, told.longest_stop()), (Duration::from_secs(3), Duration::from_secs(9)));
}

#[test]
fn what_they_cannot_be() {
    check_with(
        "[[plugin]]\nname = \"a\"\npath = \"a.wasm\"\ntick = \"1ms\"\n[plugin.deferred]\nqueue = 0\nrate = 5\n\
         [[plugin]]\nname = \"b\"\npath = \"b.wasm\"\ninstances = 2\n[plugin.grants]\nbackground = true\n\
         [plugin.deferred]\nconcurrency = 3\n",
        r#"
error: `tick` is out of range
 --> tidegate.toml:4:8
  |
4 | tick = "1ms"
  |        ^^^^^ must be from 10ms to 24h

error: `deferred` has no effect
 --> tidegate.toml:5:1
  |
5 | [plugin.deferred]
  | ^^^^^^^^^^^^^^^^^ without `grants.background` the plugin cannot put anything off
hint: grant it with `background = true` under [plugin.grants], or take [plugin.deferred] out

error: `queue` is out of range
 --> tidegate.toml:6:9
  |
6 | queue = 0
  |         ^ must be from 1 to 1000000

error: unknown key `rate` in [plugin.deferred]
 --> tidegate.toml:7:1
  |
7 | rate = 5
  | ^^^^
hint: the keys in [plugin.deferred] are `queue`, `bytes`, `concurrency`, `drain`

error: `deferred.concurrency` is greater than `instances`
  --> tidegate.toml:15:15
   |
15 | concurrency = 3
   |               ^ no more than 2 instances can work on it at a time
hint: lower `concurrency`, or raise `instances`
"#,
    );
}

#[test]
fn the_share_of_the_work_stands_in_the_sum_that_does_not_fit() {
    check_with(
        "[shutdown]\ngrace = \"10s\"\ndrain = \"5s\"\nflush = \"1s\"\n[[plugin]]\nname = \"quick\"\npath = \"a.wasm\"\n\
         limits.shutdown = \"4s\"\n[[plugin]]\nname = \"later\"\npath = \"a.wasm\"\nlimits.shutdown = \"1s\"\n\
         grants.background = true\ndeferred.drain = \"4s\"\n",
        r#"
error: the shutdown needs 11.25s, but `grace` is 10s
 --> tidegate.toml:2:9
  |
2 | grace = "10s"
  |         ^^^^^ 1.25s too short
3 | drain = "5s"
  |         ----
4 | flush = "1s"
  |         ----
  |
  = note: drain_delay 0s + drain 5s + deferred work 4s + shutdown of plugin `later` 1s + flush 1s + margin 250ms = 11.25s
hint: raise `grace` to 12s or more (and the supervisor's own limit above it), or shorten one of the parts
"#,
    );
}
