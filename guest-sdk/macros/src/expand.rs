//! From a [`Plugin`] to code: the author's methods as they are, and the glue that makes exports of them.

use crate::hook::Hook;
use crate::parse::{Method, Plugin};
use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;

pub(crate) fn plugin(plugin: &Plugin) -> TokenStream {
    let Plugin { trait_path, self_type, attributes, config, methods } = plugin;
    let config = match config {
        Some(config) => quote!(#config),
        None => quote!(::tidegate_sdk::__rt::NoConfig),
    };
    let functions = methods.iter().map(|method| &method.function);
    let construct = construct(plugin);
    let hooks = methods.iter().map(|method| hook(self_type, method));
    let names = methods.iter().map(|method| &method.name);
    let own_shutdown = methods.iter().any(|method| method.hook == Hook::Shutdown);
    let parts = methods.iter().any(|method| method.takes_context);
    // Parts that registered themselves are ended through the shutdown hook, so it is there if there may be any.
    let shutdown_for_parts = (parts && !own_shutdown).then(|| {
        quote! {
            impl ::tidegate_sdk::__rt::ShutdownHook for #self_type {
                fn call(&mut self, _: ::tidegate_sdk::Deadline) -> ::tidegate_sdk::Result<()> {
                    ::core::result::Result::Ok(())
                }
            }
        }
    });
    let exports = methods
        .iter()
        .map(|method| method.hook)
        .chain(shutdown_for_parts.is_some().then_some(Hook::Shutdown))
        .map(export);

    quote! {
        impl #trait_path for #self_type {
            type Config = #config;
        }

        // The signature is the host's: what it does not need of it is no fault of the author's. (`allow`, since nobody
        // can expect what a method not written yet will do.)
        #[allow(
            clippy::needless_pass_by_ref_mut,
            clippy::needless_pass_by_value,
            clippy::unnecessary_wraps,
            clippy::unused_self,
            reason = "the signature of a hook is given"
        )]
        #attributes
        impl #self_type {
            #(#functions)*
        }

        const _: () = {
            #construct
            #(#hooks)*
            #shutdown_for_parts

            // Nothing calls these on targets that have no exports; they are not dead for that.
            let _ = <#self_type as ::tidegate_sdk::__rt::Construct>::construct;
            #(let _ = <#self_type>::#names;)*

            #[cfg(target_arch = "wasm32")]
            const _: () = {
                ::std::thread_local! {
                    static SLOT: ::tidegate_sdk::__rt::Slot<#self_type> = const { ::tidegate_sdk::__rt::Slot::new() };
                }

                impl ::tidegate_sdk::__rt::Instance for #self_type {
                    fn slot() -> &'static ::std::thread::LocalKey<::tidegate_sdk::__rt::Slot<Self>> {
                        &SLOT
                    }
                }

                type Export = ::tidegate_sdk::__rt::Export<#self_type>;
                #(#exports)*
            };
        };
    }
}

/// How an instance is made: by `configure`, or by `Default`.
fn construct(plugin: &Plugin) -> TokenStream {
    let self_type = &plugin.self_type;
    let configure = plugin.methods.iter().find(|method| method.hook == Hook::Configure);
    let configured = configure.is_some();
    let body = match configure {
        Some(method) => {
            let name = &method.name;
            let config = plugin.config.is_some().then(|| quote!(config,));
            let context = method.takes_context.then(|| quote!(cx));
            let used = if plugin.config.is_some() { quote!(config) } else { quote!(_) };
            quote_spanned! {name.span()=>
                let #used = ::tidegate_sdk::__rt::config::<Self>(config)?;
                ::tidegate_sdk::__rt::Outcome::<Self>::settle(<#self_type>::#name(#config #context))
            }
        }
        // The span shows the author's type, should it not be `Default`.
        None => quote_spanned! {self_type.span()=>
            ::core::result::Result::Ok(<#self_type as ::core::default::Default>::default())
        },
    };
    quote! {
        impl ::tidegate_sdk::__rt::Construct for #self_type {
            const CONFIGURED: bool = #configured;

            fn construct(config: &str, cx: &mut ::tidegate_sdk::Context) -> ::tidegate_sdk::Result<Self> {
                let _ = (config, &cx);
                #body
            }
        }
    }
}

/// The glue trait of one hook, on the author's method.
fn hook(self_type: &syn::Type, method: &Method) -> TokenStream {
    let (glue, parameters, arguments, decision) = match method.hook {
        Hook::Configure => return TokenStream::new(),
        Hook::Request => (
            quote!(RequestHook),
            quote!(request: &mut ::tidegate_sdk::Request),
            quote!(request),
            quote!(::tidegate_sdk::Verdict),
        ),
        Hook::RequestBody => (
            quote!(RequestBodyHook),
            quote!(request: &mut ::tidegate_sdk::Request, body: ::std::vec::Vec<u8>),
            quote!(request, body),
            quote!(::tidegate_sdk::BodyVerdict),
        ),
        Hook::Response => (
            quote!(ResponseHook),
            quote!(request: &::tidegate_sdk::Request, response: &mut ::tidegate_sdk::Response),
            quote!(request, response),
            quote!(::tidegate_sdk::Verdict),
        ),
        Hook::ResponseBody => (
            quote!(ResponseBodyHook),
            quote!(
                request: &::tidegate_sdk::Request,
                response: &mut ::tidegate_sdk::Response,
                body: ::std::vec::Vec<u8>
            ),
            quote!(request, response, body),
            quote!(::tidegate_sdk::BodyVerdict),
        ),
        Hook::Deferred => (quote!(DeferredHook), quote!(payload: ::std::vec::Vec<u8>), quote!(payload), quote!(())),
        Hook::Tick => (quote!(TickHook), quote!(), quote!(), quote!(())),
        Hook::Shutdown => {
            (quote!(ShutdownHook), quote!(deadline: ::tidegate_sdk::Deadline), quote!(deadline), quote!(()))
        }
    };
    let name = &method.name;
    // Spanned at the method, so that a parameter or result of the wrong type is reported there.
    let call = quote_spanned! {name.span()=>
        ::tidegate_sdk::__rt::Outcome::<#decision>::settle(<#self_type>::#name(self, #arguments))
    };
    quote! {
        impl ::tidegate_sdk::__rt::#glue for #self_type {
            fn call(&mut self, #parameters) -> ::tidegate_sdk::Result<#decision> {
                #call
            }
        }
    }
}

/// The component's export of one hook.
fn export(hook: Hook) -> TokenStream {
    let module = hook.bindings();
    quote! {
        ::tidegate_sdk::__rt::bindings::#module::export!(Export with_types_in ::tidegate_sdk::__rt::bindings::#module);
    }
}
