//! What wit-bindgen makes of `wit/`: the imports once, and one world for each hook.
//!
//! A world per hook is what lets a component export just the hooks its author wrote: the attribute invokes the
//! `export!` macro of those worlds only. All of them share the types of [`imports`], so a `request` is the same type
//! everywhere. Public for the attribute's expansion and nobody else.

/// The imports: the exchange, the lifecycle, the log, and what can be granted.
pub mod imports {
    wit_bindgen::generate!({
        path: "../wit",
        world: "imports",
        generate_all,
    });
}

/// What the SDK's clients use of WASI itself: outbound HTTP, and the clock to wait by.
pub mod clients {
    wit_bindgen::generate!({
        path: "wit",
        world: "clients",
        generate_all,
    });
}

/// Generates the module of one hook: its `Guest` trait and its `export!` macro.
macro_rules! hook_worlds {
    ($($(#[$doc:meta])* $module:ident = $world:literal;)+) => {$(
        $(#[$doc])*
        pub mod $module {
            wit_bindgen::generate!({
                path: "../wit",
                world: $world,
                pub_export_macro: true,
                with: {
                    "tidegate:plugin/http@0.1.0": crate::bindings::imports::tidegate::plugin::http,
                    "tidegate:plugin/lifecycle@0.1.0": crate::bindings::imports::tidegate::plugin::lifecycle,
                    "tidegate:plugin/background@0.1.0": crate::bindings::imports::tidegate::plugin::background,
                    "tidegate:plugin/outbox@0.1.0": crate::bindings::imports::tidegate::plugin::outbox,
                    "tidegate:plugin/metrics@0.1.0": crate::bindings::imports::tidegate::plugin::metrics,
                    "wasi:keyvalue/store@0.2.0-draft2": crate::bindings::imports::wasi::keyvalue::store,
                    "wasi:keyvalue/atomics@0.2.0-draft2": crate::bindings::imports::wasi::keyvalue::atomics,
                    "wasi:config/store@0.2.0-rc.1": crate::bindings::imports::wasi::config::store,
                    "wasi:logging/logging@0.1.0-draft": crate::bindings::imports::wasi::logging::logging,
                },
            });
        }
    )+};
}

hook_worlds! {
    /// `configure`.
    configure = "configure-only";
    /// `on-request`.
    request = "request-only";
    /// `on-request-body`.
    request_body = "request-body-only";
    /// `on-response`.
    response = "response-only";
    /// `on-response-body`.
    response_body = "response-body-only";
    /// `on-deferred`.
    deferred = "deferred-only";
    /// `on-tick`.
    tick = "tick-only";
    /// `shutdown`.
    shutdown = "shutdown-only";
}
