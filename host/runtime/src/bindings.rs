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
        imports: {
            "tidegate:plugin/outbox": async | trappable,
            "wasi:keyvalue/store": async | trappable,
            "wasi:keyvalue/atomics": async | trappable,
            default: trappable,
        },
        with: {
            "tidegate:plugin/http.request": super::RequestHandle,
            "tidegate:plugin/http.response": super::ResponseHandle,
            "wasi:keyvalue/store.bucket": crate::host::OpenBucket,
            "wasi:keyvalue/atomics.cas": crate::host::Claim,
        },
    });
}

pub(crate) use generated::Imports;
pub(crate) use generated::tidegate::plugin::{background, http, lifecycle, metrics, outbox};
pub(crate) use generated::wasi::config::store as config;
pub(crate) use generated::wasi::keyvalue::{atomics, store as keyvalue};
pub(crate) use generated::wasi::logging::logging;
