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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    /// The whole answer to a `GET` with one more header line.
    fn get(address: SocketAddr, path: &str, header: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{header}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn serves_the_page_and_ranges_of_models_and_nothing_else() {
        let root = std::env::temp_dir().join(format!("trimtab-server-{}", std::process::id()));
        fs::create_dir_all(root.join("web/dist")).unwrap();
        fs::create_dir_all(root.join("models/tiny")).unwrap();
        fs::write(root.join("web/dist/index.html"), "<p>page").unwrap();
        fs::write(root.join("web/dist/a.wasm"), "wasm").unwrap();
        fs::write(root.join("models/tiny/model.safetensors"), "0123456789").unwrap();
        fs::write(root.join("secret"), "secret").unwrap();
        let address = serve_in_background(&root).unwrap();

        let page = get(address, "/", "Accept: */*");
        assert!(page.starts_with("HTTP/1.1 200"), "{page}");
        assert!(page.ends_with("<p>page"), "{page}");
        for (name, value) in HEADERS {
            assert!(page.contains(&format!("{name}: {value}\r\n")), "{page}");
        }
        let module = get(address, "/a.wasm", "Accept: */*");
        assert!(
            module.contains("content-type: application/wasm\r\n"),
            "{module}"
        );

        let part = get(address, "/models/tiny/model.safetensors", "Range: bytes=4-");
        assert!(part.starts_with("HTTP/1.1 206"), "{part}");
        assert!(part.contains("content-range: bytes 4-9/10\r\n"), "{part}");
        assert!(part.ends_with("\r\n\r\n456789"), "{part}");

        for path in [
            "/../../secret",
            "/models/../secret",
            "/models/%2e%2e/secret",
        ] {
            let refused = get(address, path, "Accept: */*");
            assert!(refused.starts_with("HTTP/1.1 4"), "{refused}");
            assert!(!refused.ends_with("secret"), "{refused}");
        }
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_page_that_was_not_built_is_an_error_with_the_next_step() {
        let error = router(Path::new("/nowhere")).unwrap_err().to_string();
        assert!(error.contains("cargo xtask build"), "{error}");
    }
}
