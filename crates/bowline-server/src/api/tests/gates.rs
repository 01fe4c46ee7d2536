//! Who gets in, in which order it is decided, and what the ways to report a failure look like.

use super::*;

#[tokio::test]
async fn the_key_comes_before_the_http_method_and_that_before_the_path() {
    let api = api();
    let (with, without) = (headers(&[("x-api-key", KEY)]), HeaderMap::new());
    for (method, path, headers, status) in [
        (Method::GET, "/api/none", &without, 401),
        (Method::GET, "/api/none", &with, 405),
        (Method::POST, "/api/none", &with, 404),
        (Method::POST, "/api", &with, 404),
        (Method::POST, "/api/", &with, 404),
        (Method::POST, "/api/publish/", &with, 404),
        (Method::POST, "/elsewhere", &with, 404),
        (Method::POST, "/api/send_push_notification", &with, 404),
        (Method::POST, "/api/info", &without, 401),
        // The body is looked at last.
        (Method::POST, "/api/info", &with, 400),
    ] {
        let response = request(&api, &method, path, headers, b"not JSON").await;
        assert_eq!(response.status().as_u16(), status, "{method} {path}");
    }
}

#[tokio::test]
async fn without_the_key_there_is_nothing_to_see() {
    let api = api();
    let longer = format!("{KEY}x");
    for key in ["", "the-key-of-the-test", "THE-KEY-OF-THE-TESTS", "x", &longer] {
        let response =
            request(&api, &Method::POST, "/api/info", &headers(&[("x-api-key", key)]), b"{}").await;
        assert_eq!(response.status(), 401, "{key:?}");
        assert_eq!(response.headers()["www-authenticate"], "apikey");
        assert_eq!(text_of(response).await, "");
    }
    assert_eq!(api.calls().unauthorized(), 5);
    assert!(api.calls().snapshot().all(|call| call.count == 0));
}

#[tokio::test]
async fn without_a_configured_key_calls_need_the_insecure_setting() {
    let mut config = config();
    config.http_api.key = None;
    assert_eq!(call(&api_of(config.clone()), "info", "{}").await.0, 401);
    config.http_api.insecure = true;
    let api = api_of(config);
    let response = request(&api, &Method::POST, "/api/info", &HeaderMap::new(), b"{}").await;
    assert_eq!(response.status(), 200);
}

#[test]
fn the_key_may_stand_in_the_query() {
    let api = api();
    let admit = |query: &str| api.admit(&Method::POST, "/api/info", Some(query), &HeaderMap::new()).is_ok();
    assert!(admit(&format!("api_key={KEY}")));
    assert!(!admit("api_key=other"));
}

#[test]
fn other_http_methods_are_told_which_one_is_allowed() {
    let api = api();
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::OPTIONS] {
        let refused = api.admit(&method, "/api/publish", None, &headers(&[("x-api-key", KEY)])).unwrap_err();
        assert_eq!((refused.status().as_u16(), &refused.headers()["allow"]), (405, &"POST".parse().unwrap()));
    }
}

#[tokio::test]
async fn the_prefix_is_a_setting() {
    let mut config = config();
    config.http_api.handler_prefix = "/v1/api".parse().unwrap();
    let api = api_of(config);
    for (path, serves) in
        [("/v1/api", true), ("/v1/api/info", true), ("/v1/apis", false), ("/api/info", false), ("/", false)]
    {
        assert_eq!(api.serves(path), serves, "{path}");
    }
    let headers = headers(&[("x-api-key", KEY)]);
    assert_eq!(request(&api, &Method::POST, "/v1/api/info", &headers, b"{}").await.status(), 200);
}

#[test]
fn the_bound_of_a_body_is_a_setting() {
    let mut config = config();
    config.http_api.max_request_body_size = NonZeroUsize::new(77).unwrap();
    assert_eq!(api_of(config).max_body_bytes(), 77);
}

#[tokio::test]
async fn failures_are_reported_in_the_body_or_as_a_status() {
    let by_header = headers(&[("x-api-key", KEY), ("x-centrifugo-error-mode", "transport")]);
    let plain = headers(&[("x-api-key", KEY)]);
    let mut transport = config();
    transport.http_api.error_mode = crate::config::ErrorMode::Transport;
    for (config, headers, status, body) in [
        (config(), &plain, 200, r#"{"error":{"code":102,"message":"unknown channel"}}"#),
        (config(), &by_header, 404, r#"{"code":102,"message":"unknown channel"}"#),
        (transport, &plain, 404, r#"{"code":102,"message":"unknown channel"}"#),
    ] {
        let body_of = r#"{"channel":"none:c","data":{}}"#;
        let response =
            request(&api_of(config), &Method::POST, "/api/publish", headers, body_of.as_bytes()).await;
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(text_of(response).await, body);
    }
}

#[tokio::test]
async fn each_failure_has_its_status_in_transport_mode() {
    let mut config = config();
    config.http_api.error_mode = crate::config::ErrorMode::Transport;
    let api = api_of(config);
    for (method, body, status) in [
        ("publish", r#"{"channel":"none:c","data":{}}"#, 404),
        ("rpc", r#"{"method":"none"}"#, 404),
        ("publish", r#"{"channel":"kept:c"}"#, 400),
        ("presence", r#"{"channel":"plain:c"}"#, 400),
        ("history", r#"{"channel":"kept:c","limit":1,"since":{"offset":1,"epoch":"other"}}"#, 416),
        // Never inside of a broadcast or a batch.
        ("broadcast", r#"{"channels":["none:c"],"data":{}}"#, 200),
        ("batch", r#"{"commands":[{"publish":{"channel":"none:c","data":{}}}]}"#, 200),
        ("publish", r#"{"channel":"kept:c","data":{}}"#, 200),
    ] {
        assert_eq!(call(&api, method, body).await.0, status, "{method} {body}");
    }
}

#[tokio::test]
async fn calls_are_counted_by_method_and_outcome() {
    let api = api();
    call(&api, "info", "{}").await;
    call(&api, "info", "[]").await;
    call(&api, "publish", r#"{"channel":"none:c","data":{}}"#).await;
    call(&api, "batch", r#"{"commands":[{"info":{}},{"publish":{}},{}]}"#).await;
    let counted: Vec<_> = api
        .calls()
        .snapshot()
        .filter(|call| call.count > 0)
        .map(|call| (call.method, call.outcome.into_owned(), call.count))
        .collect();
    let expected = [
        ("publish", "102", 1),
        ("publish", "107", 1),
        ("info", "ok", 2),
        ("info", "malformed", 1),
        ("batch", "ok", 1),
    ];
    assert_eq!(counted, expected.map(|(method, outcome, count)| (method, outcome.to_owned(), count)));
}

#[tokio::test]
async fn an_answer_that_cannot_be_written_is_the_servers_failure() {
    let api = api();
    let publish = r#"{"channel":"binary:c","b64data":"AAEC"}"#;
    assert!(call(&api, "publish", publish).await.1.starts_with(r#"{"result":{"offset":1,"#));
    let history = r#"{"channel":"binary:c","limit":-1}"#;
    assert_eq!(
        call(&api, "history", history).await,
        (500, "the answer holds data that is not JSON\n".to_owned())
    );
    let batch = format!(r#"{{"commands":[{{"history":{history}}},{{"rpc":{{}}}}]}}"#);
    let replies = r#"{"replies":[{"error":{"code":100,"message":"internal server error"}},{"error":{"code":107,"message":"bad request"}}]}"#;
    assert_eq!(call(&api, "batch", &batch).await, (200, replies.to_owned()));
}
