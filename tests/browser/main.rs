//! What adieu writes for browsers is opened in Chromium: the console has no message, and texts in pictures are legible.
//! Skipped without Chromium. Screenshots are left in cargo's folder for temporary files.

#![allow(clippy::panic, clippy::unwrap_used)]

mod chromium;
mod reports;

use chromium::{Chromium, Opened};

/// Adds a script before the last tag of a page or picture.
fn with_script(document: &str, script: &str) -> String {
    let (content, end) = document.split_at(document.rfind("</").unwrap());
    // As it is for HTML and for XML.
    format!("{content}<script>//<![CDATA[\n{script}\n//]]></script>{end}")
}

/// Opens a document, and finds what is illegible. `None` if it isn't shown.
async fn legibility(chromium: &Chromium, name: &str, document: &str) -> (Opened, Option<String>) {
    let opened = chromium.open(name, &with_script(document, include_str!("legible.js"))).await;
    let faults = opened.source.split_once("data-faults=\"").and_then(|(_, rest)| rest.split_once('"'));
    let faults = faults.map(|(faults, _)| faults.to_owned());
    (opened, faults)
}

#[tokio::test]
async fn reports_open_without_console_messages_and_are_legible() {
    let Some(chromium) = Chromium::find() else { return };
    for (name, report) in reports::all() {
        let (opened, faults) = legibility(&chromium, name, &report).await;
        assert_eq!(faults.as_deref(), Some(""), "{name}: {}", opened.source);
        assert!(opened.console.is_empty(), "{name}: {:?}", opened.console);
    }
}

#[tokio::test]
async fn console_messages_are_found() {
    let Some(chromium) = Chromium::find() else { return };
    for script in
        ["console.error('a fault')", "throw new Error('a fault')", "Promise.reject(new Error('a fault'))"]
    {
        let page = with_script("<!DOCTYPE html><html><title>page</title></html>", script);
        let console = chromium.open("message.html", &page).await.console;
        assert!(
            matches!(console.as_slice(), [message] if message.contains("a fault")),
            "{script}: {console:?}"
        );
    }
}

#[tokio::test]
async fn texts_that_can_not_be_read_are_found() {
    let Some(chromium) = Chromium::find() else { return };
    let picture = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"200\" height=\"100\">\
        <text x=\"5\" y=\"20\" font-size=\"6\">tiny</text><text x=\"190\" y=\"50\">beyond</text>\
        <text x=\"5\" y=\"80\">one</text><text x=\"9\" y=\"80\">two</text></svg>";
    let faults = legibility(&chromium, "illegible.svg", picture).await.1;
    assert_eq!(faults.as_deref(), Some("tiny is too small; beyond is cut; two is over one"));
    let page =
        "<!DOCTYPE html><html><title>page</title><p style=\"width: 3000px\">wide</p><svg></svg></html>";
    let faults = legibility(&chromium, "illegible.html", page).await.1;
    assert_eq!(faults.as_deref(), Some("a picture has no text; the page is too wide"));
    // Not XML.
    let broken = picture.replace("one", "&nbsp;");
    assert_eq!(legibility(&chromium, "broken.svg", &broken).await.1, None);
}
