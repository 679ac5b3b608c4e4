//! The tables that are there once.

use super::*;

#[test]
fn the_ledger_says_what_does_not_fit_and_by_how_much() {
    check_with(
        r#"
[shutdown]
grace = "30s"
drain_delay = "5s"
drain = "20s"
[[plugin]]
name = "audit"
path = "audit.wasm"
limits = { shutdown = "8s" }
"#,
        r#"
error: the shutdown needs 36.25s, but `grace` is 30s
 --> tidegate.toml:3:9
  |
3 | grace = "30s"
  |         ^^^^^ 6.25s too short
4 | drain_delay = "5s"
  |               ----
5 | drain = "20s"
  |         -----
  |
  = note: drain_delay 5s + drain 20s + shutdown of plugin `audit` 8s + flush 3s + margin 250ms = 36.25s
hint: raise `grace` to 37s or more (and the supervisor's own limit above it), or shorten one of the parts
"#,
    );
    check_with(
        "[[plugin]]\nname = \"slow\"\npath = \"slow.wasm\"\nlimits.shutdown = \"1m\"\n",
        r#"
error: the shutdown needs 1m18.25s, but `grace` is 30s
--> tidegate.toml
 = note: drain_delay 0s + drain 15s + shutdown of plugin `slow` 1m + flush 3s + margin 250ms = 1m18.25s
hint: raise `grace` to 1m19s or more (and the supervisor's own limit above it), or shorten one of the parts
"#,
    );
    check_with(
        "[shutdown]\nmin_drain = \"30s\"\n",
        r#"
error: `min_drain` is 30s, but `grace` leaves 29.75s
 --> tidegate.toml:2:13
  |
2 | min_drain = "30s"
  |             ^^^^^ 250ms too long
"#,
    );
}

#[test]
fn addresses_are_used_once() {
    check_with(
        "[server]\nlisten = [\"127.0.0.1:9901\", \"0.0.0.0:80\"]\n[admin]\nlisten = \"127.0.0.1:80\"\n",
        r#"
error: [server] and [admin] cannot both listen on port 80
 --> tidegate.toml:4:10
  |
2 | listen = ["127.0.0.1:9901", "0.0.0.0:80"]
  |                             ------------ first here
3 | [admin]
4 | listen = "127.0.0.1:80"
  |          ^^^^^^^^^^^^^^ this address is taken twice
"#,
    );
    check_with(
        "[server]\nlisten = \"127.0.0.1:9901\"\n",
        r#"
error: [server] and [admin] cannot both listen on port 9901
 --> tidegate.toml:2:10
  |
2 | listen = "127.0.0.1:9901"
  |          ^^^^^^^^^^^^^^^^ this address is taken twice
  |
  = note: the other one is a default, 127.0.0.1:9901
"#,
    );
    check_with(
        "[server]\nlisten = []\n",
        r#"
error: `listen` is empty
 --> tidegate.toml:2:10
  |
2 | listen = []
  |          ^^ expected at least one address
"#,
    );
}

#[test]
fn an_address_is_not_listed_twice() {
    check_with(
        "[server]\nlisten = [\"0.0.0.0:80\", \"127.0.0.1:80\", \"[::1]:80\"]\n",
        r#"
error: [server] cannot listen twice on port 80
 --> tidegate.toml:2:25
  |
2 | listen = ["0.0.0.0:80", "127.0.0.1:80", "[::1]:80"]
  |           ------------  ^^^^^^^^^^^^^^ this address is taken twice
  |           |
  |           first here
"#,
    );
}

#[test]
fn addresses_are_numbers() {
    check_with(
        "[server]\nlisten = [\":8080\", \"example.com:80\", \"8080\"]\n",
        r#"
error: `listen` is not an address
 --> tidegate.toml:2:11
  |
2 | listen = [":8080", "example.com:80", "8080"]
  |           ^^^^^^^ expected an IP address and a port
hint: write "0.0.0.0:8080" for every IPv4 address of this machine

error: `listen` is not an address
 --> tidegate.toml:2:20
  |
2 | listen = [":8080", "example.com:80", "8080"]
  |                    ^^^^^^^^^^^^^^^^ expected an IP address and a port
hint: names are not looked up; write the IP address

error: `listen` is not an address
 --> tidegate.toml:2:38
  |
2 | listen = [":8080", "example.com:80", "8080"]
  |                                      ^^^^^^ expected an IP address and a port
hint: for example "127.0.0.1:8080" or "[::1]:8080"
"#,
    );
}

#[test]
fn a_log_level_is_not_guessed() {
    check_with(
        "[log]\nlevel = \"wran\"\nformat = \"jsn\"\n",
        r#"
error: `level` is not a log level
 --> tidegate.toml:2:9
  |
2 | level = "wran"
  |         ^^^^^^ expected off, error, warn, info, debug or trace
hint: did you mean "warn"?

error: `format` has no such value
 --> tidegate.toml:3:10
  |
3 | format = "jsn"
  |          ^^^^^ expected "text" or "json"
hint: did you mean "json"?
"#,
    );
}
