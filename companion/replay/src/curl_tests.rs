use super::*;

fn read(path: &str) -> std::io::Result<Vec<u8>> {
    if path == "body.txt" { Ok(b"from\nfile".to_vec()) } else { Err(std::io::ErrorKind::NotFound.into()) }
}

fn request(text: &str) -> Request {
    command(text.as_bytes(), &read).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn wire(text: &str) -> String {
    String::from_utf8(request(text).to_wire()).unwrap()
}

#[test]
fn a_get_and_a_post() {
    assert_eq!(
        wire("curl -sS 'https://user:pw@shop.test/a?b=c#d'"),
        "GET /a?b=c HTTP/1.1\r\nhost: shop.test\r\nuser-agent: curl/8\r\naccept: */*\r\n\r\n"
    );
    assert_eq!(
        wire("curl -XPUT shop.test -H 'Accept:' -H 'X-A: 1' -d a=1 --data-urlencode 'b=c d' -A agent"),
        "PUT / HTTP/1.1\r\nhost: shop.test\r\nX-A: 1\r\nuser-agent: agent\r\naccept: */*\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: 11\r\n\r\na=1&b=c%20d"
    );
    let json = request("curl --json '{\"a\": 1}' http://h/x");
    assert_eq!(
        (&json.method[..], json.header("content-type")),
        (&b"POST"[..], Some(&b"application/json"[..]))
    );
}

#[test]
fn as_a_browser_copies_it() {
    let copied = "curl 'https://h.test/api?x=1' \\\n  -X 'POST' \\\n  -H 'accept: */*' \\\n  -H 'cookie: a=b' \\\n  \
                  --data-raw $'{\"t\":\"it\\'s\"}' \\\n  --compressed --insecure";
    let request = request(copied);
    assert_eq!((request.scheme, &request.target[..]), ("https", &b"/api?x=1"[..]));
    assert_eq!(&request.body[..], b"{\"t\":\"it's\"}");
    assert_eq!(request.header("content-length"), Some(&b"12"[..]));
}

#[test]
fn forms_files_and_queries() {
    let form = request("curl -F a=b -F 'f=@body.txt;type=text/html;filename=x.php' h");
    let body = String::from_utf8(form.body.clone()).unwrap();
    assert!(body.contains("name=\"a\"\r\n\r\nb\r\n--"), "{body}");
    assert!(
        body.contains("name=\"f\"; filename=\"x.php\"\r\ncontent-type: text/html\r\n\r\nfrom\nfile\r\n--"),
        "{body}"
    );
    assert!(form.header("content-type").unwrap().starts_with(b"multipart/form-data; boundary="));
    assert_eq!(request("curl -d @body.txt h").body, b"fromfile");
    assert_eq!(request("curl --data-binary @body.txt h").body, b"from\nfile");
    assert_eq!(request("curl -G -d a=1 -d b=2 'h/x?y'").target, b"/x?y&a=1&b=2");
    assert_eq!(request("curl -I h").method, b"HEAD");
    assert_eq!(request("curl -u a:b h").header("authorization"), Some(&b"Basic YTpi"[..]));
}

#[test]
fn what_is_not_understood_is_told() {
    for (text, part) in [
        ("curl", "has no URL"),
        ("curl a b", "more than one URL"),
        ("curl --upload-file x h", "`--upload-file` is not an option"),
        ("curl -sQ h", "`-sQ` is not an option"),
        ("curl h -H", "`-H` lacks its value"),
        ("curl -d @gone h", "gone: "),
        ("curl 'h", "a ' is not closed"),
        ("curl -F a h", "name=content"),
    ] {
        let error = command(text.as_bytes(), &read).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn files_of_headers_are_read_and_files_of_cookies_refused() {
    let read = |path: &str| match path {
        "heads.txt" => Ok(b"x-a: 1\r\n\nx-b: 2\n".to_vec()),
        _ => Err(std::io::ErrorKind::NotFound.into()),
    };
    let request = command(b"curl https://h.test/ -H @heads.txt", &read).unwrap();
    assert_eq!((request.header("x-a"), request.header("x-b")), (Some(&b"1"[..]), Some(&b"2"[..])));
    let refused = command(b"curl https://h.test/ -b jar.txt", &read).unwrap_err().to_string();
    assert!(refused.contains("jar.txt"), "{refused}");
}
