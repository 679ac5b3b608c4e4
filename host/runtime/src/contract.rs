//! The names of the contract: its version, its hooks, their signatures. What a component has of them is found by `check`.

use std::fmt;

/// The package of the contract.
pub(crate) const PACKAGE: &str = "tidegate:plugin";

/// The version of it that this runtime serves.
pub(crate) const VERSION: &str = "0.1.0";

/// A hook of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Hook {
    /// Once per instance, before anything else.
    Configure,
    /// The head of each request.
    OnRequest,
    /// The body of a request, on demand.
    OnRequestBody,
    /// The head of each response.
    OnResponse,
    /// The body of a response, on demand.
    OnResponseBody,
    /// Once per payload that a hook has put off.
    OnDeferred,
    /// Once per tick and instance.
    OnTick,
    /// Once per instance, when it has to go.
    Shutdown,
}

impl Hook {
    /// Every hook, in the order of the contract.
    pub const ALL: [Self; 8] = [
        Self::Configure,
        Self::OnRequest,
        Self::OnRequestBody,
        Self::OnResponse,
        Self::OnResponseBody,
        Self::OnDeferred,
        Self::OnTick,
        Self::Shutdown,
    ];

    /// The name of the function, `on-request` for example.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::OnRequest => "on-request",
            Self::OnRequestBody => "on-request-body",
            Self::OnResponse => "on-response",
            Self::OnResponseBody => "on-response-body",
            Self::OnDeferred => "on-deferred",
            Self::OnTick => "on-tick",
            Self::Shutdown => "shutdown",
        }
    }

    /// The signature the contract asks for.
    #[must_use]
    pub fn signature(self) -> &'static str {
        match self {
            Self::Configure => "configure: func(config: string) -> result<_, string>",
            Self::OnRequest => "on-request: func(request: borrow<request>) -> result<verdict, string>",
            Self::OnRequestBody => {
                "on-request-body: func(request: borrow<request>, body: list<u8>) -> result<body-verdict, string>"
            }
            Self::OnResponse => {
                "on-response: func(request: borrow<request>, response: borrow<response>) -> result<verdict, string>"
            }
            Self::OnResponseBody => {
                "on-response-body: func(request: borrow<request>, response: borrow<response>, body: list<u8>) -> result<body-verdict, string>"
            }
            Self::OnDeferred => "on-deferred: func(payload: list<u8>) -> result<_, string>",
            Self::OnTick => "on-tick: func() -> result<_, string>",
            Self::Shutdown => "shutdown: func(deadline-ms: u64) -> result<_, string>",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of hooks.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Hooks(u16);

impl Hooks {
    /// Whether the hook is in the set.
    #[must_use]
    pub fn contains(self, hook: Hook) -> bool {
        self.0 & (1 << hook as u8) != 0
    }

    /// The hooks of the set, in the order of the contract.
    pub fn iter(self) -> impl Iterator<Item = Hook> {
        Hook::ALL.into_iter().filter(move |hook| self.contains(*hook))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn insert(&mut self, hook: Hook) {
        self.0 |= 1 << hook as u8;
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
