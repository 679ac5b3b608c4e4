//! What says how a gateway may be changed while it serves: `[admin] token_file`, `[reload]`, `quarantine`.

use super::*;

#[test]
fn nobody_watches_and_a_minute_is_for_rolling_back_unless_the_file_says_otherwise() {
    let reload = |text: &str| parse(&with(text)).reload;
    assert_eq!((reload("").watch, reload("").rollback), (None, Duration::from_secs(60)));
    let told = reload("[reload]\nwatch = \"2s\"\nrollback = \"0s\"\n");
    assert_eq!((told.watch, told.rollback), (Some(Duration::from_secs(2)), Duration::ZERO));
    assert_eq!(reload("[reload]\n").watch, None);
}

#[test]
fn a_plugin_is_given_up_at_sixteen_faults_in_a_row_unless_the_file_says_otherwise() {
    let quarantine = |line: &str| parse(&with_plugin(line)).plugins[0].quarantine;
    assert_eq!(quarantine(""), Some(16));
    assert_eq!(quarantine("quarantine = 10\n"), Some(10));
    assert_eq!(quarantine("quarantine = false\n"), None);
}

#[test]
fn what_they_cannot_be() {
    check_with(
        "[reload]\nwatch = \"1ms\"\nrollback = 60\nwhen = \"now\"\n[[plugin]]\nname = \"a\"\npath = \"a.wasm\"\nquarantine = 3\n\
         [[plugin]]\nname = \"b\"\npath = \"b.wasm\"\nquarantine = true\n",
        r#"
error: `watch` is out of range
 --> tidegate.toml:2:9
  |
2 | watch = "1ms"
  |         ^^^^^ must be from 100ms to 1h

error: `rollback` has no unit
 --> tidegate.toml:3:12
  |
3 | rollback = 60
  |            ^^ expected a duration such as "5s"
hint: write "60s" or "60ms"

error: unknown key `when` in [reload]
 --> tidegate.toml:4:1
  |
4 | when = "now"
  | ^^^^
hint: the keys in [reload] are `watch`, `rollback`

error: `quarantine` is out of range
 --> tidegate.toml:8:14
  |
8 | quarantine = 3
  |              ^ must be from 10 to 1000000

error: `quarantine` has the wrong type
  --> tidegate.toml:12:14
   |
12 | quarantine = true
   |              ^^^^ expected a number of faults in a row, or false, found true
"#,
    );
}

#[test]
fn a_token_is_one_line_that_a_header_field_can_carry_and_nobody_guesses() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidegate.toml");
    std::fs::write(&file, with("[admin]\ntoken_file = \"token\"\n")).expect("written");
    let loaded = || Config::load(&file).map(|config| config.admin.token.map(|token| token.secret().to_owned()));
    let refused = |expected: &str| {
        let problem = loaded().expect_err("refused").to_string();
        assert!(problem.contains("the token cannot be used") && problem.contains(expected), "{problem}");
        assert!(!problem.contains("s3cret"), "a secret is not shown: {problem}");
    };
    refused("No such file");
    for (text, expected) in [
        ("", "the file is empty"),
        (" \n", "the file is empty"),
        ("s3cret\n", "fewer than 16 characters"),
        ("s3cret two words of a phrase", "characters that a header field cannot carry"),
        ("s3cret-s\u{e9}same-ouvre-toi", "characters that a header field cannot carry"),
    ] {
        std::fs::write(folder.path().join("token"), text).expect("written");
        refused(expected);
    }
    std::fs::write(folder.path().join("token"), "s3cret-of-sixteen-and-more\n").expect("written");
    assert_eq!(loaded().expect("sound").as_deref(), Some("s3cret-of-sixteen-and-more"));
    let shown = format!("{:?}", Config::load(&file).expect("sound"));
    assert!(!shown.contains("s3cret"), "nor in the log: {shown}");
}
