//! What is wrong with any key of any table, and how it is shown.

use super::*;

#[test]
fn all_problems_are_shown_at_once_in_the_order_of_the_file() {
    check(
        r#"
[server]
listen = "localhost:8080"
max_hedaers = 4

[shutdown]
grace = "10s"

[[upstream]]
name = "api"
targets = ["https://api.internal"]

[[plugin]]
name = "audit"
path = "audit.wasm"
tack = "1s"

[[route]]
path = "/"
upstream = "app"
plugins = ["audti"]
"#,
        r#"
error: `listen` is not an address
 --> tidegate.toml:3:10
  |
3 | listen = "localhost:8080"
  |          ^^^^^^^^^^^^^^^^ expected an IP address and a port
hint: write "127.0.0.1:8080"

error: unknown key `max_hedaers` in [server]
 --> tidegate.toml:4:1
  |
4 | max_hedaers = 4
  | ^^^^^^^^^^^
hint: did you mean `max_headers`?

error: the shutdown needs 23.25s, but `grace` is 10s
 --> tidegate.toml:7:9
  |
7 | grace = "10s"
  |         ^^^^^ 13.25s too short
  |
  = note: drain_delay 0s + drain 15s + shutdown of plugin `audit` 5s + flush 3s + margin 250ms = 23.25s
hint: raise `grace` to 24s or more (and the supervisor's own limit above it), or shorten one of the parts

error: this target cannot be used
  --> tidegate.toml:11:12
   |
11 | targets = ["https://api.internal"]
   |            ^^^^^^^^^^^^^^^^^^^^^^ https to an upstream is not supported in this version
hint: put a TLS-terminating proxy in between, or use the upstream's cleartext port

error: unknown key `tack` in [[plugin]]
  --> tidegate.toml:16:1
   |
16 | tack = "1s"
   | ^^^^
hint: did you mean `tick`?

error: there is no upstream named `app`
  --> tidegate.toml:20:12
   |
20 | upstream = "app"
   |            ^^^^^
hint: did you mean "api"?

error: there is no plugin named `audti`
  --> tidegate.toml:21:12
   |
21 | plugins = ["audti"]
   |            ^^^^^^^
hint: did you mean "audit"?
"#,
    );
}

#[test]
fn a_syntax_error_is_reported_alone() {
    check(
        "[server\nlisten = 5\nbogus = 1\n",
        r#"
error: the file is not valid TOML
 --> tidegate.toml:1:8
  |
1 | [server
  |        ^ unclosed table, expected `]`
"#,
    );
    check(
        "[log]\nlevel = \"info\"\nlevel = \"warn\"\n",
        r#"
error: the file is not valid TOML
 --> tidegate.toml:3:1
  |
3 | level = "warn"
  | ^^^^^ duplicate key
"#,
    );
}

#[test]
fn an_empty_file_says_how_to_begin() {
    check(
        "",
        r#"
error: there is no [[route]], so nothing would be served
--> tidegate.toml
hint: add a [[route]] with `path = "/"` and `upstream = ".."`
"#,
    );
}

#[test]
fn a_wrong_type_says_what_was_expected() {
    check_with(
        "[server]\nlisten = 8080\nmax_headers = \"many\"\nidle_timeout = true\nmax_header_bytes = 1.5\n",
        r#"
error: `listen` has the wrong type
 --> tidegate.toml:2:10
  |
2 | listen = 8080
  |          ^^^^ expected an address such as "127.0.0.1:8080", or a list of them, found a whole number

error: `max_headers` has the wrong type
 --> tidegate.toml:3:15
  |
3 | max_headers = "many"
  |               ^^^^^^ expected a whole number, found a string

error: `idle_timeout` has the wrong type
 --> tidegate.toml:4:16
  |
4 | idle_timeout = true
  |                ^^^^ expected a duration such as "5s", found true

error: `max_header_bytes` has the wrong type
 --> tidegate.toml:5:20
  |
5 | max_header_bytes = 1.5
  |                    ^^^ expected a size such as "64MiB", found a number with a fraction
"#,
    );
    check_with(
        "log = \"debug\"\n[shutdown]\ngrace = 30\nexit_zero = 1\n",
        r#"
error: `log` has the wrong type
 --> tidegate.toml:1:7
  |
1 | log = "debug"
  |       ^^^^^^^ expected a table; write it under [log], found a string

error: `grace` has no unit
 --> tidegate.toml:3:9
  |
3 | grace = 30
  |         ^^ expected a duration such as "5s"
hint: write "30s" or "30ms"

error: `exit_zero` has the wrong type
 --> tidegate.toml:4:13
  |
4 | exit_zero = 1
  |             ^ expected true or false, found a whole number
"#,
    );
    check(
        "[upstream]\nname = \"api\"\n[[route]]\npath = 1\nupstream = []\nplugins = \"audit\"\n",
        r#"
error: `upstream` can be there several times
 --> tidegate.toml:1:1
  |
1 | [upstream]
  | ^^^^^^^^^^ expected double brackets
hint: write [[upstream]]

error: `path` has the wrong type
 --> tidegate.toml:4:8
  |
4 | path = 1
  |        ^ expected a string, found a whole number

error: `upstream` has the wrong type
 --> tidegate.toml:5:12
  |
5 | upstream = []
  |            ^^ expected a string, found a list

error: `plugins` has the wrong type
 --> tidegate.toml:6:11
  |
6 | plugins = "audit"
  |           ^^^^^^^ expected a list of strings, found a string
"#,
    );
}

#[test]
fn a_value_out_of_range_says_the_range() {
    check_with(
        r#"
[server]
max_connections = 0
max_header_bytes = "1KiB"
header_timeout = "0s"
idle_timeout = "48h"
body_timeout = "-1s"
[[plugin]]
name = "big"
path = "big.wasm"
instances = 1001
limits = { memory = "5GiB", queue = -1, body = "10 potatoes", cpu = "1.5ms" }
"#,
        r#"
error: `max_connections` is out of range
 --> tidegate.toml:3:19
  |
3 | max_connections = 0
  |                   ^ must be from 1 to 1000000

error: `max_header_bytes` is out of range
 --> tidegate.toml:4:20
  |
4 | max_header_bytes = "1KiB"
  |                    ^^^^^^ must be from 8KiB to 1MiB

error: `header_timeout` is out of range
 --> tidegate.toml:5:18
  |
5 | header_timeout = "0s"
  |                  ^^^^ must be from 1ms to 24h

error: `idle_timeout` is out of range
 --> tidegate.toml:6:16
  |
6 | idle_timeout = "48h"
  |                ^^^^^ must be from 1ms to 24h

error: `body_timeout` is not a duration
 --> tidegate.toml:7:16
  |
7 | body_timeout = "-1s"
  |                ^^^^^ a duration is a whole number and a unit
hint: for example "250ms", "5s" or "2m"

error: `instances` is out of range
  --> tidegate.toml:11:13
   |
11 | instances = 1001
   |             ^^^^ must be from 1 to 1000

error: `memory` is out of range
  --> tidegate.toml:12:21
   |
12 | limits = { memory = "5GiB", queue = -1, body = "10 potatoes", cpu = "1.5ms" }
   |                     ^^^^^^ must be from 64KiB to 4GiB

error: `queue` is out of range
  --> tidegate.toml:12:37
   |
12 | limits = { memory = "5GiB", queue = -1, body = "10 potatoes", cpu = "1.5ms" }
   |                                     ^^ must be from 0 to 1000000

error: `body` is not a size
  --> tidegate.toml:12:48
   |
12 | limits = { memory = "5GiB", queue = -1, body = "10 potatoes", cpu = "1.5ms" }
   |                                                ^^^^^^^^^^^^^ the units of a size are B, KiB, MiB, GiB, TiB, KB, MB, GB and TB
hint: for example "64MiB"

error: `cpu` is not a duration
  --> tidegate.toml:12:69
   |
12 | limits = { memory = "5GiB", queue = -1, body = "10 potatoes", cpu = "1.5ms" }
   |                                                                     ^^^^^^^ a duration is a whole number and a unit
hint: for example "250ms", "5s" or "2m"
"#,
    );
}

#[test]
fn a_misplaced_cache_is_pointed_out() {
    check_with(
        "[log]\ncache = false\n",
        r#"
error: unknown key `cache` in [log]
 --> tidegate.toml:2:1
  |
2 | cache = false
  | ^^^^^
hint: `cache` stands above the first table of the file
"#,
    );
}
