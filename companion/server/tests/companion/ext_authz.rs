//! Envoy's `ext_authz` over gRPC, as Envoy calls it: HTTP/2 on the ingest listener.

use std::collections::HashMap;

use portcullis_server::ingest::ext_authz::grpc::METHOD;
use portcullis_server::ingest::ext_authz::messages::{
    Append, Attributes, CheckRequest, CheckResponse, HeaderMap, HeaderValue, HttpRequest, HttpResponse,
    Request,
};
use serde_json::{Value, json};
use tonic::client::Grpc;
use tonic::transport::Channel;

use crate::support::{Running, Store, on_each_store};

async fn check(running: &Running, http: HttpRequest) -> Result<CheckResponse, tonic::Status> {
    let address = format!("http://{}", running.companion.ingest_address.unwrap());
    let mut client = Grpc::new(Channel::from_shared(address).unwrap().connect().await.unwrap());
    client.ready().await.unwrap();
    let attributes = Attributes { request: Some(Request { http: Some(http) }) };
    let request = tonic::Request::new(CheckRequest { attributes: Some(attributes) });
    let codec = tonic_prost::ProstCodec::default();
    client.unary(request, METHOD.parse().unwrap(), codec).await.map(tonic::Response::into_inner)
}

fn with(headers: &[(&str, &str)]) -> HttpRequest {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    HttpRequest { headers: headers.iter().map(pair).collect::<HashMap<_, _>>(), header_map: None }
}

async fn a_proxy_is_told_over_grpc_whose_a_token_is(store: Store) {
    let running = Running::start(store, false).await;
    running.add_tenant("acme").await;
    let body = json!({"user_id": "alice"});
    let begun = running.post("/api/security/sessions/acme", &body, &running.of_tenant("acme")).await;
    assert_eq!(begun.status, 201, "{}", begun.body);
    let (token, session) = (begun.json()["token"].clone(), begun.json()["session"]["session_id"].clone());
    let (token, session) = (token.as_str().unwrap(), session.as_str().unwrap());
    let bearer = format!("Bearer {token}");
    let cookie = format!("theme=dark; portcullis_session={token}");
    let raw = HeaderValue {
        key: "authorization".into(),
        value: String::new(),
        raw_value: bearer.clone().into_bytes(),
    };
    let raw = HttpRequest { headers: HashMap::new(), header_map: Some(HeaderMap { headers: vec![raw] }) };
    for shown in
        [with(&[("authorization", &bearer), ("x-user-id", "root")]), with(&[("cookie", &cookie)]), raw]
    {
        let answer = check(&running, shown).await.unwrap();
        assert_eq!(answer.status.unwrap().code, 0);
        let Some(HttpResponse::Ok(allowed)) = answer.http_response else { panic!("not allowed") };
        let overwrites = i32::from(Append::OverwriteIfExistsOrAdd);
        assert!(allowed.headers.iter().all(|option| option.append_action == overwrites));
        let names: Vec<(String, String)> = allowed
            .headers
            .into_iter()
            .map(|option| option.header.unwrap())
            .map(|header| (header.key, header.value))
            .collect();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            names,
            [pair("x-tenant-id", "acme"), pair("x-user-id", "alice"), pair("x-session-id", session)]
        );
        assert_eq!(answer.dynamic_metadata.unwrap().fields["x-user-id"].string.as_deref(), Some("alice"));
    }
    let twice = format!("{bearer},{bearer}");
    for shown in [
        with(&[]),
        with(&[("authorization", "Bearer wrong")]),
        with(&[("authorization", &twice)]),
        with(&[("authorization", "Bearer x"), ("cookie", &cookie)]),
        with(&[("authorization", &format!("Bearer {}", running.admin()))]),
        HttpRequest::default(),
    ] {
        let answer = check(&running, shown).await.unwrap();
        assert_eq!(answer.status.unwrap().code, 16);
        let Some(HttpResponse::Denied(denied)) = answer.http_response else { panic!("not denied") };
        assert_eq!(denied.status.unwrap().code, 401);
        let body: Value = serde_json::from_str(&denied.body).unwrap();
        assert_eq!((&body["status"], &body["reason"]), (&json!(401), &json!("unauthorized")));
        let types: Vec<String> = denied
            .headers
            .into_iter()
            .filter_map(|option| option.header)
            .filter(|header| header.key == "content-type")
            .map(|header| header.value)
            .collect();
        assert_eq!(types, ["application/problem+json"]);
    }
    // The correlation ID of the client's request is in the answer.
    let answer = check(&running, with(&[("x-request-id", "request-7")])).await.unwrap();
    let Some(HttpResponse::Denied(denied)) = answer.http_response else { panic!("not denied") };
    assert!(denied.body.contains("request-7"), "{}", denied.body);
    let gone = running
        .send_json(
            "DELETE",
            &format!("/api/security/sessions/acme/{session}"),
            &running.of_tenant("acme"),
            "",
        )
        .await;
    assert!(gone.status < 300, "{}", gone.body);
    let revoked = check(&running, with(&[("authorization", &bearer)])).await.unwrap();
    assert_eq!(revoked.status.unwrap().code, 16);
}

on_each_store![a_proxy_is_told_over_grpc_whose_a_token_is];

#[tokio::test(flavor = "multi_thread")]
async fn the_ingest_listener_speaks_both_and_a_connection_that_says_nothing_ends() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let running = Running::start(Store::Sqlite, false).await;
    let address = running.companion.ingest_address.unwrap();
    assert_eq!(running.ext_authz("").await.status, 401, "HTTP/1.1 as before");
    // What begins like HTTP/2 and goes on as something else is HTTP/1.1, and no request.
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"PRI * HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    // Byte by byte it is a request all the same.
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in b"POST /v1/ext-authz HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n" {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 401"), "{}", String::from_utf8_lossy(&answer));
    // The API speaks HTTP/1.1 alone.
    let mut stream = tokio::net::TcpStream::connect(running.companion.api_address.unwrap()).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(&[0, 0]), "no frame of HTTP/2: {answer:?}");
}
