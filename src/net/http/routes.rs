//! The pages: which there are, and what each shows. A new page is a row in [`ROUTES`] and a function.

use std::convert::Infallible;
use std::pin::Pin;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap};
use hyper::{Method, Request, Response, StatusCode};

use super::Site;
use crate::engine::stats::metrics::Format;
use crate::net::health::State;

const PLAIN: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is answered, before it is made a response.
struct Page {
    status: StatusCode,
    kind: &'static str,
    text: String,
}

type Answer = Pin<Box<dyn Future<Output = Page> + Send>>;

/// A page: its path, what it is, and what makes it of the headers of a request.
struct Route {
    path: &'static str,
    help: &'static str,
    page: fn(Site, &HeaderMap) -> Answer,
}

static ROUTES: &[Route] = &[
    Route { path: "/metrics", help: "metrics for Prometheus", page: metrics },
    Route { path: "/healthz", help: "200 while all workers answer, 503 if one does not", page: healthz },
    Route {
        path: "/readyz",
        help: "200 while clients are served, 503 while starting or stopping",
        page: readyz,
    },
];

/// Answers a request.
pub(super) async fn answer(
    site: Site,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let route = ROUTES.iter().find(|route| route.path == request.uri().path());
    let page = match route {
        Some(_) if !is_read => plain(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD are allowed here\n"),
        Some(route) => (route.page)(site, request.headers()).await,
        None => not_found(request.uri().path() == "/"),
    };
    // hyper leaves the body out for HEAD, and keeps its length.
    let mut response = Response::new(Full::new(Bytes::from(page.text)));
    *response.status_mut() = page.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, page.kind.parse().expect("a kind is plain ASCII"));
    headers.insert(CACHE_CONTROL, "no-store".parse().expect("it is plain ASCII"));
    if page.status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, "GET, HEAD".parse().expect("it is plain ASCII"));
    }
    Ok(response)
}

fn plain(status: StatusCode, text: &str) -> Page {
    Page { status, kind: PLAIN, text: text.to_owned() }
}

/// The list of pages, at `/` and where there is none.
fn not_found(is_root: bool) -> Page {
    let lines = ROUTES.iter().map(|Route { path, help, .. }| format!("{path}  {help}\n")).collect::<String>();
    plain(if is_root { StatusCode::OK } else { StatusCode::NOT_FOUND }, &lines)
}

fn metrics(site: Site, headers: &HeaderMap) -> Answer {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let (format, kind) = match accepted.into_iter().any(prefers_open_metrics) {
        true => (Format::OpenMetrics, OPEN_METRICS),
        false => (Format::Prometheus, PROMETHEUS),
    };
    Box::pin(async move {
        let text = site.shared.engine.metrics(format, site.shared.clock.now());
        Page { status: StatusCode::OK, kind, text }
    })
}

/// Whether `accept` names OpenMetrics, and not with a lower weight than plain text.
fn prefers_open_metrics(accept: &str) -> bool {
    let weight = |kind: &str| {
        let range = accept.split(',').map(str::trim).find(|range| range.split(';').next() == Some(kind))?;
        let weight = range.split(';').find_map(|part| part.trim().strip_prefix("q="));
        Some(weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0)))
    };
    weight("application/openmetrics-text")
        .is_some_and(|open| open > 0.0 && open >= weight("text/plain").unwrap_or(0.0))
}

fn healthz(site: Site, _: &HeaderMap) -> Answer {
    Box::pin(async move {
        let stuck = site.health.stuck_workers().await;
        match stuck.is_empty() {
            true => plain(StatusCode::OK, "ok\n"),
            false => {
                let text = format!("these workers do not answer: {stuck:?}\n");
                plain(StatusCode::SERVICE_UNAVAILABLE, &text)
            }
        }
    })
}

fn readyz(site: Site, _: &HeaderMap) -> Answer {
    Box::pin(async move {
        match site.health.state() {
            State::Serving => plain(StatusCode::OK, "ready\n"),
            State::Starting => plain(StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
            State::Stopping => plain(StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_who_likes_it_at_least_as_much() {
        // Source: the headers of Prometheus 2.42 and 3.0, curl and a browser.
        for (accept, expected) in [
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                true,
            ),
            ("text/plain;version=0.0.4", false),
            ("*/*", false),
            ("text/html,application/xhtml+xml,*/*;q=0.8", false),
            ("application/openmetrics-text;q=0.1, text/plain;q=0.9", false),
            ("application/openmetrics-text;q=0", false),
            ("application/openmetrics-text", true),
            ("application/openmetrics-text;q=x", false),
        ] {
            assert_eq!(prefers_open_metrics(accept), expected, "{accept}");
        }
    }
}
