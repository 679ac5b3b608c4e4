//! What plugins may tell: `[plugin.grants] metrics`, `[plugin.limits] log_lines` and `log_bytes`.

use super::*;

#[test]
fn a_plugin_keeps_no_numbers_unless_the_file_says_so_and_then_256_series() {
    let series = |grant: &str| parse(&with_plugin(&format!("[plugin.grants]\n{grant}\n"))).plugins[0].grants.metrics;
    assert_eq!((series(""), series("metrics = false")), (None, None));
    assert_eq!((series("metrics = true"), series("metrics = {}")), (Some(256), Some(256)));
    assert_eq!(series("metrics = { series = 1000 }"), Some(1000));
}

#[test]
fn a_plugin_writes_a_thousand_lines_and_a_mebibyte_a_second_unless_the_file_says_otherwise() {
    let limits = |lines: &str| parse(&with_plugin(&format!("[plugin.limits]\n{lines}\n"))).plugins[0].limits;
    assert_eq!((limits("").log_lines, limits("").log_bytes), (1_000, 1 << 20));
    let told = limits("log_lines = 10\nlog_bytes = \"8KiB\"");
    assert_eq!((told.log_lines, told.log_bytes), (10, 8 << 10));
}

#[test]
fn other_forms_of_them_are_refused() {
    check(
        &with_plugin("[plugin.grants]\nmetrics = 5\n[plugin.limits]\nlog_lines = 0\nlog_bytes = \"1KiB\"\n"),
        r#"
error: `metrics` has the wrong type
 --> tidegate.toml:5:11
  |
5 | metrics = 5
  |           ^ expected true, false or { series = .. }, found a whole number

error: `log_lines` is out of range
 --> tidegate.toml:7:13
  |
7 | log_lines = 0
  |             ^ must be from 1 to 1000000

error: `log_bytes` is out of range
 --> tidegate.toml:8:13
  |
8 | log_bytes = "1KiB"
  |             ^^^^^^ must be from 8KiB to 1GiB
"#,
    );
    check(
        &with_plugin("[plugin.grants]\nmetrics = { series = 10001, serie = 1 }\n"),
        r#"
error: `series` is out of range
 --> tidegate.toml:5:22
  |
5 | metrics = { series = 10001, serie = 1 }
  |                      ^^^^^ must be from 1 to 10000

error: unknown key `serie` in `metrics`
 --> tidegate.toml:5:29
  |
5 | metrics = { series = 10001, serie = 1 }
  |                             ^^^^^
hint: did you mean `series`?
"#,
    );
}
