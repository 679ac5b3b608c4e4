//! What a component must export and may import to be a plugin, checked when it is loaded.

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre};

use crate::contract::{Hook, PACKAGE, VERSION};
use crate::error::LoadError;
use crate::grants::{Grant, Needs};
use crate::hooks::{Exports, signature};
use crate::host::Guest;
use crate::inspect::Import;

/// The interface that carries each hook.
fn interface(hook: Hook) -> &'static str {
    match hook {
        Hook::Configure => "configure-hook",
        Hook::OnRequest => "request-hook",
        Hook::OnRequestBody => "request-body-hook",
        Hook::OnResponse => "response-hook",
        Hook::OnResponseBody => "response-body-hook",
        Hook::OnDeferred => "deferred-hook",
        Hook::OnTick => "tick-hook",
        Hook::Shutdown => "shutdown-hook",
    }
}

/// Find the hooks a component exports.
///
/// # Errors
/// If there is none, or one of another version of the contract.
pub(crate) fn exports(component: &Component) -> Result<Exports, LoadError> {
    let mut exports = Exports::default();
    for hook in Hook::ALL {
        let name = format!("{PACKAGE}/{}@{VERSION}", interface(hook));
        if let Some(instance) = component.get_export_index(None, &*name) {
            let function = component.get_export_index(Some(&instance), hook.as_str()).ok_or_else(|| {
                LoadError::WrongSignature { hook, detail: format!("`{name}` has no function of this name") }
            })?;
            exports.insert(hook, function);
        }
    }
    let ty = component.component_type();
    let names: Vec<String> = ty.exports(component.engine()).map(|(name, _)| name.to_owned()).collect();
    let ours = |name: &&String| {
        name.starts_with(PACKAGE) && name.contains("-hook@") && !name.ends_with(&format!("@{VERSION}"))
    };
    if let Some(export) = names.iter().find(ours) {
        return Err(LoadError::WrongVersion { export: export.clone() });
    }
    if exports.hooks().is_empty() {
        return Err(LoadError::NoHooks { exports: names });
    }
    Ok(exports)
}

/// Check every hook's parameters and result against what the runtime will call it with.
pub(crate) fn signatures(pre: &InstancePre<Guest>, exports: &Exports) -> Result<(), LoadError> {
    let component = pre.component();
    let types = pre.instance_type();
    for hook in exports.hooks().iter() {
        let name = format!("{PACKAGE}/{}@{VERSION}", interface(hook));
        let item = component
            .get_export_index(None, &*name)
            .and_then(|instance| component.get_export(Some(&instance), hook.as_str()))
            .map(|(item, _)| item);
        let Some(ComponentItem::ComponentFunc(function)) = item else {
            return Err(LoadError::WrongSignature { hook, detail: "it is not a function".into() });
        };
        let checked = match hook {
            Hook::Configure => function.typecheck::<signature::Configure<'_>, signature::Done>(&types),
            Hook::OnRequest => function.typecheck::<signature::OnRequest, signature::Head>(&types),
            Hook::OnRequestBody => function.typecheck::<signature::OnRequestBody<'_>, signature::Body>(&types),
            Hook::OnResponse => function.typecheck::<signature::OnResponse, signature::Head>(&types),
            Hook::OnResponseBody => function.typecheck::<signature::OnResponseBody<'_>, signature::Body>(&types),
            Hook::OnDeferred => function.typecheck::<signature::OnDeferred<'_>, signature::Done>(&types),
            Hook::OnTick => function.typecheck::<signature::OnTick, signature::Done>(&types),
            Hook::Shutdown => function.typecheck::<signature::Shutdown, signature::Done>(&types),
        };
        checked.map_err(|error| LoadError::WrongSignature { hook, detail: format!("{error:#}") })?;
    }
    Ok(())
}

/// The imports of a component, and what each of them takes.
pub(crate) fn imports(component: &Component) -> Vec<Import> {
    let ty = component.component_type();
    ty.imports(component.engine()).map(|(name, _)| Import { name: name.to_owned(), needs: needs(name) }).collect()
}

/// Whether a component has to do with snapshots at all: it leaves some, or reads some.
pub(crate) fn hands_over(component: &Component) -> bool {
    let (ty, engine) = (component.component_type(), component.engine());
    let lifecycle = format!("{PACKAGE}/lifecycle@{VERSION}");
    let Some((_, item)) = ty.imports(engine).find(|(name, _)| *name == lifecycle) else { return false };
    let ComponentItem::ComponentInstance(lifecycle) = item.ty else { return false };
    lifecycle.exports(engine).any(|(name, _)| matches!(name, "leave-snapshot" | "snapshots"))
}

/// What an import takes.
fn needs(import: &str) -> Needs {
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    let (package, _) = interface.split_once('/').unwrap_or((interface, ""));
    let unknown = || Needs::Another("the host does not know this interface; build the plugin without it".to_owned());
    // An interface of the right version needs something; one of another version needs another build.
    let (is_served, right, needs) = match package {
        PACKAGE => {
            let needs = match interface {
                "tidegate:plugin/http" | "tidegate:plugin/lifecycle" => Needs::Nothing,
                "tidegate:plugin/background" => Needs::Grant(Grant::Background),
                "tidegate:plugin/outbox" => Needs::Grant(Grant::Outbox),
                "tidegate:plugin/metrics" => Needs::Grant(Grant::Metrics),
                _ => unknown(),
            };
            (version == VERSION, format!("build the plugin against {PACKAGE}@{VERSION}"), needs)
        }
        // Filesystem and sockets are there because language toolchains import them whether they are used or not; they are
        // closed: no folder is open and every connection is refused.
        "wasi:io" | "wasi:clocks" | "wasi:random" | "wasi:cli" | "wasi:filesystem" | "wasi:sockets" => {
            (version.starts_with("0.2."), "build the plugin for WASI 0.2".to_owned(), Needs::Nothing)
        }
        "wasi:http" => {
            let needs = match interface {
                "wasi:http/types" | "wasi:http/outgoing-handler" => Needs::Grant(Grant::Http),
                _ => unknown(),
            };
            (version.starts_with("0.2."), "build the plugin for WASI 0.2".to_owned(), needs)
        }
        "wasi:logging" => (version == "0.1.0-draft", "use wasi:logging@0.1.0-draft".to_owned(), Needs::Nothing),
        "wasi:keyvalue" => {
            let needs = match interface {
                "wasi:keyvalue/store" | "wasi:keyvalue/atomics" => Needs::Grant(Grant::Kv),
                _ => unknown(),
            };
            (version == "0.2.0-draft2", "use wasi:keyvalue@0.2.0-draft2".to_owned(), needs)
        }
        "wasi:config" => {
            let needs = if interface == "wasi:config/store" { Needs::Grant(Grant::Config) } else { unknown() };
            (version == "0.2.0-rc.1", "use wasi:config@0.2.0-rc.1".to_owned(), needs)
        }
        _ => return unknown(),
    };
    if is_served { needs } else { Needs::Another(right) }
}
