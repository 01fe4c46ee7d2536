//! `#[bowline::main]` and `#[bowline::test]`. Use them through the crate `bowline`.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::{quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{Error, Ident, ItemFn, LitBool, LitInt, LitStr, ReturnType, Token, parse_macro_input};

/// Runs an `async fn main` as the root of a program: signals, ordered shutdown, exit code.
///
/// The function returns `()` or a `Result<(), E>` with `E: Debug`. The process exits with 0 after a clean end, 1 if `main`
/// failed or panicked, 3 if the shutdown had to be forced; then the tasks that did not stop are named on standard error.
///
/// Options: `name = "…"` (of the root in views), `worker_threads = N`, `shutdown_within = "10s"` (`ms`, `s` or `m`).
///
/// ```no_run
/// #[bowline::main(shutdown_within = "10s")]
/// async fn main() -> Result<(), bowline::Cancelled> {
///     bowline::scope("app", async |s| {
///         s.spawn("worker", async { Ok(()) });
///         bowline::draining().await;
///         Ok(())
///     })
///     .await
/// }
/// ```
#[proc_macro_attribute]
pub fn main(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let arguments = parse_macro_input!(arguments as Arguments);
    let function = parse_macro_input!(item as ItemFn);
    expand_main(&arguments, &function).unwrap_or_else(Error::into_compile_error).into()
}

/// Runs an `async fn` as a test on a runtime of its own, and fails it if it leaves a task behind: Bowline's or bare
/// tokio's. The failure names Bowline's tasks and where they were spawned.
///
/// Options: `worker_threads = N` (several threads instead of the test's own), `start_paused = true` (tokio's clock stands
/// still and jumps), `allow_adoption` (the test drops futures of scopes on purpose).
#[proc_macro_attribute]
pub fn test(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let arguments = parse_macro_input!(arguments as Arguments);
    let function = parse_macro_input!(item as ItemFn);
    expand_test(&arguments, &function).unwrap_or_else(Error::into_compile_error).into()
}

#[derive(Default)]
struct Arguments {
    name: Option<LitStr>,
    worker_threads: Option<LitInt>,
    shutdown_within: Option<LitStr>,
    start_paused: Option<LitBool>,
    allow_adoption: Option<Ident>,
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut arguments = Self::default();
        while !input.is_empty() {
            let key: Ident = input.parse()?;
            match key.to_string().as_str() {
                "name" => arguments.name = Some(value(input)?),
                "worker_threads" => arguments.worker_threads = Some(value(input)?),
                "shutdown_within" => arguments.shutdown_within = Some(value(input)?),
                "start_paused" => arguments.start_paused = Some(value(input)?),
                "allow_adoption" => arguments.allow_adoption = Some(key),
                unknown => {
                    let known = "name, worker_threads, shutdown_within, start_paused, allow_adoption";
                    return Err(Error::new(
                        key.span(),
                        format!("unknown option `{unknown}`; there are {known}"),
                    ));
                }
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(arguments)
    }
}

fn value<T: Parse>(input: ParseStream<'_>) -> syn::Result<T> {
    input.parse::<Token![=]>()?;
    input.parse()
}

fn check(function: &ItemFn) -> syn::Result<()> {
    let signature = &function.sig;
    if signature.asyncness.is_none() {
        return Err(Error::new(signature.fn_token.span(), "this needs an `async fn`"));
    }
    if let Some(argument) = signature.inputs.first() {
        return Err(Error::new(argument.span(), "this function takes no arguments"));
    }
    Ok(())
}

fn refuse(option: Option<proc_macro2::Span>, name: &str, at: &str) -> syn::Result<()> {
    match option {
        Some(span) => Err(Error::new(span, format!("`{name}` is an option of #[bowline::{at}]"))),
        None => Ok(()),
    }
}

fn expand_main(arguments: &Arguments, function: &ItemFn) -> syn::Result<Tokens> {
    check(function)?;
    refuse(arguments.start_paused.as_ref().map(Spanned::span), "start_paused", "test")?;
    refuse(arguments.allow_adoption.as_ref().map(Spanned::span), "allow_adoption", "test")?;
    let ItemFn { attrs, vis, sig, block } = function;
    let name = arguments.name.as_ref().map_or_else(|| quote!(env!("CARGO_PKG_NAME")), |name| quote!(#name));
    let threads = arguments.worker_threads.as_ref().map(|threads| quote!(.worker_threads(#threads)));
    let within = match &arguments.shutdown_within {
        Some(text) => {
            let millis = parse_millis(text)?;
            Some(quote!(.shutdown_within(::std::time::Duration::from_millis(#millis))))
        }
        None => None,
    };
    let run = quote! { ::bowline::Runner::new(#name) #threads #within };
    let output = match &sig.output {
        ReturnType::Default => quote!(()),
        ReturnType::Type(_, output) => quote!(#output),
    };
    let ident = &sig.ident;
    Ok(quote_spanned! {function.span()=>
        #(#attrs)*
        #vis fn #ident() -> ::std::process::ExitCode {
            async fn body() -> #output #block
            let (value, report) = #run.run(body());
            ::bowline::testing::conclude(value, &report)
        }
    })
}

fn expand_test(arguments: &Arguments, function: &ItemFn) -> syn::Result<Tokens> {
    check(function)?;
    refuse(arguments.name.as_ref().map(Spanned::span), "name", "main")?;
    refuse(arguments.shutdown_within.as_ref().map(Spanned::span), "shutdown_within", "main")?;
    let ItemFn { attrs, vis, sig, block } = function;
    let (ident, output) = (&sig.ident, &sig.output);
    let name = ident.to_string();
    let threads = match &arguments.worker_threads {
        Some(threads) => quote!(::std::option::Option::Some(#threads)),
        None => quote!(::std::option::Option::None),
    };
    let paused = arguments.start_paused.as_ref().is_some_and(LitBool::value);
    let adoption = arguments.allow_adoption.is_some();
    // In doc examples the function is nested and called by nobody: make it callable and call it.
    Ok(quote_spanned! {function.span()=>
        #(#attrs)*
        #[::core::prelude::v1::test]
        #vis fn #ident() #output {
            let options = ::bowline::testing::Options {
                name: #name,
                worker_threads: #threads,
                start_paused: #paused,
                allow_adoption: #adoption,
            };
            ::bowline::testing::run(options, async #block)
        }
    })
}

fn parse_millis(text: &LitStr) -> syn::Result<u64> {
    let value = text.value();
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &value[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => {
            return Err(Error::new(
                text.span(),
                "a duration is a number with `ms`, `s` or `m`, as in \"10s\"",
            ));
        }
    };
    let number: u64 =
        digits.parse().map_err(|_| Error::new(text.span(), "a duration is a whole number with its unit"))?;
    number.checked_mul(factor).ok_or_else(|| Error::new(text.span(), "this duration is too long"))
}
