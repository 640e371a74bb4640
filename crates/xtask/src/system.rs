//! What has to be on the machine beside Rust, Node and Python: a browser and, on Linux, a Vulkan driver.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::process;

const BROWSERS: &[&str] = &[
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
];
const BROWSER_APPLICATIONS: &[&str] = &[
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
];
const VULKAN_DRIVERS: &[&str] = &["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"];

/// The browser that end-to-end tests drive: `$CHROMIUM`, or the first one found; installed where apt can.
pub fn ensure_browser() -> Result<PathBuf> {
    if let Some(path) = env::var_os("CHROMIUM") {
        return Ok(PathBuf::from(path));
    }
    if let Some(path) = browser() {
        return Ok(path);
    }
    apt_install(
        &["chromium", "fonts-liberation"],
        "the end-to-end tests need Chromium or Chrome",
    )?;
    match browser() {
        Some(path) => Ok(path),
        None => bail!("Chromium was installed but is not on the PATH; set CHROMIUM to its path"),
    }
}

fn browser() -> Option<PathBuf> {
    let on_path = BROWSERS.iter().find_map(|name| process::find(name));
    on_path.or_else(|| {
        BROWSER_APPLICATIONS
            .iter()
            .map(PathBuf::from)
            .find(|path| path.is_file())
    })
}

/// Native GPU tests run on any adapter; on Linux, Mesa's lavapipe makes sure that there is one.
pub fn ensure_vulkan() -> Result<()> {
    if !cfg!(target_os = "linux") || lavapipe_present() {
        return Ok(());
    }
    apt_install(
        &["mesa-vulkan-drivers", "libvulkan1"],
        "the GPU tests need a Vulkan driver that runs anywhere (lavapipe)",
    )
}

fn lavapipe_present() -> bool {
    VULKAN_DRIVERS
        .iter()
        .filter_map(|folder| Path::new(folder).read_dir().ok())
        .flatten()
        .filter_map(Result::ok)
        .any(|entry| entry.file_name().to_string_lossy().starts_with("lvp_icd"))
}

/// Installs Debian packages as root; elsewhere the error says what to install and why.
pub fn apt_install(packages: &[&str], reason: &str) -> Result<()> {
    let names = packages.join(" ");
    if !can_apt_install() {
        bail!(
            "{reason}. Install it and run this again: on Debian and Ubuntu `sudo apt-get install {names}`; elsewhere \
             Google Chrome or Chromium (set CHROMIUM to its path if it is not found), and Mesa's lavapipe or any other Vulkan driver."
        );
    }
    eprintln!("{reason}; installing {names}");
    let here = Path::new("/");
    process::run(process::command("apt-get", here).arg("update"))?;
    let mut install = process::command("apt-get", here);
    install.env("DEBIAN_FRONTEND", "noninteractive");
    install
        .args(["install", "--yes", "--no-install-recommends"])
        .args(packages);
    process::run(&mut install)
}

pub fn can_apt_install() -> bool {
    process::find("apt-get").is_some()
        && process::answer(process::command("id", Path::new("/")).arg("-u")).as_deref() == Some("0")
}
