//! The page and the models on this machine's own address, and nowhere else.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::http::header::{HeaderName, HeaderValue};
use tower_http::services::ServeDir;
use tower_http::set_header::SetResponseHeaderLayer;

const HEADERS: &[(&str, &str)] = &[
    // The page carries its policy itself, for hosts that send no headers; only this part needs one.
    ("content-security-policy", "frame-ancestors 'none'"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    // Cross-origin isolation: what wasm threads need where a server can grant it.
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-embedder-policy", "require-corp"),
    ("cross-origin-resource-policy", "same-origin"),
    // Revalidated each time, so that a rebuilt page is never an old one.
    ("cache-control", "no-cache"),
];

/// Serves until Ctrl-C; `port` 0 takes any free one.
pub fn serve_until_interrupted(root: &Path, port: u16) -> Result<()> {
    let listener = bind(port)?;
    let address = listener.local_addr()?;
    let router = router(root)?;
    println!("Trimtab is at http://{address} (Ctrl-C stops it)");
    runtime()?.block_on(async {
        tokio::select! {
            served = serve(listener, router) => served,
            interrupted = tokio::signal::ctrl_c() => interrupted.context("waiting for Ctrl-C failed"),
        }
    })
}

/// Serves from a thread of its own while this process lives; returns the address.
pub fn serve_in_background(root: &Path) -> Result<SocketAddr> {
    let listener = bind(0)?;
    let address = listener.local_addr()?;
    let router = router(root)?;
    let runtime = runtime()?;
    thread::spawn(move || {
        if let Err(error) = runtime.block_on(serve(listener, router)) {
            eprintln!("the test server stopped: {error:#}");
        }
    });
    Ok(address)
}

fn bind(port: u16) -> Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| {
        format!("port {port} of 127.0.0.1 cannot be used (is another server on it?); choose one with --port")
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

async fn serve(listener: TcpListener, router: Router) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    axum::serve(listener, router)
        .await
        .context("the server stopped")
}

fn router(root: &Path) -> Result<Router> {
    let page = root.join("web/dist");
    if !page.join("index.html").is_file() {
        bail!(
            "the page is not built: {} has no index.html; run `cargo xtask build`",
            page.display()
        );
    }
    let mut router = Router::new()
        .nest_service("/models", ServeDir::new(root.join("models")))
        .fallback_service(ServeDir::new(page));
    for (name, value) in HEADERS {
        router = router.layer(SetResponseHeaderLayer::overriding(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        ));
    }
    Ok(router)
}
