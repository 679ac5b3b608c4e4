//! Whether it loads at all.

use tidegate_runtime::{EndCause, Hook, LoadError, Needs};

use super::finding::Unit;
use super::trial::Trial;
use crate::error::SetupError;

/// Imports against grants.
pub(super) fn imports(trial: &mut Trial<'_>) {
    let imports = &trial.kit.inspection().imports;
    let free = imports.iter().filter(|import| import.needs == Needs::Nothing).count();
    trial.measure("imports", imports.len() as u64, Unit::Count);
    trial.measure("free", free as u64, Unit::Count);
    let granted = trial.kit.set_up().grants();
    let mut needed = Vec::new();
    for import in imports {
        match &import.needs {
            Needs::Nothing => {}
            Needs::Grant(grant) if granted.contains(grant) => {
                if !needed.contains(&grant.example()) {
                    needed.push(grant.example());
                }
            }
            needs => {
                trial.problem(
                    format!("it imports `{}`, which it has not been granted", import.name),
                    needs.advice().as_deref(),
                );
            }
        }
    }
    if trial.kit.grants_imports() && !needed.is_empty() {
        trial.note(format!("in a gateway it needs grants: {}", needed.join(", ")));
    }
}

/// Compiling, signatures, and `configure`.
pub(super) fn load(trial: &mut Trial<'_>) {
    let limit = trial.kit.set_up().spec_limits().configure;
    match trial.kit.set_up().load() {
        Ok(plugin) => {
            trial.measure("size", trial.kit.inspection().size as u64, Unit::Bytes);
            if let Some(used) = plugin.most(Hook::Configure) {
                trial.measure("memory", used.memory as u64, Unit::Bytes);
                trial.time("configure", plugin.now());
                trial.share("of configure", plugin.now(), limit);
            }
        }
        Err(error) => {
            let advice = advice(&error);
            trial.problem(text(&error), advice.as_deref());
        }
    }
}

fn text(error: &SetupError) -> String {
    match error {
        SetupError::Refused(error) => error.to_string(),
        other => other.to_string(),
    }
}

fn advice(error: &SetupError) -> Option<String> {
    let SetupError::Refused(error) = error else { return None };
    let cause = match error {
        LoadError::Configure(error) => &error.cause,
        other => return other.hint(),
    };
    Some(match cause {
        EndCause::Returned { .. } => {
            "say what it wants: `--set KEY=VALUE`, `--plugin-config JSON`, or `--config FILE` with its [[plugin]] table"
                .into()
        }
        EndCause::Cpu { .. } | EndCause::Wall { .. } => {
            "make `configure` do less, or raise `configure` under [plugin.limits]".into()
        }
        EndCause::Memory { .. } => "let it begin with less, or raise `memory` under [plugin.limits]".into(),
        _ => "make `configure` return an error instead: its text tells the operator what to change".into(),
    })
}
