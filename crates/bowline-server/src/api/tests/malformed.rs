//! Bodies that are no requests: refused with the reason and the place, and nothing has happened.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;

use super::super::method::Route;
use super::*;

#[tokio::test]
async fn a_malformed_body_is_told_what_is_wrong_and_where() {
    let api = api();
    let too_deep = format!(r#"{{"channel":"kept:c","data":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
    for (method, body, problem) in [
        ("info", "", "EOF while parsing a value at line 1 column 0"),
        ("info", "null", "invalid type: null, expected an object at line 1 column 4"),
        ("info", "[]", "invalid type: sequence, expected an object at line 1 column 0"),
        ("info", "{} {}", "trailing characters at line 1 column 4"),
        ("subscribe", "[]", "invalid type: sequence, expected an object at line 1 column 0"),
        (
            "publish",
            "{\n \"channel\": 5}",
            "invalid type: integer `5`, expected a string at line 2 column 13",
        ),
        ("publish", r#"["kept:c"]"#, "invalid type: sequence, expected an object at line 1 column 0"),
        ("publish", r#"{"channel":"kept:c","data":}"#, "expected value at line 1 column 28"),
        ("publish", r#"{"channel":"kept:c","data":01}"#, "invalid number at line 1 column 29"),
        ("publish", r#"{"channel":"a","channel":"b"}"#, "duplicate field `channel` at line 1 column 24"),
        ("publish", r#"{"version":-1}"#, "invalid value: integer `-1`, expected u64 at line 1 column 13"),
        (
            "publish",
            r#"{"skip_history":"yes"}"#,
            "invalid type: string \"yes\", expected a boolean at line 1 column 21",
        ),
        (
            "publish",
            r#"{"tags":{"a":1}}"#,
            "invalid type: integer `1`, expected a string at line 1 column 14",
        ),
        ("publish", &too_deep, "nested deeper than 128 at line 1 column 155"),
        (
            "broadcast",
            r#"{"channels":"a"}"#,
            "invalid type: string \"a\", expected a sequence at line 1 column 15",
        ),
        (
            "history",
            r#"{"limit":1.5}"#,
            "invalid type: floating point `1.5`, expected i32 at line 1 column 12",
        ),
        (
            "history",
            r#"{"limit":2147483648}"#,
            "invalid value: integer `2147483648`, expected i32 at line 1 column 19",
        ),
        ("history", r#"{"since":[1,"e"]}"#, "invalid type: sequence, expected an object at line 1 column 9"),
        (
            "disconnect",
            r#"{"disconnect":4000}"#,
            "invalid type: integer `4000`, expected an object at line 1 column 18",
        ),
        ("batch", "[]", "invalid type: sequence, expected an object at line 1 column 0"),
        (
            "batch",
            r#"{"commands":{}}"#,
            "invalid type: map, expected an array of at most 10000 commands at line 1 column 12",
        ),
        (
            "batch",
            r#"{"commands":[1]}"#,
            "invalid type: integer `1`, expected an object with one method at line 1 column 14",
        ),
        (
            "batch",
            "{\"commands\":[{\"info\":{}},\n{\"publish\":{\"channel\":[]}}]}",
            "invalid type: sequence, expected a string at line 2 column 22",
        ),
    ] {
        assert_eq!(call(&api, method, body).await, (400, format!("{method}: {problem}\n")), "{body}");
    }
    assert_eq!(api.node().stats().publications, 0);
}

#[tokio::test]
async fn bytes_that_are_not_text_are_malformed() {
    let api = api();
    for body in [
        &b"{\"channel\":\"\xff\"}"[..],
        b"{\"data\":\"\xc3\"}",
        b"{\"future\":\"\xff\"}\xff",
        b"\xef\xbb\xbf{}",
    ] {
        let headers = headers(&[("x-api-key", KEY)]);
        let response = request(&api, &Method::POST, "/api/publish", &headers, body).await;
        assert_eq!(response.status(), 400, "{body:?}");
        assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    }
}

#[tokio::test]
async fn depth_costs_nothing_before_it_is_refused() {
    let api = api();
    for opening in ["[", "{\"a\":", "{\"commands\":[{\"publish\":{\"data\":["] {
        for method in ["publish", "batch"] {
            let (status, text) = call(&api, method, &opening.repeat(200_000)).await;
            assert!(status == 400 && text.contains("nested deeper than 128"), "{text}");
        }
    }
}

#[test]
fn a_body_at_the_depth_bound_is_taken() {
    let data = format!("{}{}", "[".repeat(127), "]".repeat(127));
    assert!(
        run("publish", format!(r#"{{"channel":"plain:c","data":{data}}}"#).as_bytes()).starts_with("200 ")
    );
}

/// Runs a call to its end without a runtime: nothing in it waits for one.
fn run(method: &str, body: &[u8]) -> String {
    let api = api();
    let headers = headers(&[("x-api-key", KEY)]);
    let response = at_once(request(&api, &Method::POST, &format!("/api/{method}"), &headers, body));
    let status = response.status().as_u16();
    format!("{status} {}", at_once(text_of(response)))
}

fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a call waits"),
    }
}

fn method() -> impl Strategy<Value = &'static str> {
    let names: Vec<_> = Route::all().map(Route::name).collect();
    prop::sample::select(names)
}

/// JSON texts made of the names the API knows, so that many are nearly right.
fn json() -> impl Strategy<Value = String> {
    let names = [
        "channel",
        "channels",
        "data",
        "b64data",
        "tags",
        "version",
        "user",
        "client",
        "whitelist",
        "disconnect",
        "code",
        "reason",
        "since",
        "offset",
        "epoch",
        "limit",
        "reverse",
        "commands",
        "parallel",
        "publish",
        "history",
        "info",
        "skip_history",
        "pattern",
        "other",
    ];
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|flag| flag.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:e}")),
        prop::sample::select(vec!["", "kept:c", "none:c", "e30=", "*"]).prop_map(|text| format!("{text:?}")),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        let field = (prop::sample::select(names.to_vec()), inner.clone())
            .prop_map(|(name, value)| format!("{name:?}:{value}"));
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec(field, 0..6).prop_map(|fields| format!("{{{}}}", fields.join(","))),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_answered(method in method(), body in prop::collection::vec(any::<u8>(), 0..200)) {
        let answer = run(method, &body);
        prop_assert!(answer.starts_with("200 ") || answer.starts_with("400 "), "{answer}");
    }

    #[test]
    fn any_json_is_answered_with_json_or_refused(method in method(), body in json()) {
        let answer = run(method, body.as_bytes());
        let (status, text) = answer.split_once(' ').unwrap();
        match status {
            "200" => {
                let value: serde_json::Value = serde_json::from_str(text).unwrap();
                let keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
                prop_assert!([&["result"][..], &["error"], &["replies"]].contains(&&*keys), "{text}");
            }
            _ => prop_assert_eq!(status, "400"),
        }
    }
}
