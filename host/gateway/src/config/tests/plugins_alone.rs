//! A config that is read for the sake of its plugins.

use std::path::Path;

use super::super::Config;

#[test]
fn plugins_need_no_routes_and_no_files_when_nothing_is_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidegate.toml");
    let plugin = "[[plugin]]\nname = \"a\"\npath = \"not-there.wasm\"\nlimits.shutdown = \"1s\"\n";
    std::fs::write(&file, plugin).expect("written");
    let config = Config::load_plugins(&file).expect("it has all that is asked for");
    assert_eq!((config.plugins.len(), &*config.plugins[0].name, config.routes.len()), (1, "a", 0));
    assert!(Config::parse(plugin, Path::new("tidegate.toml")).is_err(), "a gateway would serve nothing");
}

#[test]
fn what_is_wrong_with_a_plugin_is_wrong_here_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidegate.toml");
    std::fs::write(&file, "[[plugin]]\nname = \"a\"\npath = \"a.wasm\"\nlimits.shutdwn = \"1s\"\n").expect("written");
    let problems = Config::load_plugins(&file).expect_err("there is no such key");
    assert!(problems.render().contains("shutdwn"), "{}", problems.render());
}
