//! From the author's `impl` block to a [`Plugin`] that is known to be well-formed, or to errors at the places that
//! are not.

use crate::hook::Hook;
use proc_macro2::{Group, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::spanned::Spanned;
use syn::{Error, FnArg, ImplItem, ImplItemFn, ItemImpl, Path, ReceiverKind, Result, Type};

/// A well-formed plugin.
pub(crate) struct Plugin {
    /// The trait as the author named it.
    pub(crate) trait_path: Path,
    /// The author's type.
    pub(crate) self_type: Type,
    /// Attributes of the block.
    pub(crate) attributes: TokenStream,
    /// `type Config`, if it is given.
    pub(crate) config: Option<Type>,
    /// The methods that are written.
    pub(crate) methods: Vec<Method>,
}

pub(crate) struct Method {
    pub(crate) hook: Hook,
    /// The method, with `Self::Config` made unambiguous for an inherent block.
    pub(crate) function: TokenStream,
    pub(crate) name: syn::Ident,
    /// Of `configure` alone: whether it takes the context.
    pub(crate) takes_context: bool,
}

pub(crate) fn plugin(attributes: TokenStream, item: TokenStream) -> Result<Plugin> {
    if !attributes.is_empty() {
        return Err(Error::new_spanned(attributes, "`#[plugin]` takes no arguments"));
    }
    let block: ItemImpl = syn::parse2(item)?;
    let Some((trait_path, _)) = &block.trait_ else {
        return Err(Error::new_spanned(
            &block.self_ty,
            "expected `impl Plugin for ...`: the attribute makes an export of each method in it",
        ));
    };
    if trait_path.segments.last().is_none_or(|segment| segment.ident != "Plugin") {
        return Err(Error::new_spanned(trait_path, "expected `impl Plugin for ...`"));
    }
    if !block.generics.params.is_empty() {
        return Err(Error::new_spanned(&block.generics, "a component exports one type: a plugin has no parameters"));
    }

    let mut errors = Errors::default();
    let config = config(&block, &mut errors);
    let mut methods = Vec::new();
    for item in &block.items {
        match item {
            ImplItem::Fn(function) => match method(function, config.is_some()) {
                Ok(method) => methods.push(method),
                Err(error) => errors.add(error),
            },
            ImplItem::Type(_) => {}
            other => errors
                .add(Error::new_spanned(other, format!("a plugin has `type Config` and these methods: {}", names()))),
        }
    }
    if methods.is_empty() && errors.none() {
        errors.add(Error::new_spanned(&block.self_ty, format!("a plugin needs at least one of: {}", names())));
    }
    if let Some(config) = &config
        && errors.none()
        && !methods.iter().any(|method| method.hook == Hook::Configure)
    {
        errors.add(Error::new_spanned(config, "`type Config` is given, but no `configure` takes it"));
    }
    errors.into_result()?;

    let attributes = block.attrs.iter().map(ToTokens::to_token_stream).collect();
    Ok(Plugin { trait_path: trait_path.clone(), self_type: *block.self_ty, attributes, config, methods })
}

/// The type given as `type Config`.
fn config(block: &ItemImpl, errors: &mut Errors) -> Option<Type> {
    let mut config = None;
    for item in &block.items {
        let ImplItem::Type(item) = item else { continue };
        if item.ident == "Config" && config.is_none() {
            config = Some(item.ty.clone());
        } else {
            errors.add(Error::new_spanned(item, "a plugin has one associated type, `Config`"));
        }
    }
    config
}

fn method(function: &ImplItemFn, has_config: bool) -> Result<Method> {
    let signature = &function.sig;
    let name = &signature.ident;
    let Some(hook) = Hook::of(&name.to_string()) else {
        return Err(Error::new(
            name.span(),
            format!(
                "`{name}` is no hook; a plugin has {}. Put other methods into an `impl` block of their own",
                names()
            ),
        ));
    };
    let expected =
        |at: proc_macro2::Span, what: &str| Err(Error::new(at, format!("{what}; expected `{}`", hook.signature())));

    if let Some(asyncness) = &signature.asyncness {
        return expected(asyncness.span(), "a hook is not `async`: the host waits for it to return");
    }
    if !signature.generics.params.is_empty() {
        return expected(signature.generics.span(), "a hook has no generic parameters");
    }
    let receiver = match signature.inputs.first() {
        Some(FnArg::Receiver(receiver)) => Some(receiver),
        _ => None,
    };
    let parameters = signature.inputs.len() - usize::from(receiver.is_some());
    let takes_context = match hook {
        Hook::Configure => {
            if let Some(receiver) = receiver {
                return expected(receiver.span(), "`configure` makes the plugin, so it has no `self`");
            }
            let (least, what) = if has_config {
                (1, "`configure` takes the config, and may take the context")
            } else {
                (0, "without `type Config`, `configure` takes the context or nothing")
            };
            if !(least..=least + 1).contains(&parameters) {
                return expected(signature.paren_token.span.join(), what);
            }
            parameters > least
        }
        _ => {
            match receiver {
                Some(receiver) if matches!(receiver.kind, ReceiverKind::Reference(..)) => {}
                Some(receiver) => return expected(receiver.span(), "a hook borrows the plugin, which lives on"),
                None => return expected(name.span(), "this hook is called on the plugin and needs `&mut self`"),
            }
            if parameters != wanted(hook) {
                return expected(
                    signature.paren_token.span.join(),
                    &format!("`{name}` takes {} after `self`", count(wanted(hook))),
                );
            }
            false
        }
    };
    let function = unambiguous(function.to_token_stream());
    Ok(Method { hook, function, name: name.clone(), takes_context })
}

/// How many parameters a hook has after `self`.
fn wanted(hook: Hook) -> usize {
    match hook {
        Hook::Configure | Hook::Tick => 0,
        Hook::Request | Hook::Deferred | Hook::Shutdown => 1,
        Hook::RequestBody | Hook::Response => 2,
        Hook::ResponseBody => 3,
    }
}

fn count(parameters: usize) -> String {
    match parameters {
        0 => "nothing".to_owned(),
        1 => "1 parameter".to_owned(),
        _ => format!("{parameters} parameters"),
    }
}

/// The names of all hooks.
fn names() -> String {
    Hook::ALL.map(|hook| format!("`{}`", hook.method())).join(", ")
}

/// `Self::Config` with its trait: the methods move into an inherent block, where `Self::Config` alone is ambiguous.
fn unambiguous(tokens: TokenStream) -> TokenStream {
    let mut out: Vec<TokenTree> = Vec::new();
    for token in tokens {
        let token = match token {
            TokenTree::Group(group) => {
                let mut inner = Group::new(group.delimiter(), unambiguous(group.stream()));
                inner.set_span(group.span());
                TokenTree::Group(inner)
            }
            other => other,
        };
        let ends_config = matches!(&token, TokenTree::Ident(ident) if ident == "Config");
        if let ([.., TokenTree::Ident(this), TokenTree::Punct(a), TokenTree::Punct(b)], true) =
            (out.as_slice(), ends_config)
            && this == "Self"
            && (a.as_char(), b.as_char()) == (':', ':')
        {
            let this = this.clone();
            out.truncate(out.len() - 3);
            out.extend(quote!(<#this as ::tidegate_sdk::Plugin>::));
        }
        out.push(token);
    }
    out.into_iter().collect()
}

/// All that is wrong, told together.
#[derive(Default)]
struct Errors(Option<Error>);

impl Errors {
    fn add(&mut self, error: Error) {
        match &mut self.0 {
            Some(errors) => errors.combine(error),
            None => self.0 = Some(error),
        }
    }

    fn none(&self) -> bool {
        self.0.is_none()
    }

    fn into_result(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str) -> Result<Plugin> {
        plugin(TokenStream::new(), source.parse()?)
    }

    #[track_caller]
    fn refused(source: &str, message: &str) {
        let errors: Vec<_> = check(source).err().into_iter().flatten().map(|error| error.to_string()).collect();
        assert!(errors.iter().any(|error| error.contains(message)), "{errors:#?}");
    }

    #[test]
    fn the_methods_that_are_written_become_hooks() -> Result<()> {
        let plugin = check(
            "impl Plugin for A { type Config = C; fn configure(config: Self::Config, cx: &mut Context) -> Result<Self> {} \
             fn shutdown(&mut self, deadline: Deadline) -> Result<()> {} }",
        )?;
        let hooks: Vec<_> = plugin.methods.iter().map(|method| (method.hook, method.takes_context)).collect();
        assert_eq!(hooks, [(Hook::Configure, true), (Hook::Shutdown, false)]);
        let functions: String = plugin.methods.iter().map(|method| method.function.to_string()).collect();
        assert!(functions.contains("< Self as :: tidegate_sdk :: Plugin > :: Config"), "{functions}");
        Ok(())
    }

    #[test]
    fn a_method_that_is_no_hook_is_refused_with_the_names_of_the_hooks() {
        refused(
            "impl Plugin for A { fn on_requests(&mut self) {} }",
            "`on_requests` is no hook; a plugin has `configure`",
        );
    }

    #[test]
    fn a_hook_without_self_is_refused_with_its_signature() {
        refused(
            "impl Plugin for A { fn on_request(request: &mut Request) -> Result<Verdict> {} }",
            "needs `&mut self`; expected `fn on_request(&mut self, request: &mut Request) -> Result<Verdict>`",
        );
        refused("impl Plugin for A { fn shutdown(self, d: Deadline) -> Result<()> {} }", "borrows the plugin");
        refused("impl Plugin for A { fn configure(&self) -> Result<Self> {} }", "has no `self`");
    }

    #[test]
    fn a_wrong_number_of_parameters_is_refused_with_the_right_one() {
        refused("impl Plugin for A { fn on_request(&mut self) {} }", "`on_request` takes 1 parameter after `self`");
        refused("impl Plugin for A { fn on_response_body(&mut self, a: A) {} }", "takes 3 parameters after `self`");
        refused("impl Plugin for A { fn on_deferred(&mut self) {} }", "`on_deferred` takes 1 parameter after `self`");
        refused("impl Plugin for A { fn on_tick(&mut self, a: A) {} }", "`on_tick` takes nothing after `self`");
        refused("impl Plugin for A { fn configure(a: A, b: B) {} }", "without `type Config`");
        refused("impl Plugin for A { type Config = C; fn configure() {} }", "takes the config");
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let refused = check("impl Plugin for A { fn on_request(&mut self) {} fn shut_down(&mut self) {} }").err();
        assert_eq!(refused.into_iter().flatten().count(), 2);
    }

    #[test]
    fn what_is_not_a_plugin_is_refused() {
        refused("impl A { fn on_request(&mut self, r: &mut Request) {} }", "expected `impl Plugin for ...`");
        refused("impl Clone for A {}", "expected `impl Plugin for ...`");
        refused("impl<T> Plugin for A<T> {}", "no parameters");
        refused("impl Plugin for A {}", "at least one of");
        refused("impl Plugin for A { const X: u32 = 1; }", "`type Config` and these methods");
        refused(
            "impl Plugin for A { type Config = C; fn shutdown(&mut self, d: Deadline) {} }",
            "no `configure` takes it",
        );
        refused("impl Plugin for A { async fn shutdown(&mut self, d: Deadline) {} }", "not `async`");
        assert!(plugin(quote!(name = "x"), quote!(impl Plugin for A {})).is_err());
    }
}
