//! `tidegate inspect`

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;
use tidegate_runtime::environment::Environment;
use tidegate_runtime::{Hook, Import, Inspection, Needs, Runtime, RuntimeConfig};

use super::table::Table;
use super::{Failure, InspectArgs, print};
use crate::config::HumanSize;
use crate::plugins::read_component;

/// Show the component on stdout.
pub(super) fn inspect(args: &InspectArgs) -> Result<(), Failure> {
    let failed = |text: &dyn std::fmt::Display, hint: Option<String>| {
        Failure::usage(format!("{}: {text}", args.plugin.display()), hint)
    };
    let component = read_component(&args.plugin).map_err(|error| failed(&error, None))?;
    // Nothing is instantiated, so the runtime can be as small as it gets.
    let runtime = Runtime::new(RuntimeConfig {
        slots: 1,
        cache: None,
        environment: Environment::real(std::time::Duration::from_millis(1)),
    })?;
    let inspection = runtime.inspect(&component).map_err(|error| failed(&error, error.hint()))?;
    print(&if args.json { json(&args.plugin, &inspection) } else { text(&args.plugin, &inspection) })
}

/// What `--json` prints. Fields are only added within a schema.
#[derive(Serialize)]
struct Json<'i> {
    schema: u32,
    path: String,
    digest: &'i str,
    size: usize,
    memory: u64,
    toolchain: &'i [String],
    hooks: Vec<JsonHook>,
    imports: Vec<JsonImport<'i>>,
}

#[derive(Serialize)]
struct JsonHook {
    name: &'static str,
    present: bool,
}

#[derive(Serialize)]
struct JsonImport<'i> {
    name: &'i str,
    /// Whether every plugin has it.
    free: bool,
    /// The key of `[plugin.grants]` that allows it.
    grant: Option<&'static str>,
    /// What has to change before a plugin without any grant loads.
    advice: Option<String>,
}

impl<'i> From<&'i Import> for JsonImport<'i> {
    fn from(Import { name, needs }: &'i Import) -> Self {
        let grant = match needs {
            Needs::Grant(grant) => Some(grant.key()),
            Needs::Nothing | Needs::Another(_) => None,
        };
        Self { name, free: *needs == Needs::Nothing, grant, advice: needs.advice() }
    }
}

fn json(path: &Path, inspection: &Inspection) -> String {
    let json = Json {
        schema: 1,
        path: path.display().to_string(),
        digest: &inspection.digest,
        size: inspection.size,
        memory: inspection.memory,
        toolchain: &inspection.toolchain,
        hooks: Hook::ALL.map(|hook| JsonHook { name: hook.as_str(), present: inspection.hooks.contains(hook) }).into(),
        imports: inspection.imports.iter().map(JsonImport::from).collect(),
    };
    let mut text = serde_json::to_string_pretty(&json).expect("strings, numbers and lists always become JSON");
    text.push('\n');
    text
}

/// The tools and their versions, without commit hashes and addresses; the JSON has them whole.
fn toolchain(inspection: &Inspection) -> String {
    let mut tools: Vec<&str> =
        inspection.toolchain.iter().map(|tool| tool.split_once(" (").map_or(tool.as_str(), |(tool, _)| tool)).collect();
    let mut seen = std::collections::HashSet::new();
    tools.retain(|tool| seen.insert(*tool));
    tools.join(", ")
}

fn text(path: &Path, inspection: &Inspection) -> String {
    let mut about = Table::default();
    about.row(["digest", &inspection.digest]);
    about.row(["size", &HumanSize(inspection.size as u64).to_string()]);
    about.row(["memory", &format!("{} to begin with", HumanSize(inspection.memory))]);
    let toolchain = toolchain(inspection);
    about.row(["made by", if toolchain.is_empty() { "it does not say" } else { &toolchain }]);

    let mut hooks = Table::default();
    for hook in Hook::ALL {
        let present = inspection.hooks.contains(hook);
        let absent = match hook {
            Hook::Shutdown => "absent: its instances are let go without a call",
            _ => "absent",
        };
        hooks.row([hook.as_str(), if present { "present" } else { absent }]);
    }

    let mut imports = Table::default();
    for import in &inspection.imports {
        let standing = match &import.needs {
            Needs::Nothing => "free".to_owned(),
            Needs::Grant(grant) => format!("needs a grant: {}", grant.example()),
            Needs::Another(advice) => format!("not served: {advice}"),
        };
        imports.row([import.name.as_str(), &standing]);
    }

    let mut text = format!("{}\n{}\nhooks\n{}", path.display(), about.render(), hooks.render());
    let listed = imports.render();
    let _ = write!(text, "\nimports\n{}", if listed.is_empty() { "  none\n" } else { &listed });
    text
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a missing element fails the test")]
mod tests {
    use tidegate_runtime::Grant;

    use super::*;

    fn inspection() -> Inspection {
        Inspection {
            digest: "sha256:00".into(),
            size: 1_536,
            hooks: Default::default(),
            imports: vec![
                Import { name: "tidegate:plugin/lifecycle@0.1.0".into(), needs: Needs::Nothing },
                Import { name: "tidegate:plugin/outbox@0.1.0".into(), needs: Needs::Grant(Grant::Outbox) },
                Import { name: "wasi:nn/tensor@0.2.0".into(), needs: Needs::Another("there is none".into()) },
            ],
            toolchain: vec!["Rust".into(), "rustc 1.95.0 (59807616e 2026-04-14)".into()],
            memory: 1_114_112,
        }
    }

    #[test]
    fn people_see_what_is_there_and_what_is_not() {
        let expected = "\
audit.wasm
  digest   sha256:00
  size     1.5KiB
  memory   1.06MiB to begin with
  made by  Rust, rustc 1.95.0

hooks
  configure         absent
  on-request        absent
  on-request-body   absent
  on-response       absent
  on-response-body  absent
  on-deferred       absent
  on-tick           absent
  shutdown          absent: its instances are let go without a call

imports
  tidegate:plugin/lifecycle@0.1.0  free
  tidegate:plugin/outbox@0.1.0     needs a grant: outbox = [\"events.*\"]
  wasi:nn/tensor@0.2.0             not served: there is none
";
        assert_eq!(text(Path::new("audit.wasm"), &inspection()), expected);
    }

    #[test]
    fn programs_see_the_same() {
        let json: serde_json::Value =
            serde_json::from_str(&json(Path::new("audit.wasm"), &inspection())).expect("valid JSON");
        assert_eq!(json["schema"], 1);
        assert_eq!(json["hooks"][7], serde_json::json!({ "name": "shutdown", "present": false }));
        assert_eq!(
            json["imports"][0],
            serde_json::json!({
                "name": "tidegate:plugin/lifecycle@0.1.0", "free": true, "grant": null, "advice": null
            })
        );
        assert_eq!(json["imports"][1]["grant"], "outbox");
        assert_eq!(json["imports"][2]["advice"], "there is none");
    }
}
