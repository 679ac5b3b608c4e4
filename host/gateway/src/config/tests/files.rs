//! The config file itself, and the files that it names.

use std::path::Path;

use super::*;

#[test]
fn files_that_cannot_be_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let shown = |path: &Path| {
        let diagnostics = Config::load(path).expect_err("cannot be read");
        diagnostics.to_string().replace(&folder.path().display().to_string(), "FOLDER")
    };
    let file = folder.path().join("tidegate.toml");
    same(
        &shown(&file),
        r#"
error: cannot read the config file: no such file or directory
--> FOLDER/tidegate.toml
hint: name the file with `--config FILE`
"#,
    );
    same(
        &shown(folder.path()),
        r#"
error: cannot read the config file: is a directory
--> FOLDER
hint: name the file in it, for example with `--config tidegate.toml`
"#,
    );
    std::fs::write(&file, b"[log]\nlevel = \"\xff\"\n").expect("written");
    same(
        &shown(&file),
        r#"
error: the config file is not UTF-8 text: the first bad byte is in line 2
--> FOLDER/tidegate.toml
"#,
    );
    std::fs::write(&file, vec![b'#'; 2 << 20]).expect("written");
    same(
        &shown(&file),
        r#"
error: the config file is longer than 1MiB
--> FOLDER/tidegate.toml
hint: is it the right file?
"#,
    );
}

#[test]
fn a_plugin_file_must_be_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidegate.toml");
    std::fs::write(&file, with("[[plugin]]\nname = \"audit\"\npath = \"audit.wasm\"\n")).expect("written");
    let diagnostics = Config::load(&file).expect_err("the plugin is missing").to_string();
    same(
        &diagnostics.replace(&folder.path().display().to_string(), "FOLDER"),
        r#"
error: the file of plugin `audit` cannot be read
 --> FOLDER/tidegate.toml:3:8
  |
3 | path = "audit.wasm"
  |        ^^^^^^^^^^^^ there is no such file
  |
  = note: looked for it at FOLDER/audit.wasm
hint: a path is relative to the folder of the config file
"#,
    );
    std::fs::write(folder.path().join("audit.wasm"), "").expect("written");
    assert!(Config::load(&file).is_ok());
}
