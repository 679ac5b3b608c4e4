//! The files under `deploy/` agree: with each other, with the gateway, and on how long a stop may take.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tidegate_tests::gateway::{binary, tidegate};

/// The least by which a supervisor's limit exceeds the grace period: for the exit, and for a busy machine.
const MARGIN: Duration = Duration::from_secs(5);

const PLUGINS: &str = "/usr/local/lib/tidegate/plugins";
const CACHE: &str = "/var/cache/tidegate";

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A TOML config file.
fn config(text: &str) -> Value {
    let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{error}"));
    serde_json::to_value(table).unwrap_or_else(|error| panic!("{error}"))
}

/// `deploy/tidegate.toml`
fn shipped() -> Value {
    config(&read("tidegate.toml"))
}

/// The one in the ConfigMap.
fn in_cluster() -> Value {
    config(text_at(&manifest("config"), "/data/tidegate.toml"))
}

fn manifest(name: &str) -> Value {
    serde_saphyr::from_str(&read(&format!("kubernetes/{name}.yaml"))).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or_else(|| panic!("there is no {pointer} in {value:#}"))
}

fn text_at<'a>(value: &'a Value, pointer: &str) -> &'a str {
    at(value, pointer).as_str().unwrap_or_else(|| panic!("{pointer} is no text"))
}

fn number_at(value: &Value, pointer: &str) -> u64 {
    at(value, pointer).as_u64().unwrap_or_else(|| panic!("{pointer} is no number"))
}

/// A time as both the config and systemd have it.
fn time(text: &str) -> Duration {
    let seconds = text.strip_suffix('s').and_then(|number| number.parse().ok());
    Duration::from_secs(seconds.unwrap_or_else(|| panic!("{text:?} is no number of seconds")))
}

fn time_at(config: &Value, pointer: &str) -> Duration {
    time(text_at(config, pointer))
}

fn address(config: &Value, pointer: &str) -> SocketAddr {
    text_at(config, pointer).parse().unwrap_or_else(|error| panic!("{pointer}: {error}"))
}

/// A systemd unit: `Key=value` lines under titles.
struct Unit(String);

impl Unit {
    fn read(name: &str) -> Self {
        Self(read(&format!("systemd/{name}")))
    }

    fn values(&self, key: &str) -> Vec<&str> {
        self.0.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
    }

    /// The value of a key that is there once.
    fn value(&self, key: &str) -> &str {
        let values = self.values(key);
        let [value] = values[..] else { panic!("{key} is there {} times", values.len()) };
        value
    }
}

fn pod() -> Value {
    at(&manifest("deployment"), "/spec/template/spec").clone()
}

fn container() -> Value {
    at(&pod(), "/containers/0").clone()
}

/// A container's port by its name.
fn port(name: &str) -> u64 {
    let container = container();
    let mut ports = at(&container, "/ports").as_array().into_iter().flatten();
    let port = ports.find(|port| port["name"] == name).unwrap_or_else(|| panic!("no port {name}"));
    number_at(port, "/containerPort")
}

/// What comes after an option on a command line.
fn option<'a>(arguments: &[&'a str], name: &str) -> &'a str {
    let place = arguments.iter().position(|argument| *argument == name);
    place.and_then(|place| arguments.get(place + 1)).unwrap_or_else(|| panic!("no {name} in {arguments:?}"))
}

#[tokio::test]
async fn both_configs_are_accepted() {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let cluster = manifest("config");
    for text in [&read("tidegate.toml"), text_at(&cluster, "/data/tidegate.toml")] {
        let folder = tempfile::tempdir().expect("a folder");
        let here = folder.path().join("tidegate.toml");
        assert!(text.contains(PLUGINS) && text.contains(CACHE), "{text}");
        let plugins = target.join("plugins").display().to_string();
        let cache = target.join("test-cache").display().to_string();
        std::fs::write(&here, text.replace(PLUGINS, &plugins).replace(CACHE, &cache)).expect("written");
        let output = tidegate(&["check", "--config", &here.display().to_string()]).await;
        assert_eq!(output.code, Some(0), "{}", output.stderr);
    }
}

#[test]
fn both_configs_stop_alike() {
    let (shipped, in_cluster) = (shipped(), in_cluster());
    for table in ["/shutdown", "/server", "/log", "/plugin", "/route"] {
        assert_eq!(at(&shipped, table), at(&in_cluster, table), "{table}");
    }
}

#[test]
fn supervisors_wait_longer_than_the_grace_period() {
    let unit = Unit::read("tidegate.service");
    let cluster = Duration::from_secs(number_at(&pod(), "/terminationGracePeriodSeconds"));
    for (limit, config) in [(time(unit.value("TimeoutStopSec")), shipped()), (cluster, in_cluster())] {
        let grace = time_at(&config, "/shutdown/grace");
        assert!(limit >= grace + MARGIN, "{limit:?} of the supervisor, {grace:?} of grace");
    }
    // No preStop hook: it would take its time from the grace period, which the gateway knows nothing of.
    assert_eq!(container().pointer("/lifecycle"), None);
}

#[test]
fn readiness_is_noticed_within_the_drain_delay() {
    let probe = at(&container(), "/readinessProbe").clone();
    let noticed = Duration::from_secs(number_at(&probe, "/periodSeconds") * number_at(&probe, "/failureThreshold"));
    assert!(noticed < time_at(&in_cluster(), "/shutdown/drain_delay"), "{noticed:?}");
}

#[test]
fn a_first_start_may_take_as_long_everywhere() {
    let probe = at(&container(), "/startupProbe").clone();
    let cluster = Duration::from_secs(number_at(&probe, "/periodSeconds") * number_at(&probe, "/failureThreshold"));
    assert_eq!(time(Unit::read("tidegate.service").value("TimeoutStartSec")), cluster);
}

#[test]
fn probes_ask_the_admin_listener_for_what_it_has() {
    let config = in_cluster();
    let admin = address(&config, "/admin/listen");
    assert_eq!(port("admin"), u64::from(admin.port()));
    assert!(admin.ip().is_unspecified(), "the kubelet asks from outside");
    for (probe, path) in [("startupProbe", "/livez"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")] {
        let get = at(&container(), &format!("/{probe}/httpGet")).clone();
        assert_eq!((text_at(&get, "/path"), text_at(&get, "/port")), (path, "admin"));
    }
    assert!(address(&shipped(), "/admin/listen").ip().is_loopback());
}

#[test]
fn clients_reach_the_server_and_not_the_admin_listener() {
    let listen = address(&in_cluster(), "/server/listen");
    assert_eq!(port("http"), u64::from(listen.port()));
    let service = manifest("service");
    assert_eq!(at(&service, "/spec/ports").as_array().map(Vec::len), Some(1));
    assert_eq!(text_at(&service, "/spec/ports/0/targetPort"), "http");
    let socket = Unit::read("tidegate.socket");
    assert_eq!(socket.values("ListenStream"), [text_at(&shipped(), "/server/listen")]);
}

#[test]
fn selectors_find_the_pods() {
    let deployment = manifest("deployment");
    let labels = at(&deployment, "/spec/template/metadata/labels");
    assert_eq!(at(&deployment, "/spec/selector/matchLabels"), labels);
    assert_eq!(at(&manifest("service"), "/spec/selector"), labels);
    assert_eq!(at(&manifest("disruption"), "/spec/selector/matchLabels"), labels);
    let away = number_at(&manifest("disruption"), "/spec/maxUnavailable");
    assert!(away < number_at(&deployment, "/spec/replicas"), "somebody serves while a node is drained");
}

#[test]
fn the_unit_has_the_folders_that_its_command_and_its_config_name() {
    let unit = Unit::read("tidegate.service");
    let command: Vec<&str> = unit.value("ExecStart").split(' ').collect();
    let folder = |key: &str, root: &str| format!("{root}/{}", unit.value(key));
    assert_eq!(option(&command, "--config"), format!("{}/tidegate.toml", folder("ConfigurationDirectory", "/etc")));
    let report = Path::new(option(&command, "--shutdown-report"));
    assert_eq!(report.parent(), Some(Path::new(&folder("StateDirectory", "/var/lib"))));
    assert_eq!(text_at(&shipped(), "/cache"), folder("CacheDirectory", "/var/cache"));
    assert_eq!(unit.value("CacheDirectoryMode"), "0700", "the gateway uses no cache that others can write to");
}

#[test]
fn the_pod_has_the_files_and_folders_that_its_command_and_its_config_name() {
    let (pod, container) = (pod(), container());
    let arguments: Vec<&str> =
        at(&container, "/args").as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mounts = at(&container, "/volumeMounts").as_array().expect("a list");
    let mounted = |name: &str| {
        let mount = mounts.iter().find(|mount| mount["name"] == name).unwrap_or_else(|| panic!("no mount {name}"));
        Path::new(text_at(mount, "/mountPath")).to_owned()
    };
    let config = Path::new(option(&arguments, "--config"));
    assert_eq!(config.parent(), Some(&*mounted("config")));
    let key = config.file_name().and_then(|name| name.to_str()).expect("a name");
    let map = manifest("config");
    assert!(at(&map, "/data").get(key).is_some(), "{key}");
    assert_eq!(text_at(&pod, "/volumes/0/configMap/name"), text_at(&map, "/metadata/name"));
    // The volume itself belongs to root; a folder in it belongs to who makes it.
    let cache = Path::new(text_at(&in_cluster(), "/cache")).to_owned();
    assert_eq!(cache.parent(), Some(&*mounted("cache")));
    // The default of `terminationMessagePath`.
    assert_eq!(option(&arguments, "--shutdown-report"), "/dev/termination-log");
    assert_eq!(container.pointer("/terminationMessagePath"), None);
}

#[test]
fn the_image_has_the_program_and_the_plugins_where_they_are_looked_for() {
    let image = read("Containerfile");
    let unit = Unit::read("tidegate.service");
    let program = text_at(&container(), "/command/0").to_owned();
    assert_eq!(unit.value("ExecStart").split(' ').next(), Some(program.as_str()));
    assert!(image.contains(&format!("COPY target/release/tidegate {program}\n")));
    assert!(image.contains(&format!("COPY target/plugins {PLUGINS}\n")));
    assert!(text_at(&in_cluster(), "/plugin/0/path").starts_with(PLUGINS));
    let user = number_at(&pod(), "/securityContext/runAsUser");
    assert!(image.contains(&format!("USER {user}:{user}\n")));
}

#[test]
fn connections_and_plugins_fit_into_what_the_supervisor_grants() {
    let unit = Unit::read("tidegate.service");
    let descriptors: u64 = unit.value("LimitNOFILE").parse().expect("a number");
    assert!(descriptors > 2 * number_at(&shipped(), "/server/max_connections"));
    let mebibytes = |text: &str| text.strip_suffix("Mi").and_then(|number| number.parse::<u64>().ok());
    let limit = mebibytes(text_at(&container(), "/resources/limits/memory")).expect("in Mi");
    // The default of `memory`, since neither config sets it.
    let plugins = number_at(&in_cluster(), "/plugin/0/instances/max") * 32;
    assert_eq!(in_cluster().pointer("/plugin/0/limits/memory"), None);
    assert!(plugins * 2 <= limit, "{plugins} MiB of plugins, {limit} MiB in all");
}

#[test]
fn a_stop_that_left_something_undone_is_no_failure_of_the_service_and_a_wrong_config_is_no_reason_to_try_again() {
    let unit = Unit::read("tidegate.service");
    assert_eq!(unit.value("SuccessExitStatus"), "10 11 12");
    assert_eq!(unit.value("RestartPreventExitStatus"), "2");
    assert_eq!(unit.value("MemoryDenyWriteExecute"), "no", "plugins are compiled to native code");
}

/// Only where systemd is installed; elsewhere there is nobody to ask.
#[test]
fn systemd_understands_the_units() {
    let version = Command::new("systemd-analyze").arg("--version").output().ok();
    let version = version.and_then(|output| String::from_utf8(output.stdout).ok());
    let version = version.and_then(|text| text.split_whitespace().nth(1)?.parse::<u32>().ok());
    let Some(version) = version else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let here = |name: &str| folder.path().join(name);
    let program = text_at(&container(), "/command/0").to_owned();
    let unit = Unit::read("tidegate.service").0.replace(&program, &binary().display().to_string());
    std::fs::write(here("tidegate.service"), unit).expect("written");
    std::fs::write(here("tidegate.socket"), Unit::read("tidegate.socket").0).expect("written");
    let verify = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args([here("tidegate.service"), here("tidegate.socket")])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&verify.stderr).into_owned();
    // What is said of other units of this machine is not ours to mend.
    let about_ours = said.lines().filter(|line| line.contains("tidegate"));
    let unknown_type = |line: &&str| version < 253 && line.contains("ignoring: notify-reload");
    assert_eq!(about_ours.filter(|line| !unknown_type(line)).collect::<Vec<_>>(), [""; 0]);
}
