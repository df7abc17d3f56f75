//! The console's files, which the binary carries. They hold no secrets, so they are given without a token: the page asks for it, and every
//! call that the page makes is guarded like any other.
//!
//! What is built for development reads them from `src/console` whenever one is asked for, so that a page can be worked on.

use std::borrow::Cow;

use bytes::Bytes;
use rust_embed::Embed;

#[derive(Embed)]
#[folder = "src/console"]
struct Console;

/// What a page may do: nothing but what comes from this listener, in no frame of anybody's.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                                 base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// One file that is there, by its path below the console's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asset(Cow<'static, str>);

impl Asset {
    /// The page, for no path.
    pub(super) fn find(path: &[&str]) -> Option<Self> {
        let wanted = if path.is_empty() { "index.html".to_owned() } else { path.join("/") };
        Console::iter().find(|name| *name == wanted).map(Self)
    }

    /// What is in it, and a tag that changes with that.
    pub(super) fn read(&self) -> Option<(Bytes, String)> {
        let file = Console::get(&self.0)?;
        let tag = format!("\"{}\"", hex::encode(&file.metadata.sha256_hash()[..16]));
        let content = match file.data {
            Cow::Borrowed(data) => Bytes::from_static(data),
            Cow::Owned(data) => Bytes::from(data),
        };
        Some((content, tag))
    }

    pub(super) fn content_type(&self) -> &'static str {
        match self.0.rsplit_once('.').map_or("", |(_, end)| end) {
            "html" => "text/html; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "js" | "mjs" => "text/javascript; charset=utf-8",
            "json" => "application/json",
            "svg" => "image/svg+xml",
            "png" => "image/png",
            _ => "text/plain; charset=utf-8",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn text(name: &str) -> String {
        let (content, _) = Asset(name.to_owned().into()).read().unwrap();
        String::from_utf8_lossy(&content).into_owned()
    }

    /// What a file loads: by an attribute of the page, an import of a module, or a style's `url(…)`.
    fn loads(text: &str) -> BTreeSet<String> {
        let quoted = ["src=", "href=", "from ", "import ", "import(", "url(", "action="];
        let mut found = BTreeSet::new();
        for before in quoted {
            for (at, _) in text.match_indices(before) {
                let rest = &text[at + before.len()..];
                let Some(quote) = rest.chars().next().filter(|c| ['"', '\''].contains(c)) else { continue };
                found.extend(rest[1..].split_once(quote).map(|(of, _)| of.to_owned()));
            }
        }
        found
    }

    /// The file that is meant, seen from another one; `None`: it is not there.
    fn resolved(from: &str, of: &str) -> Option<Asset> {
        let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
        let from_root = of.strip_prefix('/').map(|rooted| rooted.strip_prefix("console/"));
        let below = from_root.map_or_else(|| Some(format!("{folder}/{of}")), |rooted| rooted.map(str::to_owned))?;
        let mut path: Vec<_> = below.split('/').filter(|segment| !segment.is_empty()).collect();
        path.retain(|segment| *segment != ".");
        while let Some(up) = path.iter().position(|segment| *segment == "..") {
            path.drain(up.checked_sub(1)?..=up);
        }
        Asset::find(&path)
    }

    /// What is wrong with the references of a file.
    fn broken(name: &str, text: &str) -> Vec<String> {
        let own = |of: &String| of.starts_with('#') || of.starts_with("data:");
        let loads = loads(text).into_iter().filter(|of| !own(of) && resolved(name, of).is_none());
        let hosts = ["http://", "https://"].into_iter().flat_map(|scheme| text.match_indices(scheme));
        // The namespace of SVG is a name, and what comes from others tells where from.
        let elsewhere = hosts.map(|(at, _)| text[at..].chars().take(60).collect::<String>());
        let elsewhere = elsewhere.filter(|of| !name.starts_with("vendor/") && !of.starts_with("http://www.w3.org/"));
        loads.chain(elsewhere).collect()
    }

    #[test]
    fn whatever_the_page_and_its_modules_load_is_there_and_nothing_is_elsewhere() {
        for (text, count) in [
            (r#"<script src="/console/gone.js"></script>"#, 1),
            (r#"<img src="//cdn.example/x.png">"#, 1),
            ("import {a} from './gone.js';", 1),
            ("fetch('https://elsewhere.example/x')", 1),
            (r##"<a href="#main"><svg xmlns="http://www.w3.org/2000/svg"><link href="/console/index.html">"##, 0),
        ] {
            assert_eq!(broken("index.html", text).len(), count, "{text}");
        }
        let wrong: Vec<_> = Console::iter()
            .filter(|name| !name.ends_with(".png"))
            .flat_map(|name| broken(&name, &text(&name)).into_iter().map(move |of| format!("{name}: {of}")))
            .collect();
        assert_eq!(wrong, [""; 0]);
    }

    #[test]
    fn a_page_has_no_script_and_no_style_of_its_own_since_the_policy_forbids_them() {
        let page = text("index.html");
        for (at, _) in page.match_indices("<script") {
            let tag = page[at..].split_once('>').map_or("", |(tag, _)| tag);
            assert!(tag.contains(" src="), "{tag}");
        }
        assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains(" onclick="), "{page}");
    }

    #[test]
    fn only_what_is_there_is_found() {
        assert_eq!(Asset::find(&[]), Asset::find(&["index.html"]));
        assert!(Asset::find(&[]).is_some());
        for path in [&["gone.js"][..], &["..", "lib.rs"], &["", "index.html"], &["."], &[""]] {
            assert_eq!(Asset::find(path), None, "{path:?}");
        }
    }

    #[test]
    fn a_file_has_the_type_that_its_name_says() {
        let kind = |name: &'static str| Asset(name.into()).content_type();
        assert_eq!(kind("app.js"), "text/javascript; charset=utf-8");
        assert_eq!(kind("index.html"), "text/html; charset=utf-8");
        assert_eq!(kind("vendor/uPlot.min.css"), "text/css; charset=utf-8");
        assert_eq!(kind("vendor/uPlot.LICENSE"), "text/plain; charset=utf-8");
    }
}
