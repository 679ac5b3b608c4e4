//! `[outbound]`, and `http` of `[plugin.grants]`.

use tidegate_outbound::Granted;

use super::*;

/// What a plugin with this line in `[plugin.grants]` has been granted, as it is shown.
fn granted(line: &str) -> Option<Vec<String>> {
    let config = parse(&with_plugin(&format!("[plugin.grants]\n{line}")));
    let shown = |Granted { origin, addresses }: &Granted| {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        format!("{origin} {}", addresses.join(" ")).trim().to_owned()
    };
    config.plugins[0].grants.http.as_ref().map(|all| all.iter().map(shown).collect())
}

#[test]
fn nothing_is_granted_unless_the_file_says_so_and_an_empty_list_is_not_nothing() {
    assert_eq!(granted(""), None);
    assert_eq!(granted("http = []"), Some(vec![]));
}

#[test]
fn origins_and_ranges_are_read() {
    let all = r#"http = ["https://API.example.com/", "https://*.example.org:8443",
        { origin = "http://10.1.2.3:8080", addresses = ["10.1.2.0/24", "fd00::/8", "10.9.9.9"] }, { origin = "http://a" }]"#;
    let expected = [
        "https://api.example.com",
        "https://*.example.org:8443",
        "http://10.1.2.3:8080 10.1.2.0/24 fd00::/8 10.9.9.9/32",
        "http://a",
    ];
    assert_eq!(granted(all), Some(expected.map(str::to_owned).to_vec()));
}

#[test]
fn the_table_has_the_documented_defaults_and_every_key_is_read() {
    let outbound = |text: &str| parse(&with(text)).outbound;
    let default = outbound("");
    assert_eq!((&default.ca_file, default.hosts.len()), (&None, 0));
    let limits = default.limits;
    assert_eq!((limits.connect_timeout, limits.max_connections, limits.max_requests), (Duration::from_secs(5), 64, 8));
    assert_eq!((limits.max_response, limits.max_response_headers), (8 << 20, 64 << 10));
    let told = outbound(
        r#"
[outbound]
ca_file = "ca.pem"
connect_timeout = "250ms"
max_connections = 3
max_requests = 2
max_response = "1MiB"
max_response_headers = "8KiB"
hosts = { "DB.internal" = ["10.1.2.3", "fd00::1"] }
"#,
    );
    assert_eq!(told.ca_file.as_deref(), Some(Path::new("/etc/tidegate/ca.pem")));
    let addresses = ["10.1.2.3", "fd00::1"].map(|text| text.parse::<std::net::IpAddr>().expect("an address"));
    assert_eq!(told.hosts["DB.internal"], addresses);
    let limits = told.limits;
    assert_eq!(
        (limits.connect_timeout, limits.max_connections, limits.max_requests),
        (Duration::from_millis(250), 3, 2)
    );
    assert_eq!((limits.max_response, limits.max_response_headers), (1 << 20, 8 << 10));
}

#[test]
fn what_cannot_be_granted() {
    check_with(
        r#"[[plugin]]
name = "a"
path = "a.wasm"
[plugin.grants]
http = [
  "https://api.example.com/v1",
  "http://127.0.0.1:9000",
  "https://*",
  "https://api.example.com",
  "https://api.example.com:443",
  { addresses = ["10.0.0.0/8"] },
  { origin = "http://10.1.2.3", addresses = ["10.1.2.3/24", "ten"], port = 1 },
  7,
]
"#,
        r#"
error: this origin cannot be granted
 --> tidegate.toml:6:3
  |
6 |   "https://api.example.com/v1",
  |   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^ an origin is a scheme, a host and a port, without a path
hint: write "https://api.example.com"; every path of it is granted

error: this origin could never be reached
 --> tidegate.toml:7:3
  |
7 |   "http://127.0.0.1:9000",
  |   ^^^^^^^^^^^^^^^^^^^^^^^ 127.0.0.1 is not a public address
hint: write { origin = "http://127.0.0.1:9000", addresses = ["127.0.0.1/32"] }

error: this origin cannot be granted
 --> tidegate.toml:8:3
  |
8 |   "https://*",
  |   ^^^^^^^^^^^ `*` can only stand for the first labels of a name
hint: for example "https://*.example.com"

error: `http` has `https://api.example.com` twice
  --> tidegate.toml:10:3
   |
10 |   "https://api.example.com:443",
   |   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

error: `http` has no `origin`
  --> tidegate.toml:11:3
   |
11 |   { addresses = ["10.0.0.0/8"] },
   |   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
hint: add `origin = "http://10.1.2.3:8080"`

error: this origin could never be reached
  --> tidegate.toml:12:14
   |
12 |   { origin = "http://10.1.2.3", addresses = ["10.1.2.3/24", "ten"], port = 1 },
   |              ^^^^^^^^^^^^^^^^^ 10.1.2.3 is not a public address
hint: write { origin = "http://10.1.2.3", addresses = ["10.1.2.3/32"] }

error: `addresses` has a range that does not begin where it says
  --> tidegate.toml:12:46
   |
12 |   { origin = "http://10.1.2.3", addresses = ["10.1.2.3/24", "ten"], port = 1 },
   |                                              ^^^^^^^^^^^^^
hint: write "10.1.2.0/24"

error: `addresses` has a range that is none
  --> tidegate.toml:12:61
   |
12 |   { origin = "http://10.1.2.3", addresses = ["10.1.2.3/24", "ten"], port = 1 },
   |                                                             ^^^^^ expected an address and the length of its prefix
hint: for example "10.1.2.0/24"

error: unknown key `port` in `http`
  --> tidegate.toml:12:69
   |
12 |   { origin = "http://10.1.2.3", addresses = ["10.1.2.3/24", "ten"], port = 1 },
   |                                                                     ^^^^
hint: the keys in `http` are `origin`, `addresses`

error: `http` has the wrong type
  --> tidegate.toml:13:3
   |
13 |   7,
   |   ^ expected an origin, or { origin = "..", addresses = [..] }, found a whole number
"#,
    );
}

#[test]
fn there_is_an_end_to_what_one_plugin_is_granted() {
    let origins: Vec<String> = (0..=1_000).map(|n| format!("\"http://h{n}\"")).collect();
    let text =
        format!("[[plugin]]\nname = \"a\"\npath = \"a.wasm\"\n[plugin.grants]\nhttp = [{}]\n", origins.join(", "));
    let problems = Config::parse(&with(&text), Path::new("tidegate.toml")).expect_err("too many").to_string();
    assert!(problems.contains("at most 1000 origins can be granted"), "{problems}");
}

#[test]
fn the_example_of_its_documentation_is_fine() {
    let text = include_str!("../../../../../docs/capabilities/http.md");
    assert_eq!(check_examples(text), 1);
}

#[test]
fn what_the_table_cannot_have() {
    check_with(
        r#"[outbound]
max_connections = 0
max_response_headers = "1KiB"
connect_timeout = 5
proxy = "http://proxy:3128"
hosts = { "10.1.2.3" = ["10.1.2.3"], "*.example.com" = ["1.2.3"], "db" = [], "x" = "10.1.2.3" }
"#,
        r#"
error: `max_connections` is out of range
 --> tidegate.toml:2:19
  |
2 | max_connections = 0
  |                   ^ must be from 1 to 10000

error: `max_response_headers` is out of range
 --> tidegate.toml:3:24
  |
3 | max_response_headers = "1KiB"
  |                        ^^^^^^ must be from 8KiB to 1MiB

error: `connect_timeout` has no unit
 --> tidegate.toml:4:19
  |
4 | connect_timeout = 5
  |                   ^ expected a duration such as "5s"
hint: write "5s" or "5ms"

error: unknown key `proxy` in [outbound]
 --> tidegate.toml:5:1
  |
5 | proxy = "http://proxy:3128"
  | ^^^^^
hint: the keys in [outbound] are `ca_file`, `hosts`, `connect_timeout`, `max_connections`, `max_requests`, `max_response`, `max_response_headers`

error: `hosts` has a key that is not the name of a host
 --> tidegate.toml:6:11
  |
6 | hosts = { "10.1.2.3" = ["10.1.2.3"], "*.example.com" = ["1.2.3"], "db" = [], "x" = "10.1.2.3" }
  |           ^^^^^^^^^^
hint: for example `hosts = { "db.internal" = ["10.1.2.3"] }`

error: `hosts` has a key that is not the name of a host
 --> tidegate.toml:6:38
  |
6 | hosts = { "10.1.2.3" = ["10.1.2.3"], "*.example.com" = ["1.2.3"], "db" = [], "x" = "10.1.2.3" }
  |                                      ^^^^^^^^^^^^^^^
hint: for example `hosts = { "db.internal" = ["10.1.2.3"] }`

error: `hosts` has an address that is none
 --> tidegate.toml:6:57
  |
6 | hosts = { "10.1.2.3" = ["10.1.2.3"], "*.example.com" = ["1.2.3"], "db" = [], "x" = "10.1.2.3" }
  |                                                         ^^^^^^^ expected an IP address
hint: for example "10.1.2.3"

error: `hosts` has no address for `db`
 --> tidegate.toml:6:74
  |
6 | hosts = { "10.1.2.3" = ["10.1.2.3"], "*.example.com" = ["1.2.3"], "db" = [], "x" = "10.1.2.3" }
  |                                                                          ^^

error: `hosts` has the wrong type
 --> tidegate.toml:6:84
  |
6 | hosts = { "10.1.2.3" = ["10.1.2.3"], "*.example.com" = ["1.2.3"], "db" = [], "x" = "10.1.2.3" }
  |                                                                                    ^^^^^^^^^^ expected a list of addresses for each name, found a string
"#,
    );
}

#[test]
fn certificates_that_cannot_be_used_are_found_when_the_file_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidegate.toml");
    let shown = |ca: &str| {
        std::fs::write(&file, with(&format!("[outbound]\nca_file = \"{ca}\"\n"))).expect("written");
        Config::load(&file).err().map(|problems| problems.to_string()).unwrap_or_default()
    };
    std::fs::write(folder.path().join("empty.pem"), "").expect("written");
    std::fs::write(folder.path().join("bad.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .expect("written");
    for (ca, label) in [
        ("missing.pem", "cannot read the file: No such file"),
        ("empty.pem", "there is no certificate in the file"),
        ("bad.pem", "certificate 1 in the file cannot be used"),
    ] {
        let shown = shown(ca);
        assert!(shown.contains("the certificates cannot be used") && shown.contains(label), "{ca}: {shown}");
    }
}
