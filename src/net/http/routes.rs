//! The pages: which there are, and what each shows. A new page is a row in [`ROUTES`] and a function.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::Ordering;

use http_body_util::Full;
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{
    ACCEPT, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE,
};
use hyper::{Method, Request, Response, StatusCode};

use super::Site;
use crate::engine::access::page_login::{PageAccess, PageLogin};
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
    /// Whether it names keys: then, where clients have to log in, so has whoever asks for it, as a user who may see all keys.
    names_keys: bool,
    page: fn(Site, &HeaderMap) -> Answer,
}

static ROUTES: &[Route] = &[
    Route { path: "/metrics", help: "metrics for Prometheus", names_keys: false, page: metrics },
    Route {
        path: "/healthz",
        help: "200 while all workers answer, 503 if one does not",
        names_keys: false,
        page: healthz,
    },
    Route {
        path: "/readyz",
        help: "200 while clients are served, 503 while starting or stopping",
        names_keys: false,
        page: readyz,
    },
];

/// Answers a request.
pub(super) async fn answer(
    site: Site,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(answer_from(ROUTES, site, request).await)
}

/// Answers a request with one of the pages of `routes`.
async fn answer_from(routes: &[Route], site: Site, request: Request<impl Body>) -> Response<Full<Bytes>> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let route = routes.iter().find(|route| route.path == request.uri().path());
    let page = match route {
        Some(_) if !is_read => plain(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD are allowed here\n"),
        Some(_) if !request.body().is_end_stream() => {
            plain(StatusCode::PAYLOAD_TOO_LARGE, "no page takes a body\n")
        }
        Some(route) if route.names_keys => match log_in(&site, request.headers()).await {
            None => (route.page)(site, request.headers()).await,
            Some(refusal) => refusal,
        },
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
    if page.status == StatusCode::UNAUTHORIZED {
        let realm = "Basic realm=\"ferrocached\", charset=\"UTF-8\"";
        headers.insert(WWW_AUTHENTICATE, realm.parse().expect("it is plain ASCII"));
    }
    response
}

/// Has whoever sends `headers` log in, where clients have to; `None` if the page may be shown. Verifying a password takes
/// its time elsewhere, and so does the pause behind a refusal.
async fn log_in(site: &Site, headers: &HeaderMap) -> Option<Page> {
    let authorization = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let engine = &site.shared.engine;
    let access = match engine.page_login(authorization, site.refusals.load(Ordering::Relaxed)) {
        PageLogin::Over(access) => access,
        PageLogin::Verify(task, attempt) => {
            let pool = &site.shared.blocking_pool;
            let mut verifying = pool.start(task);
            if let Some(task) = poll_fn(|cx| verifying.poll_finished(cx)).await {
                let pause = task.pause();
                if !pause.is_zero() {
                    let mut pausing = pool.delay(task, pause);
                    poll_fn(|cx| pausing.poll_finished(cx)).await;
                }
            }
            attempt.finish(engine)
        }
    };
    let (status, words) = match access {
        PageAccess::Granted => {
            site.refusals.store(0, Ordering::Relaxed);
            return None;
        }
        PageAccess::Missing | PageAccess::Refused => {
            (StatusCode::UNAUTHORIZED, "this page names keys: log in as a user of the cache\n")
        }
        PageAccess::NotByPrefix => {
            (StatusCode::FORBIDDEN, "this page names keys of all users, and you have keys of your own\n")
        }
        PageAccess::Busy => {
            (StatusCode::SERVICE_UNAVAILABLE, "too many clients log in at once, try again later\n")
        }
    };
    if access == PageAccess::Refused {
        site.refusals.fetch_add(1, Ordering::Relaxed);
    }
    Some(plain(status, words))
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
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;

    use http_body_util::Empty;

    use super::*;
    use crate::clock::Epoch;
    use crate::engine::Engine;
    use crate::engine::access::users::Users;
    use crate::net::{Clock, Health, Server};
    use crate::settings::{Settings, TcpPort};

    /// Those who may log in; the password of eve is "password".
    const USERS: &str = "ann:sesame:ro\nbob:open:prefix=bob\n\
         eve:$argon2i$v=19$m=65536,t=2,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b+dWRWJTmaaJObG\n";

    /// What base64 makes of logins.
    const ANN: &str = "Basic YW5uOnNlc2FtZQ==";
    const BOB: &str = "Basic Ym9iOm9wZW4=";
    const EVE: &str = "Basic ZXZlOnBhc3N3b3Jk";
    /// `ann:open`, `eve:open`, `nobody:x`, `ann`, and no base64.
    const WRONG: [&str; 5] =
        ["Basic YW5uOm9wZW4=", "Basic ZXZlOm9wZW4=", "Basic bm9ib2R5Ong=", "Basic YW5u", "Basic %"];

    static TABLE: &[Route] = &[
        Route {
            path: "/open",
            help: "",
            names_keys: false,
            page: |_, _| Box::pin(async { plain(StatusCode::OK, "") }),
        },
        Route {
            path: "/keys",
            help: "",
            names_keys: true,
            page: |_, _| Box::pin(async { plain(StatusCode::OK, "") }),
        },
    ];

    /// What answers for a server where users have to log in, or not.
    fn site(has_users: bool) -> Site {
        let auth_file = has_users.then(|| "users".into());
        let settings = Settings { auth_file, port: TcpPort::Off, ..Settings::default() };
        let (epoch, _): (Epoch, _) = Epoch::starting_at(1_700_000_000);
        let engine = Arc::new(Engine::new(settings, epoch));
        engine.set_users(Users::parse(USERS.as_bytes()).unwrap());
        let shared = Arc::clone(&Server::bind(engine, Clock::start().0, None).unwrap().shared);
        Site { shared, health: Arc::new(Health::of(0).0), refusals: Arc::new(AtomicU32::new(0)) }
    }

    /// The status and whether a login is asked for.
    async fn ask(site: &Site, path: &str, login: Option<&str>) -> (u16, bool) {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = path.parse().unwrap();
        if let Some(login) = login {
            request.headers_mut().insert(AUTHORIZATION, login.parse().unwrap());
        }
        let answer = answer_from(TABLE, site.clone(), request).await;
        (answer.status().as_u16(), answer.headers().contains_key(WWW_AUTHENTICATE))
    }

    #[tokio::test]
    async fn a_page_that_names_keys_is_for_users_who_may_see_all_of_them() {
        let site = site(true);
        assert_eq!(ask(&site, "/open", None).await, (200, false));
        assert_eq!(ask(&site, "/keys", None).await, (401, true));
        let network = site.shared.engine.connections();
        assert_eq!(network.page_logins.load(Ordering::Relaxed), 0, "nobody has said who asks");
        let lower = ANN.replace("Basic", "basic");
        for (login, expected) in
            [(ANN, (200, false)), (&*lower, (200, false)), (EVE, (200, false)), (BOB, (403, false))]
        {
            assert_eq!(ask(&site, "/keys", Some(login)).await, expected, "{login}");
        }
        let too_long = format!("Basic {}", "YW5u".repeat(2000));
        for login in WRONG.into_iter().chain(["Bearer ann:sesame", &too_long]) {
            assert_eq!(ask(&site, "/keys", Some(login)).await, (401, true), "{login}");
            assert_eq!(site.refusals.swap(0, Ordering::Relaxed), 1, "or the last would wait for long");
        }
        site.refusals.store(1, Ordering::Relaxed);
        assert_eq!(ask(&site, "/keys", Some(ANN)).await, (200, false));
        assert_eq!(site.refusals.load(Ordering::Relaxed), 0, "a success ends the row");
        assert_eq!(network.page_logins.load(Ordering::Relaxed), 12);
        assert_eq!(network.page_logins_failed.load(Ordering::Relaxed), 7);
    }

    #[tokio::test]
    async fn where_nobody_logs_in_nobody_has_to() {
        assert_eq!(ask(&site(false), "/keys", None).await, (200, false));
    }

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
