//! Names, and what routes match.

use super::*;

#[test]
fn plugins_and_upstreams_have_names_of_their_own() {
    check(
        r#"
[[upstream]]
name = "api"
targets = []
[[upstream]]
name = "api"
[[plugin]]
name = "a b"
path = ""
sha256 = "1234"
[[plugin]]
path = "b.wasm"
[plugin.grants]
http = ["api.example.com"]
[[route]]
path = "/x/"
upstream = "api"
[[route]]
path = "/x"
upstream = "api"
"#,
        r#"
error: `targets` is empty
 --> tidegate.toml:4:11
  |
4 | targets = []
  |           ^^ expected at least one target

error: [[upstream]] has no `targets`
 --> tidegate.toml:5:1
  |
5 | [[upstream]]
  | ^^^^^^^^^^^^
hint: add `targets = ["http://127.0.0.1:9000"]`

error: there are two upstreams named `api`
 --> tidegate.toml:6:8
  |
3 | name = "api"
  |        ----- first here
...
6 | name = "api"
  |        ^^^^^ again here

error: this name cannot be used
 --> tidegate.toml:8:8
  |
8 | name = "a b"
  |        ^^^^^ expected 1 to 64 of the characters a-z A-Z 0-9 - _ .

error: `path` is empty
 --> tidegate.toml:9:8
  |
9 | path = ""
  |        ^^

error: `sha256` is not a SHA-256 digest
  --> tidegate.toml:10:10
   |
10 | sha256 = "1234"
   |          ^^^^^^ expected 64 hexadecimal digits, found 4 characters
hint: `tidegate inspect` prints it

error: [[plugin]] has no `name`
  --> tidegate.toml:11:1
   |
11 | [[plugin]]
   | ^^^^^^^^^^
hint: add `name = ".."`

error: this origin cannot be granted
  --> tidegate.toml:14:9
   |
14 | http = ["api.example.com"]
   |         ^^^^^^^^^^^^^^^^^ expected a URL
hint: write "https://api.example.com"

error: there are two routes for `/x`
  --> tidegate.toml:19:8
   |
16 | path = "/x/"
   |        ----- first here
...
19 | path = "/x"
   |        ^^^^ again here
"#,
    );
}

#[test]
fn routes_are_literal() {
    let route = |path: &str, more: &str| {
        format!(
            "[[upstream]]\nname = \"a\"\ntargets = [\"http://a:1\"]\n[[route]]\npath = \"{path}\"\nupstream = \"a\"\n{more}\n"
        )
    };
    check(
        &route("api", ""),
        r#"
error: this path cannot be used
 --> tidegate.toml:5:8
  |
5 | path = "api"
  |        ^^^^^ a path begins with a slash
hint: write "/api"
"#,
    );
    check(
        &route("/api/*", ""),
        r#"
error: this path cannot be used
 --> tidegate.toml:5:8
  |
5 | path = "/api/*"
  |        ^^^^^^^^ there are no patterns
hint: a path is a prefix: "/api" matches "/api/x" as well
"#,
    );
    check(
        &route("/a/../b", "host = \"*.example.com\""),
        r#"
error: this path cannot be used
 --> tidegate.toml:5:8
  |
5 | path = "/a/../b"
  |        ^^^^^^^^^ a segment is empty or made of dots

error: this host cannot be used
 --> tidegate.toml:7:8
  |
7 | host = "*.example.com"
  |        ^^^^^^^^^^^^^^^ there are no patterns
hint: without `host`, a route matches every host
"#,
    );
    check(
        &route("/caf\u{e9}", "host = \"example.com:80\""),
        r#"
error: this path cannot be used
 --> tidegate.toml:5:8
  |
5 | path = "/café"
  |        ^^^^^^^ no request has such a path
hint: write other characters as %XX

error: this host cannot be used
 --> tidegate.toml:7:8
  |
7 | host = "example.com:80"
  |        ^^^^^^^^^^^^^^^^ the port is not looked at
hint: write "example.com"
"#,
    );
}
