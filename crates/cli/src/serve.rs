//! `trimtab serve`: the page from this program, for this machine or for a classroom.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use axum::Router;
use clap::Args;
use trimtab_server::listen::{Port, until_interrupted};
use trimtab_server::{embedded, files, lan};

use crate::gguf_cache;
use crate::serve_model::OwnModel;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Offer the model in this directory, or of this GGUF file, instead of the page's own
    #[arg(long, value_name = "DIR|FILE.gguf")]
    model: Option<PathBuf>,
    #[arg(long, default_value_t = 8420)]
    port: u16,
    /// Open the page in this machine's browser
    #[arg(long)]
    open: bool,
    /// Serve the whole network, for a classroom: HTTPS with a certificate made on the spot, and on --port a page that
    /// tells students what their browser will ask
    #[arg(long)]
    lan: bool,
    /// With --lan, the port of HTTPS [default: the one after --port]
    #[arg(long, value_name = "PORT", requires = "lan")]
    https_port: Option<u16>,
    /// Serve this folder, which `cargo xtask bundle --site` made, instead of the page inside this program
    #[arg(long, value_name = "DIR")]
    site: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let page = page(arguments)?;
    if arguments.lan {
        serve_network(arguments, &page)
    } else {
        serve_machine(arguments, page)
    }
}

fn serve_machine(arguments: &Arguments, page: Router) -> Result<()> {
    let page = files::with_headers(page, files::ISOLATION);
    let port = Port::take(IpAddr::V4(Ipv4Addr::LOCALHOST), arguments.port, page)?;
    let address = format!("http://{}/", port.address());
    println!("Trimtab is at {address} (Ctrl-C stops it)");
    open(arguments, &address);
    until_interrupted(vec![port])
}

fn serve_network(arguments: &Arguments, page: &Router) -> Result<()> {
    let everywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let ips = lan::addresses()?;
    let next = match (arguments.https_port, arguments.port) {
        (Some(port), _) => port,
        (None, 0) => 0,
        (None, port) => port
            .checked_add(1)
            .context("there is no port after 65535; choose a smaller --port")?,
    };
    let isolated = files::with_headers(page.clone(), files::ISOLATION);
    let secure = Port::take(everywhere, next, isolated)?.with_tls(lan::certificate(&ips)?);
    let https = secure.address().port();
    let plain = Port::take(
        everywhere,
        arguments.port,
        lan::welcome(page.clone(), https),
    )?;
    let http = plain.address().port();

    let Some(first) = ips.first() else {
        bail!("this machine is in no network; connect it to the classroom's, or leave out --lan");
    };
    let address = format!("http://{first}:{http}/");
    println!("Students open this address, or point their camera at the code:\n\n    {address}\n");
    println!("{}\n", lan::qr(&address)?);
    println!("It shows them what their browser will ask, and leads to");
    for ip in &ips {
        println!("    https://{ip}:{https}/    (first page: http://{ip}:{http}/)");
    }
    println!(
        "\nThis machine: http://127.0.0.1:{http}/page/ needs no certificate. If students see nothing, this machine's \
         firewall has to let ports {http} and {https} in.\nCtrl-C stops it."
    );
    open(arguments, &format!("http://127.0.0.1:{http}/page/"));
    until_interrupted(vec![plain, secure])
}

fn open(arguments: &Arguments, address: &str) {
    if arguments.open
        && let Err(error) = open::that_detached(address)
    {
        eprintln!("trimtab: no browser could be opened ({error}); open {address} yourself");
    }
}

fn page(arguments: &Arguments) -> Result<Router> {
    let (files, published) = match (&arguments.site, embedded::page()) {
        (Some(site), _) => {
            if !site.join("index.html").is_file() {
                bail!(
                    "{} has no index.html; make a page with `cargo xtask bundle --site`",
                    site.display()
                );
            }
            let catalogue = fs::read(site.join("models/catalog.json")).ok();
            (files::folder(site), catalogue)
        }
        (None, Some(page)) => {
            let catalogue = page.read("models/catalog.json").map(<[u8]>::to_vec);
            (files::embedded(page), catalogue)
        }
        (None, None) => bail!(
            "this trimtab was built without the page. `cargo xtask bundle --program` builds one that has it; \
             or name a folder that `cargo xtask bundle --site` made with --site"
        ),
    };
    let router = match &arguments.model {
        Some(directory) => {
            let converted = match directory.is_file() {
                true => gguf_cache::directory_of(directory)?,
                false => directory.clone(),
            };
            let model = OwnModel::open(&converted)?;
            eprintln!(
                "trimtab: offering {} from {}",
                model.name(),
                directory.display()
            );
            model.before(files, published.as_deref())
        }
        None => files,
    };
    Ok(files::finished(router))
}
