//! The hooks: their names, their shapes, and how an author is told of them.

use proc_macro2::TokenStream;
use quote::quote;

/// One hook that a plugin may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    Configure,
    Request,
    RequestBody,
    Response,
    ResponseBody,
    Deferred,
    Tick,
    Shutdown,
}

impl Hook {
    pub(crate) const ALL: [Self; 8] = [
        Self::Configure,
        Self::Request,
        Self::RequestBody,
        Self::Response,
        Self::ResponseBody,
        Self::Deferred,
        Self::Tick,
        Self::Shutdown,
    ];

    pub(crate) fn of(method: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hook| hook.method() == method)
    }

    /// The method's name.
    pub(crate) fn method(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Request => "on_request",
            Self::RequestBody => "on_request_body",
            Self::Response => "on_response",
            Self::ResponseBody => "on_response_body",
            Self::Deferred => "on_deferred",
            Self::Tick => "on_tick",
            Self::Shutdown => "shutdown",
        }
    }

    /// The whole signature, as an error shows it.
    pub(crate) fn signature(self) -> &'static str {
        match self {
            Self::Configure => "fn configure(config: Self::Config, cx: &mut Context) -> Result<Self>",
            Self::Request => "fn on_request(&mut self, request: &mut Request) -> Result<Verdict>",
            Self::RequestBody => {
                "fn on_request_body(&mut self, request: &mut Request, body: Vec<u8>) -> Result<BodyVerdict>"
            }
            Self::Response => {
                "fn on_response(&mut self, request: &Request, response: &mut Response) -> Result<Verdict>"
            }
            Self::ResponseBody => {
                "fn on_response_body(&mut self, request: &Request, response: &mut Response, body: Vec<u8>) \
                 -> Result<BodyVerdict>"
            }
            Self::Deferred => "fn on_deferred(&mut self, payload: Vec<u8>) -> Result<()>",
            Self::Tick => "fn on_tick(&mut self) -> Result<()>",
            Self::Shutdown => "fn shutdown(&mut self, deadline: Deadline) -> Result<()>",
        }
    }

    /// The module of its generated bindings.
    pub(crate) fn bindings(self) -> TokenStream {
        match self {
            Self::Configure => quote!(configure),
            Self::Request => quote!(request),
            Self::RequestBody => quote!(request_body),
            Self::Response => quote!(response),
            Self::ResponseBody => quote!(response_body),
            Self::Deferred => quote!(deferred),
            Self::Tick => quote!(tick),
            Self::Shutdown => quote!(shutdown),
        }
    }
}
