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
/// Options: `name = "…"` (of the root in views; the binary's otherwise), `worker_threads = N`, `shutdown_within = "10s"`
/// (`ms`, `s` or `m`).
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
/// tokio's. The failure names Bowline's tasks and where they were spawned. A test that stands still for ever fails at once, with
/// what every task waits for.
///
/// The function returns `()` or a `Result<(), E>` with `E: Debug`. What else fails it, and how schedules and the capacity sweep
/// work, is told at `bowline::testing`.
///
/// | option | effect |
/// |---|---|
/// | `worker_threads = N` | several threads instead of the test's own |
/// | `start_paused = true` | tokio's clock stands still, and jumps when everybody waits for it |
/// | `schedules = N` | runs the body under N schedules; a failure prints the seed that replays it (`BOWLINE_SEED`) |
/// | `capacity_one` | runs the body once more with every queue at a capacity of one item |
/// | `timeout_secs = N` | the test's limit in real time, 60 if it says nothing; beyond, it fails with the live tree |
/// | `allow_adoption` | the test drops futures of scopes on purpose |
/// | `allow_panics` | bare tokio tasks of the test, or tasks of a group that keeps no results, panic on purpose |
///
/// `start_paused`, `schedules` and `capacity_one` need bowline's feature `test-util`.
///
/// ```
/// #[bowline::test(start_paused = true, schedules = 20)]
/// async fn a_late_answer_is_an_error() {
///     let late = bowline::timeout(std::time::Duration::from_secs(1), std::future::pending::<()>()).await;
///     assert!(late.unwrap_err().is_deadline());
/// }
/// ```
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
    allow_panics: Option<Ident>,
    schedules: Option<LitInt>,
    capacity_one: Option<Ident>,
    timeout_secs: Option<LitInt>,
}

impl Arguments {
    /// The options of tests alone, as far as they were given.
    fn of_tests(&self) -> [(&'static str, Option<proc_macro2::Span>); 6] {
        [
            ("start_paused", self.start_paused.as_ref().map(Spanned::span)),
            ("allow_adoption", self.allow_adoption.as_ref().map(Spanned::span)),
            ("allow_panics", self.allow_panics.as_ref().map(Spanned::span)),
            ("schedules", self.schedules.as_ref().map(Spanned::span)),
            ("capacity_one", self.capacity_one.as_ref().map(Spanned::span)),
            ("timeout_secs", self.timeout_secs.as_ref().map(Spanned::span)),
        ]
    }
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
                "allow_panics" => arguments.allow_panics = Some(key),
                "schedules" => arguments.schedules = Some(above_zero(input)?),
                "capacity_one" => arguments.capacity_one = Some(key),
                "timeout_secs" => arguments.timeout_secs = Some(above_zero(input)?),
                unknown => {
                    let known = "name, worker_threads, shutdown_within, start_paused, allow_adoption, allow_panics, \
                                 schedules, capacity_one, timeout_secs";
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

fn above_zero(input: ParseStream<'_>) -> syn::Result<LitInt> {
    let number: LitInt = value(input)?;
    match number.base10_parse::<u64>()? {
        0 => Err(Error::new(number.span(), "this is at least 1")),
        _ => Ok(number),
    }
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
    for (name, given) in arguments.of_tests() {
        refuse(given, name, "test")?;
    }
    let ItemFn { attrs, vis, sig, block } = function;
    let name = match &arguments.name {
        Some(name) => quote!(#name),
        // The binary's, for a package may have several; a crate that is not a binary (a test, say) goes by its package.
        None => quote! {
            match (::core::option_env!("CARGO_BIN_NAME"), ::core::option_env!("CARGO_PKG_NAME")) {
                (::core::option::Option::Some(name), _) | (_, ::core::option::Option::Some(name)) => name,
                _ => "main",
            }
        },
    };
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
    // At the same place as what surrounds it, or the compiler says twice that it is not `Send`.
    let main = Ident::new(&ident.to_string(), function.span());
    Ok(quote_spanned! {function.span()=>
        #(#attrs)*
        #vis fn #ident() -> ::std::process::ExitCode {
            async fn #main() -> #output #block
            // Named for the error message: what is held across an await must be able to move between threads.
            fn main_must_be_send<F: ::core::future::Future + ::core::marker::Send>(main: F) -> F { main }
            let (value, report) = #run.run(main_must_be_send(#main()));
            ::bowline::testing::harness::conclude(value, &report)
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
    let threads = arguments
        .worker_threads
        .as_ref()
        .map(|threads| quote!(worker_threads: ::std::option::Option::Some(#threads),));
    let schedules = arguments.schedules.as_ref().map(|schedules| quote!(schedules: #schedules,));
    let limit =
        arguments.timeout_secs.as_ref().map(|secs| quote!(limit: ::std::time::Duration::from_secs(#secs),));
    let paused = arguments.start_paused.as_ref().is_some_and(LitBool::value);
    let (adoption, panics) = (arguments.allow_adoption.is_some(), arguments.allow_panics.is_some());
    let capacity_one = arguments.capacity_one.is_some();
    Ok(quote_spanned! {function.span()=>
        #(#attrs)*
        #[::core::prelude::v1::test]
        #vis fn #ident() {
            async fn body() #output #block
            let options = ::bowline::testing::harness::Options {
                start_paused: #paused,
                allow_adoption: #adoption,
                allow_panics: #panics,
                capacity_one: #capacity_one,
                #threads
                #schedules
                #limit
                ..::bowline::testing::harness::Options::new(#name)
            };
            ::bowline::testing::harness::test(options, body);
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
