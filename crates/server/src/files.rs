//! The page's files as a service: ranges, compressed twins, MIME types, caching, security headers.

use std::path::Path;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use tower_http::services::ServeDir;
use tower_http::services::fs::Backend;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::embedded::Embedded;

type Headers = &'static [(&'static str, &'static str)];

/// Headers of every answer.
pub const SECURITY: Headers = &[
    // The page carries its policy itself, for hosts that send no headers; only this part needs one.
    ("content-security-policy", "frame-ancestors 'none'"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
];

/// Cross-origin isolation: what wasm threads need where a server can grant it. Browsers complain of it on plain HTTP
/// from another machine.
pub const ISOLATION: Headers = &[
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-embedder-policy", "require-corp"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// The build's folder of files that are named by their content.
const HASHED: &str = "/assets/";
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// Caching of files that are asked for again each time, so that a page that was built again is never an old one.
const REVALIDATED: &str = "no-cache";

/// The page in a folder, as the build or `cargo xtask bundle --site` left it.
pub fn folder(path: &Path) -> Router {
    serve(ServeDir::new(path).precompressed_gzip())
}

/// The page inside the program.
pub fn embedded(files: Embedded) -> Router {
    serve(ServeDir::with_backend("", files).precompressed_gzip())
}

fn serve<B: Backend>(
    files: ServeDir<tower_http::services::fs::DefaultServeDirFallback, B>,
) -> Router {
    Router::new().fallback_service(files)
}

/// Adds the parts that all answers have in common: caching by kind of file, a sentence where there is nothing, [`SECURITY`].
pub fn finished(router: Router) -> Router {
    with_headers(router.layer(from_fn(finish)), SECURITY)
}

async fn finish(request: Request, next: Next) -> Response {
    let hashed = request.uri().path().starts_with(HASHED);
    let head = request.method() == Method::HEAD;
    let mut answer = next.run(request).await;
    let status = answer.status();
    let good = status.is_success() || status == StatusCode::NOT_MODIFIED;
    let caching = if hashed && good {
        FOR_EVER
    } else {
        REVALIDATED
    };
    answer
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    if status == StatusCode::NOT_FOUND && !head {
        answer.headers_mut().insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        *answer.body_mut() = Body::from(
            "There is no such file here. Trimtab's page is at the address without a path.\n",
        );
    }
    answer
}

pub fn with_headers(mut router: Router, headers: Headers) -> Router {
    for (name, value) in headers {
        router = router.layer(SetResponseHeaderLayer::overriding(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        ));
    }
    router
}
