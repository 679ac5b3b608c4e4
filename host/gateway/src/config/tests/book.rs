//! The config files that the book shows. They begin with `# tidegate.toml`.

use super::*;

#[test]
fn the_config_files_of_the_book_are_fine() {
    let pages = [
        (include_str!("../../../../../docs/tutorial.md"), 1),
        (include_str!("../../../../../docs/shutting-down-well.md"), 1),
        (include_str!("../../../../../docs/choosing-limits.md"), 1),
        (include_str!("../../../../../docs/from-proxy-wasm.md"), 1),
    ];
    for (page, count) in pages {
        let files = page.split("```toml\n").filter(|rest| rest.starts_with("# tidegate.toml\n"));
        let files = files.filter_map(|rest| rest.split("```").next());
        assert_eq!(files.map(|file| check(file, "no problem")).count(), count);
    }
}
