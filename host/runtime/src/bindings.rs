//! Host-side types of the contract, generated from `wit/`.

/// Stands for the request of the exchange that is lent to the current call. It carries nothing: a store has one
/// exchange at a time, and borrows do not outlive the call.
#[expect(unreachable_pub, reason = "the generated module exports it again")]
pub struct RequestHandle;

/// Stands for its response.
#[expect(unreachable_pub, reason = "the generated module exports it again")]
pub struct ResponseHandle;

mod generated {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "imports",
        imports: { default: trappable },
        with: {
            "tidegate:plugin/http.request": super::RequestHandle,
            "tidegate:plugin/http.response": super::ResponseHandle,
        },
        additional_derives: [PartialEq],
    });
}

pub(crate) use generated::Imports;
pub(crate) use generated::tidegate::plugin::{http, lifecycle};
pub(crate) use generated::wasi::logging::logging;
