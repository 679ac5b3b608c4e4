//! What the attribute's expansion stands on: one trait per hook, the instance, and the exports.
//!
//! Nothing here is for authors; it changes with the attribute. The traits are implemented on every target, so that a
//! native `cargo check` finds a wrong signature; the exports are made for WebAssembly only.

use crate::plugin::read_config;
use crate::{BodyVerdict, Context, Deadline, Plugin, Request, Response, Result, Verdict};

pub use crate::bindings;
pub use crate::plugin::{NoConfig, Outcome};

/// How an instance comes to be.
pub trait Construct: Plugin {
    /// Whether the author wrote `configure`. If not, there is no configure hook and the instance makes itself.
    const CONFIGURED: bool;

    /// Makes the instance.
    ///
    /// # Errors
    /// A config that does not fit, or what `configure` returned.
    fn construct(config: &str, cx: &mut Context) -> Result<Self>;
}

/// Reads the config for [`Construct::construct`].
///
/// # Errors
/// The config does not fit.
pub fn config<P: Plugin>(json: &str) -> Result<P::Config> {
    read_config(json)
}

/// `on_request`.
pub trait RequestHook {
    /// # Errors
    /// The hook's.
    fn call(&mut self, request: &mut Request) -> Result<Verdict>;
}

/// `on_request_body`.
pub trait RequestBodyHook {
    /// # Errors
    /// The hook's.
    fn call(&mut self, request: &mut Request, body: Vec<u8>) -> Result<BodyVerdict>;
}

/// `on_response`.
pub trait ResponseHook {
    /// # Errors
    /// The hook's.
    fn call(&mut self, request: &Request, response: &mut Response) -> Result<Verdict>;
}

/// `on_response_body`.
pub trait ResponseBodyHook {
    /// # Errors
    /// The hook's.
    fn call(&mut self, request: &Request, response: &mut Response, body: Vec<u8>) -> Result<BodyVerdict>;
}

/// `on_deferred`.
pub trait DeferredHook {
    /// # Errors
    /// The hook's.
    fn call(&mut self, payload: Vec<u8>) -> Result<()>;
}

/// `on_tick`.
pub trait TickHook {
    /// # Errors
    /// The hook's.
    fn call(&mut self) -> Result<()>;
}

/// `shutdown`.
pub trait ShutdownHook {
    /// # Errors
    /// The hook's.
    fn call(&mut self, deadline: Deadline) -> Result<()>;
}

#[cfg(target_arch = "wasm32")]
pub use exports::{Export, Instance, Slot};

/// The instance in its cell.
#[cfg(any(target_arch = "wasm32", test))]
pub mod instance {
    use super::{Construct, ShutdownHook};
    use crate::context::join;
    use crate::{Context, Deadline, Error, Result};
    use std::cell::RefCell;

    /// The one instance of a plugin, and the parts it registered.
    ///
    /// **Invariant**: the host never enters an instance that is in a call, so the cell is never borrowed twice.
    #[derive(Debug)]
    pub struct Slot<P>(RefCell<Option<(P, Context)>>);

    impl<P> Slot<P> {
        /// Empty.
        #[must_use]
        pub const fn new() -> Self {
            Self(RefCell::new(None))
        }
    }

    impl<P> Default for Slot<P> {
        fn default() -> Self {
            Self::new()
        }
    }

    impl<P: Construct> Slot<P> {
        pub(super) fn configure(&self, config: &str) -> Result<()> {
            let mut slot = self.0.borrow_mut();
            if slot.is_some() {
                return Err(Error::from("the host called `configure` a second time"));
            }
            let mut cx = Context::new();
            let plugin = P::construct(config, &mut cx)?;
            *slot = Some((plugin, cx));
            Ok(())
        }

        pub(super) fn call<T>(&self, hook: impl FnOnce(&mut P) -> Result<T>) -> Result<T> {
            if !P::CONFIGURED && self.0.borrow().is_none() {
                self.configure("{}")?;
            }
            match self.0.borrow_mut().as_mut() {
                Some((plugin, _)) => hook(plugin),
                None => Err(Error::from("the host called a hook before `configure` had succeeded")),
            }
        }

        /// The plugin's own shutdown, then its parts, whatever the former returned.
        pub(super) fn shut_down(&self, deadline: Deadline) -> Result<()>
        where
            P: ShutdownHook,
        {
            let own = self.call(|plugin| plugin.call(deadline));
            let parts = match self.0.borrow_mut().as_mut() {
                Some((_, cx)) => std::mem::take(cx).shut_down(deadline),
                None => Ok(()),
            };
            match (own, parts) {
                (Err(own), Err(parts)) => join(vec![own.to_string(), parts.to_string()]),
                (own, parts) => own.and(parts),
            }
        }
    }
}

#[cfg(target_arch = "wasm32")]
mod exports {
    use super::bindings;
    use super::instance;
    use super::{
        Construct, DeferredHook, RequestBodyHook, RequestHook, ResponseBodyHook, ResponseHook, ShutdownHook, TickHook,
    };
    use crate::bindings::imports::tidegate::plugin::http as wit;
    use crate::{Deadline, Request, Response, Result};
    use std::marker::PhantomData;
    use std::thread::LocalKey;

    pub use instance::Slot;

    /// Where the one instance of a plugin lives.
    pub trait Instance: Construct {
        /// Its cell.
        fn slot() -> &'static LocalKey<Slot<Self>>;
    }

    /// The type that the `export!` macros are given.
    #[derive(Debug)]
    pub struct Export<P>(PhantomData<P>);

    fn enter<P: Instance, T>(hook: impl FnOnce(&Slot<P>) -> Result<T>) -> Result<T, String> {
        crate::logging::install();
        P::slot().with(hook).map_err(|error| error.to_string())
    }

    impl<P: Instance> bindings::configure::exports::tidegate::plugin::configure_hook::Guest for Export<P> {
        fn configure(config: String) -> Result<(), String> {
            enter::<P, _>(|slot| slot.configure(&config))
        }
    }

    impl<P: Instance + RequestHook> bindings::request::exports::tidegate::plugin::request_hook::Guest for Export<P> {
        fn on_request(request: &wit::Request) -> Result<wit::Verdict, String> {
            enter::<P, _>(|slot| slot.call(|plugin| plugin.call(&mut Request::lent(request)))).map(Into::into)
        }
    }

    impl<P: Instance + RequestBodyHook> bindings::request_body::exports::tidegate::plugin::request_body_hook::Guest
        for Export<P>
    {
        fn on_request_body(request: &wit::Request, body: Vec<u8>) -> Result<wit::BodyVerdict, String> {
            enter::<P, _>(|slot| slot.call(|plugin| plugin.call(&mut Request::lent(request), body))).map(Into::into)
        }
    }

    impl<P: Instance + ResponseHook> bindings::response::exports::tidegate::plugin::response_hook::Guest for Export<P> {
        fn on_response(request: &wit::Request, response: &wit::Response) -> Result<wit::Verdict, String> {
            let (request, mut response) = (Request::lent(request), Response::lent(response));
            enter::<P, _>(|slot| slot.call(|plugin| plugin.call(&request, &mut response))).map(Into::into)
        }
    }

    impl<P: Instance + ResponseBodyHook> bindings::response_body::exports::tidegate::plugin::response_body_hook::Guest
        for Export<P>
    {
        fn on_response_body(
            request: &wit::Request,
            response: &wit::Response,
            body: Vec<u8>,
        ) -> Result<wit::BodyVerdict, String> {
            let (request, mut response) = (Request::lent(request), Response::lent(response));
            enter::<P, _>(|slot| slot.call(|plugin| plugin.call(&request, &mut response, body))).map(Into::into)
        }
    }

    impl<P: Instance + DeferredHook> bindings::deferred::exports::tidegate::plugin::deferred_hook::Guest for Export<P> {
        fn on_deferred(payload: Vec<u8>) -> Result<(), String> {
            enter::<P, _>(|slot| slot.call(|plugin| plugin.call(payload)))
        }
    }

    impl<P: Instance + TickHook> bindings::tick::exports::tidegate::plugin::tick_hook::Guest for Export<P> {
        fn on_tick() -> Result<(), String> {
            enter::<P, _>(|slot| slot.call(|plugin| plugin.call()))
        }
    }

    impl<P: Instance + ShutdownHook> bindings::shutdown::exports::tidegate::plugin::shutdown_hook::Guest for Export<P> {
        fn shutdown(_deadline_ms: u64) -> Result<(), String> {
            // The host is asked for what is left instead: that needs no clock, and counts what the call has cost.
            enter::<P, _>(|slot| slot.shut_down(Deadline::of_this_call()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::instance::Slot;
    use super::*;
    use crate::Error;

    struct Configured;

    impl Plugin for Configured {
        type Config = NoConfig;
    }

    impl Construct for Configured {
        const CONFIGURED: bool = true;
        fn construct(_: &str, cx: &mut Context) -> Result<Self> {
            cx.on_shutdown("queue", |_| Err(Error::from("2 left")));
            Ok(Self)
        }
    }

    impl ShutdownHook for Configured {
        fn call(&mut self, _: Deadline) -> Result<()> {
            Err(Error::from("flush failed"))
        }
    }

    #[test]
    fn hooks_are_refused_before_configure_and_configure_a_second_time() -> Result<()> {
        let slot = Slot::<Configured>::new();
        assert!(slot.call(|_| Ok(())).is_err());
        slot.configure("{}")?;
        slot.call(|_| Ok(()))?;
        assert!(slot.configure("{}").is_err());
        Ok(())
    }

    #[test]
    fn the_parts_are_ended_even_if_the_plugins_own_shutdown_fails() -> Result<()> {
        let slot = Slot::<Configured>::new();
        slot.configure("{}")?;
        let error = slot.shut_down(Deadline::never()).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("flush failed; queue: 2 left"));
        Ok(())
    }

    #[test]
    fn without_configure_the_instance_makes_itself() -> Result<()> {
        #[derive(Default)]
        struct Plain(u32);
        impl Plugin for Plain {
            type Config = NoConfig;
        }
        impl Construct for Plain {
            const CONFIGURED: bool = false;
            fn construct(_: &str, _: &mut Context) -> Result<Self> {
                Ok(Self::default())
            }
        }
        let slot = Slot::<Plain>::new();
        let count = || {
            slot.call(|plugin| {
                plugin.0 += 1;
                Ok(plugin.0)
            })
        };
        assert_eq!((count()?, count()?), (1, 2));
        Ok(())
    }
}
