//! Chromium without a window.

use std::{
    env, fs,
    io::{Write as _, stderr},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, time::timeout};

/// Its programs in different distributions. `cargo xtask test` installs the first one.
const PROGRAMS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// The limit for opening a document, which takes a second.
const LIMIT: Duration = Duration::from_mins(1);
/// Its sandbox doesn't work for root, and containers have little shared memory. Time passes immediately for timers.
const OPTIONS: [&str; 10] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--enable-logging=stderr",
    "--v=0",
    "--window-size=1280,2400",
    "--virtual-time-budget=2000",
    "--dump-dom",
];

/// The browser.
pub struct Chromium(PathBuf);

/// A document after its scripts have run.
pub struct Opened {
    /// Its source.
    pub source: String,
    /// The messages in the console.
    pub console: Vec<String>,
}

impl Chromium {
    /// Finds it, or reports that the test is skipped.
    pub fn find() -> Option<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let mut files = env::split_paths(&path).flat_map(|folder| PROGRAMS.map(|name| folder.join(name)));
        let found = files.find(|file| file.is_file());
        if found.is_none() {
            // Not by a macro, whose output libtest hides.
            let _ = writeln!(stderr(), "skipped: there is no Chromium; on Debian its package is chromium");
        }
        found.map(Self)
    }

    /// Opens a document as a file with this name. A screenshot is left beside it.
    pub async fn open(&self, name: &str, document: &str) -> Opened {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser");
        fs::create_dir_all(&folder).unwrap();
        let (file, screenshot) = (folder.join(name), folder.join(format!("{name}.png")));
        fs::write(&file, document).unwrap();
        let _ = fs::remove_file(&screenshot);
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new(&self.0);
        command.args(OPTIONS).arg(format!("--user-data-dir={}", profile.path().display()));
        command.arg(format!("--screenshot={}", screenshot.display()));
        command.arg(format!("file://{}", file.display())).stdin(Stdio::null()).kill_on_drop(true);
        let output = timeout(LIMIT, command.output()).await;
        let output = output.unwrap_or_else(|_| panic!("{name}: Chromium is still running")).unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && screenshot.exists(), "{name}: {}: {stderr}", output.status);
        let console = stderr.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned).collect();
        Opened { source: String::from_utf8(output.stdout).unwrap(), console }
    }
}
