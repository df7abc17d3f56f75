//! The console's files over a real socket.

use super::*;

#[tokio::test]
async fn the_page_is_given_without_a_token_and_may_do_little() {
    let Running { address, .. } = running("t0ken").await;
    let page = get(&address, "/").await;
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("\r\n\r\n<!doctype html>"), "{page}");
    for header in [
        "content-type: text/html; charset=utf-8",
        "cache-control: no-cache",
        "content-security-policy: default-src 'none'; script-src 'self';",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "etag: \"",
    ] {
        assert!(page.contains(header), "{header} is not in {page}");
    }
    let (before, after) = (page.split_once("etag: ").unwrap().1, get(&address, "/console/index.html").await);
    let tag = before.split_once("\r\n").unwrap().0;
    assert!(after.contains(tag), "{after}");
    let known = format!("GET / HTTP/1.1\r\nhost: gate\r\nif-none-match: {tag}\r\nconnection: close\r\n\r\n");
    let known = raw(&address, &known).await;
    assert!(known.starts_with("HTTP/1.1 304") && known.ends_with("\r\n\r\n"), "{known}");
    assert!(get(&address, "/console/gone.js").await.starts_with("HTTP/1.1 401"), "what is not there is no page");
    let written =
        raw(&address, "POST / HTTP/1.1\r\nhost: gate\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    assert!(written.starts_with("HTTP/1.1 401"), "{written}");
}

#[tokio::test]
async fn without_a_token_the_page_is_for_names_of_this_machine_only() {
    let Running { address, .. } = running("").await;
    assert!(get(&address, "/").await.starts_with("HTTP/1.1 200"));
    let rebound = "GET / HTTP/1.1\r\nhost: rebound.example\r\nconnection: close\r\n\r\n";
    assert!(raw(&address, rebound).await.starts_with("HTTP/1.1 403"));
    let framed = "GET / HTTP/1.1\r\nhost: localhost\r\norigin: http://evil.example\r\nconnection: close\r\n\r\n";
    assert!(raw(&address, framed).await.starts_with("HTTP/1.1 403"));
}
