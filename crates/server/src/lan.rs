//! A classroom's network: this machine's addresses there, a certificate made on the spot, and the page that tells
//! students what their browser will ask.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result};
use axum::Router;
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use axum_server::tls_rustls::RustlsConfig;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;

use crate::files::with_headers;

/// Browsers ask again after this time; a lesson is over by then, and the next start makes a new certificate.
const DAYS: i64 = 30;

const WELCOME_HEADERS: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-cache"),
];

/// This machine's IPv4 addresses that others can reach, home and school networks first.
///
/// # Errors
/// The system does not say what its interfaces are.
pub fn addresses() -> Result<Vec<Ipv4Addr>> {
    let interfaces = if_addrs::get_if_addrs().context("this machine's addresses are unknown")?;
    let mut found: Vec<(bool, Ipv4Addr)> = interfaces
        .iter()
        .filter_map(|interface| match interface.ip() {
            IpAddr::V4(ip) if !ip.is_loopback() && !ip.is_link_local() => {
                // Bridges of virtual machines have private addresses too, which nobody else reaches.
                let virtual_bridge = ["docker", "br-", "veth", "virbr", "vmnet", "vboxnet"]
                    .iter()
                    .any(|prefix| interface.name.starts_with(prefix));
                Some((virtual_bridge || !ip.is_private(), ip))
            }
            _ => None,
        })
        .collect();
    found.sort();
    found.dedup();
    Ok(found.into_iter().map(|(_, ip)| ip).collect())
}

/// A self-signed certificate for these addresses, made now and kept in memory only.
///
/// # Errors
/// The certificate could not be made.
pub fn certificate(ips: &[Ipv4Addr]) -> Result<RustlsConfig> {
    let names: Vec<String> = ips
        .iter()
        .map(ToString::to_string)
        .chain(["127.0.0.1".into(), "localhost".into()])
        .collect();
    let mut params = CertificateParams::new(names)?;
    let now = time::OffsetDateTime::now_utc();
    // Laptops' clocks differ.
    params.not_before = now - time::Duration::days(2);
    params.not_after = now + time::Duration::days(DAYS);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
        .distinguished_name
        .push(DnType::CommonName, "Trimtab on the teacher's computer");
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let mut config = ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(RustlsConfig::from_config(config.into()))
}

/// A QR code for a terminal, two rows of modules a line.
///
/// # Errors
/// The text is too long.
pub fn qr(text: &str) -> Result<String> {
    use qrcode::render::unicode::Dense1x2;
    let code = qrcode::QrCode::new(text)?;
    // Terminals are mostly dark, so that the light modules are the ones drawn.
    Ok(code
        .render::<Dense1x2>()
        .dark_color(Dense1x2::Light)
        .light_color(Dense1x2::Dark)
        .build())
}

/// The page at the plain address: what will be asked, and the way on. `page` is under `/page/`, for people who cannot
/// go on to HTTPS.
pub fn welcome(page: Router, https_port: u16) -> Router {
    let welcome = Router::new()
        .route(
            "/",
            get(|| {
                text(
                    "text/html; charset=utf-8",
                    include_str!("welcome/index.html"),
                )
            }),
        )
        .route(
            "/welcome.css",
            get(|| {
                text(
                    "text/css; charset=utf-8",
                    include_str!("welcome/welcome.css"),
                )
            }),
        )
        .route(
            "/welcome.svg",
            get(|| text("image/svg+xml", include_str!("welcome/welcome.svg"))),
        )
        .route(
            "/secure",
            get(move |headers: HeaderMap| secure(headers, https_port)),
        )
        .fallback(|| async { Redirect::temporary("/") });
    with_headers(welcome, WELCOME_HEADERS).nest_service("/page", page)
}

async fn text(mime: &'static str, text: &'static str) -> Response {
    ([(CONTENT_TYPE, mime)], text).into_response()
}

/// Redirect to the same machine's HTTPS, by whatever name it was reached.
async fn secure(headers: HeaderMap, port: u16) -> Response {
    let host = headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .and_then(|host| host.parse::<Authority>().ok());
    match host {
        Some(authority) => {
            Redirect::temporary(&format!("https://{}:{port}/", authority.host())).into_response()
        }
        None => (
            StatusCode::BAD_REQUEST,
            "Use the address that your teacher gave you.\n",
        )
            .into_response(),
    }
}
