//! Whatever is in a file, there is an answer.

use proptest::prelude::*;

use super::*;

/// A value as somebody might write it, fitting or not.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<bool>().prop_map(|yes| yes.to_string()),
        "[a-z0-9:/.*-]{0,12}".prop_map(|text| format!("{text:?}")),
        Just("[]".to_owned()),
        Just("{}".to_owned()),
        Just("[\"127.0.0.1:80\", 5]".to_owned()),
        Just("nan".to_owned()),
        "[0-9]{1,20}(ms|s|h|MiB|GB)".prop_map(|text| format!("{text:?}")),
    ]
}

proptest! {
    #[test]
    fn is_a_config_or_says_why(lines in prop::collection::vec((
        prop::sample::select(vec![
            "[server]", "[shutdown]", "[[plugin]]", "[[route]]", "[[upstream]]", "[plugin.limits]", "[plugin.config]", "[log]",
        ]),
        prop::sample::select(vec![
            "listen", "grace", "drain", "min_drain", "name", "path", "instances", "memory", "cpu", "host", "targets",
            "upstream", "plugins", "level", "sha256", "cache", "limits", "recycle", "calls", "idle", "x",
        ]),
        value(),
    ), 0..6)) {
        let source: String = lines.iter().map(|(table, key, value)| format!("{table}\n{key} = {value}\n")).collect();
        if let Err(diagnostics) = Config::parse(&source, Path::new("tidegate.toml")) {
            prop_assert!(diagnostics.count() > 0);
            prop_assert!(diagnostics.to_string().starts_with("error: "));
            prop_assert!(!diagnostics.render().is_empty());
        }
    }

    #[test]
    fn of_any_text_is_answered(source in "\\PC*") {
        let _ = Config::parse(&source, Path::new("x"));
    }
}
