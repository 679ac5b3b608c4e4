//! From a name to a component.

use tidegate_tests::components;

use super::project::{Project, run, tidegate};

#[test]
fn a_new_project_passes_its_tests_and_builds_as_it_is() {
    let Some(project) = Project::new("new-visits") else { return };
    let tested = run(project.cargo().arg("test"));
    assert_eq!(tested.code, Some(0), "{}\n{}", tested.stdout, tested.stderr);
    assert!(tested.stdout.contains("2 passed"), "{}", tested.stdout);

    let built = run(project.tidegate().args(["plugin", "build"]));
    assert_eq!(built.code, Some(0), "{}", built.stderr);
    assert!(built.stdout.contains("hooks: configure, on-response, shutdown"), "{}", built.stdout);
    assert!(built.stderr.contains("guest toolchain: wasm32-wasip2 is installed"), "{}", built.stderr);
    assert!(project.path().join("target/new-visits.wasm").is_file());

    let checks = ["load", "hooks", "stop-idle", "stop-busy", "fuel"];
    let only = checks.iter().flat_map(|check| ["--only", check]);
    let conforms = run(project.tidegate().args(["plugin", "test"]).args(only));
    assert_eq!(conforms.code, Some(0), "{}{}", conforms.stdout, conforms.stderr);
    assert!(conforms.stdout.contains("5 passed, 0 failed, 0 skipped"), "{}", conforms.stdout);

    let measured = run(project.tidegate().args(["plugin", "bench", "--calls", "20", "--json"]));
    let figures: serde_json::Value = serde_json::from_str(&measured.stdout).expect("it is JSON");
    assert_eq!(figures.get("failed"), Some(&0.into()), "{}", measured.stdout);
}

#[test]
fn a_source_that_does_not_compile_has_a_code_of_its_own() {
    let Some(project) = Project::new("broken-visits") else { return };
    project.edit(|source| source + "\nfn {\n");
    let built = run(project.tidegate().args(["plugin", "build"]));
    assert_eq!(built.code, Some(3), "{}", built.stderr);
    assert!(built.stderr.contains("src/lib.rs"), "the compiler is heard: {}", built.stderr);
    assert!(built.stderr.contains("error: the plugin does not build"), "{}", built.stderr);
}

#[test]
fn every_language_begins_with_its_source_and_the_contract() {
    let folder = tempfile::tempdir().expect("a folder");
    for (language, source) in [("js", "plugin.js"), ("python", "plugin.py")] {
        let made =
            run(tidegate(folder.path()).args(["plugin", "new", "visits", "--lang", language, "--dir", language]));
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        for file in [source, "tidegate-plugin.toml", "README.md", ".gitignore", "wit/own.wit", "wit/world.wit"] {
            assert!(folder.path().join(language).join(file).is_file(), "{language}: {file}");
        }
    }
}

#[test]
fn nothing_is_overwritten() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = folder.path().join("visits");
    std::fs::create_dir(&taken).expect("made");
    std::fs::write(taken.join("notes.txt"), "mine").expect("written");
    let refused = run(tidegate(folder.path()).args(["plugin", "new", "visits"]));
    assert_eq!(refused.code, Some(2));
    assert_eq!(
        refused.stderr,
        "error: visits is there already, and not empty\nhint: name another folder with `--dir`, or move this one away\n"
    );
    assert_eq!(std::fs::read_dir(&taken).expect("it is there").count(), 1);
}

#[test]
fn a_name_that_is_none_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["../visits", "Visits", "fn", "a b", "ünicode", ""] {
        let refused = run(tidegate(folder.path()).args(["plugin", "new", name]));
        assert_eq!(refused.code, Some(2), "{name}");
        assert!(refused.stderr.contains("hint: "), "{name}: {}", refused.stderr);
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 0, "nothing was made");
}

#[test]
fn a_folder_without_a_project_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    for command in ["build", "test", "bench", "dev"] {
        let refused = run(tidegate(folder.path()).args(["plugin", command]));
        assert_eq!(refused.code, Some(2), "{command}");
        assert!(refused.stderr.contains("hint: `tidegate plugin new NAME` makes a project"), "{}", refused.stderr);
    }
}

#[test]
fn what_is_wrong_in_the_file_is_shown_where_it_stands() {
    let folder = tempfile::tempdir().expect("a folder");
    let component = components::plugin("stamp");
    let file = format!(
        "lang = \"rust\"\n[[plugin]]\nname = \"stamp\"\npath = {}\n[plugin.limits]\nmemroy = \"1MiB\"\n",
        toml::Value::String(component.display().to_string())
    );
    std::fs::write(folder.path().join("tidegate-plugin.toml"), file).expect("written");
    let refused = run(tidegate(folder.path()).args(["plugin", "bench"]));
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("tidegate-plugin.toml:6:1"), "{}", refused.stderr);
}
