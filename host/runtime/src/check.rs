//! What a component must export and may import to be a plugin, checked when it is loaded.

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre};

use crate::contract::{Hook, PACKAGE, VERSION};
use crate::error::LoadError;
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
            Hook::Shutdown => function.typecheck::<signature::Shutdown, signature::Done>(&types),
        };
        checked.map_err(|error| LoadError::WrongSignature { hook, detail: format!("{error:#}") })?;
    }
    Ok(())
}

/// The imports of a component, and for each that is not free what has to change.
pub(crate) fn imports(component: &Component) -> Vec<Import> {
    let ty = component.component_type();
    ty.imports(component.engine())
        .map(|(name, _)| {
            let advice = advice(name);
            Import { name: name.to_owned(), free: advice.is_none(), advice }
        })
        .collect()
}

/// Whether a component has to do with snapshots at all: it leaves some, or reads some.
pub(crate) fn hands_over(component: &Component) -> bool {
    let (ty, engine) = (component.component_type(), component.engine());
    let lifecycle = format!("{PACKAGE}/lifecycle@{VERSION}");
    let Some((_, item)) = ty.imports(engine).find(|(name, _)| *name == lifecycle) else { return false };
    let ComponentItem::ComponentInstance(lifecycle) = item.ty else { return false };
    lifecycle.exports(engine).any(|(name, _)| matches!(name, "leave-snapshot" | "snapshots"))
}

/// What to do about an import that no plugin has for free; `None` if every plugin has it.
fn advice(import: &str) -> Option<String> {
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    let (package, _) = interface.split_once('/').unwrap_or((interface, ""));
    let no_grant = |what: &str| Some(format!("this version has no grant for {what}; build the plugin without it"));
    match package {
        PACKAGE if version != VERSION => Some(format!("build the plugin against {PACKAGE}@{VERSION}")),
        PACKAGE => match interface {
            "tidegate:plugin/http" | "tidegate:plugin/lifecycle" => None,
            _ => no_grant("this interface"),
        },
        // Filesystem and sockets are there because language toolchains import them whether they are used or not; they are
        // closed: no folder is open and every connection is refused.
        "wasi:io" | "wasi:clocks" | "wasi:random" | "wasi:cli" | "wasi:filesystem" | "wasi:sockets" => {
            let served = version.starts_with("0.2.");
            (!served).then(|| "build the plugin for WASI 0.2".to_owned())
        }
        "wasi:logging" => (version != "0.1.0-draft").then(|| "use wasi:logging@0.1.0-draft".to_owned()),
        "wasi:http" => no_grant("outbound HTTP"),
        "wasi:keyvalue" => no_grant("key-value stores"),
        "wasi:config" => no_grant("this interface; the plugin's config arrives through `configure`"),
        _ => Some("the host does not know this interface; build the plugin without it".to_owned()),
    }
}
