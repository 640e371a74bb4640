//! Listening: in the foreground until Ctrl-C, or from a thread of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::thread;

use anyhow::{Context, Result};
use axum::Router;
use axum_server::tls_rustls::RustlsConfig;

/// A port of this machine with what answers on it.
#[derive(Debug)]
pub struct Port {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
    tls: Option<RustlsConfig>,
}

impl Port {
    /// Takes a port, so that its failure is heard before anything is announced; `port` 0 takes any free one.
    ///
    /// # Errors
    /// Another program has the port.
    pub fn take(ip: IpAddr, port: u16, router: Router) -> Result<Self> {
        let listener = TcpListener::bind((ip, port)).with_context(|| {
            format!("port {port} of {ip} cannot be used (is another server on it?); choose one with --port")
        })?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self {
            listener,
            address,
            router,
            tls: None,
        })
    }

    #[must_use]
    pub fn with_tls(mut self, tls: RustlsConfig) -> Self {
        self.tls = Some(tls);
        self
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    async fn serve(self) -> Result<()> {
        let service = self.router.into_make_service();
        match self.tls {
            Some(tls) => {
                axum_server::from_tcp_rustls(self.listener, tls)?
                    .serve(service)
                    .await
            }
            None => axum_server::from_tcp(self.listener)?.serve(service).await,
        }
        .context("the server stopped")
    }
}

/// Serves all ports until Ctrl-C.
///
/// # Errors
/// A port stopped serving.
pub fn until_interrupted(ports: Vec<Port>) -> Result<()> {
    runtime()?.block_on(async {
        let mut serving = tokio::task::JoinSet::new();
        for port in ports {
            serving.spawn(port.serve());
        }
        tokio::select! {
            Some(stopped) = serving.join_next() => stopped.context("the server stopped")?,
            interrupted = tokio::signal::ctrl_c() => interrupted.context("waiting for Ctrl-C failed"),
        }
    })
}

/// Serves on a free port of this machine alone while this process lives; returns the address.
///
/// # Errors
/// There is no free port.
pub fn in_background(router: Router, tls: Option<RustlsConfig>) -> Result<SocketAddr> {
    let port = Port::take(IpAddr::V4(Ipv4Addr::LOCALHOST), 0, router)?;
    let address = port.address();
    let port = match tls {
        Some(tls) => port.with_tls(tls),
        None => port,
    };
    let runtime = runtime()?;
    thread::spawn(move || {
        if let Err(error) = runtime.block_on(port.serve()) {
            eprintln!("the server in the background stopped: {error:#}");
        }
    });
    Ok(address)
}

/// Two threads: enough to fill a network, and the rest of the machine stays free for the model.
fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?)
}
