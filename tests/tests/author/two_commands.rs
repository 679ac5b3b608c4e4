//! `tidegate plugin new` and `tidegate plugin test`: from a name to a plugin that passes, in each language.
//!
//! npm and pip take what they install from their own caches, where the build of the repository's plugins has left it.

use super::project::{Project, run};

/// The second of them: everything there is to check has passed.
fn a_test_is_the_second(project: &Project) {
    // Other tests compile and serve at the same time: ten thousand requests to an engine in an engine may take minutes then.
    let tested = run(project.tidegate().args(["plugin", "test", "--patience", "3600"]));
    let said = format!("{}\n{}", tested.stdout, tested.stderr);
    assert_eq!(tested.code, Some(0), "{said}");
    assert!(tested.stdout.contains("10 passed, 0 failed, 3 skipped"), "{said}");
    // It has no such hooks, and no grants.
    for check in ["tick", "deferred", "capabilities"] {
        assert!(tested.stdout.contains(&format!("skipped  {check}")), "{said}");
    }
    assert!(
        tested.stderr.contains(", built in "),
        "it says what it builds, and where the table has no part in it: {said}"
    );
}

#[test]
fn rust() {
    if let Some(project) = Project::new("tested-visits") {
        a_test_is_the_second(&project);
    }
}

#[test]
fn javascript() {
    let Some(project) = Project::in_javascript("js-visits") else { return };
    a_test_is_the_second(&project);

    // The tools are there now, and so is what they say of a slip.
    project.edit(|source| source + "let slip = ;\n");
    let built = run(project.tidegate().args(["plugin", "build"]));
    assert_eq!(built.code, Some(3), "{}", built.stderr);
    assert!(built.stderr.contains("let slip = ;\n           ^"), "it is shown where: {}", built.stderr);
}

#[test]
fn python() {
    if let Some(project) = Project::in_python("py-visits") {
        a_test_is_the_second(&project);
    }
}

#[test]
fn what_does_not_build_is_not_tested() {
    let Some(project) = Project::new("untested-visits") else { return };
    project.edit(|source| source + "\nfn {\n");
    let untested = run(project.tidegate().args(["plugin", "test", "--json"]));
    assert_eq!((untested.code, untested.stdout.as_str()), (Some(3), ""), "{}", untested.stderr);
    assert!(untested.stderr.contains("src/lib.rs"), "the compiler is heard: {}", untested.stderr);
    assert!(untested.stderr.contains("error: the plugin does not build"), "{}", untested.stderr);
}

#[test]
fn a_slip_on_the_command_line_is_told_before_anything_is_built() {
    let Some(project) = Project::new("unbuilt-visits") else { return };
    for slip in [["--secret", "token=1"], ["--set", "header"], ["--path", "visits"], ["--only", "lode"]] {
        let refused = run(project.tidegate().args(["plugin", "test"]).args(slip));
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{}", refused.stderr);
        assert!(refused.stderr.starts_with("error: ") && refused.stderr.contains("hint: "), "{}", refused.stderr);
    }
}

#[test]
fn what_is_there_is_tested_without_a_build() {
    let Some(project) = Project::new("finished-visits") else { return };
    let without = ["plugin", "test", "--no-build", "--only", "load"];
    let missing = run(project.tidegate().args(without));
    assert_eq!(missing.code, Some(2), "{}", missing.stderr);
    assert!(missing.stderr.contains("hint: `tidegate plugin build` makes it"), "{}", missing.stderr);

    let built = run(project.tidegate().args(["plugin", "build"]));
    assert_eq!(built.code, Some(0), "{}", built.stderr);
    project.edit(|source| source + "\nfn {\n");
    let tested = run(project.tidegate().args(without));
    assert_eq!((tested.code, tested.stderr.as_str()), (Some(0), ""), "{}", tested.stdout);
}
