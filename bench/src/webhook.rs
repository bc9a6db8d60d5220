//! The admission webhook under the load of a kube-apiserver: reviews over TLS on several connections, with its
//! registries up and down; its memory afterwards; and the time from its start to the first response.

mod load;
mod review;

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use crate::process::{median, read_resident_bytes, service};
use crate::registries::free_port;
use crate::report::Row;
use load::{Load, Trust, send_one};

/// Parallel connections, each with a flag: only the rows for eight connections have limits.
const CONNECTIONS: [usize; 3] = [1, 8, 64];
const LIMITED: usize = 8;
const P99_LIMIT_MS: f64 = 1.0;
const RATE_LIMIT: f64 = 15_000.0;
const RESIDENT_LIMIT_MB: f64 = 15.0;
const COLD_START_LIMIT_MS: f64 = 50.0;
const COLD_STARTS: usize = 11;
const WARM_UP: Duration = Duration::from_secs(1);
const MEASURED: Duration = Duration::from_secs(5);
const START_TIME: Duration = Duration::from_secs(20);

pub(crate) fn measure(binary: &Path) -> anyhow::Result<Vec<Row>> {
    let review = review::render();
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    let mut rows = Vec::new();

    let mut starts = Vec::with_capacity(COLD_STARTS);
    for number in 0..COLD_STARTS {
        let site = Site::new(&directory.path().join(format!("cold-{number}")), free_port()?)?;
        let start = crate::process::time(|| Webhook::start(binary, &site, &review));
        starts.push(start.as_secs_f64() * 1e3);
    }
    let case = "start to first admission, no state";
    rows.push(Row::new(case, "median, ms", median(starts), COLD_START_LIMIT_MS));

    let site = Site::new(&directory.path().join("site"), free_port()?)?;
    let registry = Registry::start(binary, &site)?;
    let webhook = Webhook::start(binary, &site, &review)?;
    rows.extend(measure_load(&webhook, &review, "registries there")?);
    drop(registry);
    rows.extend(measure_load(&webhook, &review, "registries gone")?);
    #[expect(clippy::cast_precision_loss, reason = "memory of a process is far below 2^53 bytes")]
    let megabytes = read_resident_bytes(webhook.child.id())? as f64 / 1e6;
    rows.push(Row::new(
        "webhook after that",
        "resident, MB",
        megabytes,
        RESIDENT_LIMIT_MB,
    ));
    Ok(rows)
}

fn measure_load(webhook: &Webhook, review: &str, world: &str) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for connections in CONNECTIONS {
        let load = Load::run(webhook.port, &webhook.trust, review, connections, WARM_UP, MEASURED)?;
        let case = |of: &str| format!("{connections} connections, {world}: {of}");
        let limited = connections == LIMITED;
        for (of, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            let milliseconds = load.percentile(share).as_secs_f64() * 1e3;
            rows.push(match limited && of == "p99" {
                true => Row::new(case(of), "latency, ms", milliseconds, P99_LIMIT_MS),
                false => Row::without_limit(case(of), "latency, ms", milliseconds),
            });
        }
        rows.push(match limited {
            true => Row::at_least(case("rate"), "reviews/s", load.rate(), RATE_LIMIT),
            false => Row::without_limit(case("rate"), "reviews/s", load.rate()),
        });
    }
    Ok(rows)
}

/// Input files and port of a webhook.
struct Site {
    directory: PathBuf,
    port: u16,
    registry_port: u16,
}

impl Site {
    fn new(directory: &Path, port: u16) -> anyhow::Result<Site> {
        fs_err::create_dir_all(directory.join("root"))?;
        let registry_port = free_port()?;
        let user_data = format!(
            "#cloud-config\nstylus:\n  localUI:\n    port: {}\n  imageRedirectWebhook:\n    port: {port}\n  \
             registryCredentials:\n    domain: 127.0.0.1:{registry_port}/mirror\n    insecure: true\nlandfall:\n  \
             containerd:\n    enable: false\n  primary:\n    kind: registry\n    endpoint: 127.0.0.1:{registry_port}\n",
            free_port()?,
        );
        fs_err::write(directory.join("user-data.yaml"), user_data)?;
        fs_err::write(directory.join("profile.yaml"), review::PROFILE)?;
        Ok(Site {
            directory: directory.to_owned(),
            port,
            registry_port,
        })
    }
}

/// A registry that is external and primary at once, until it is dropped.
struct Registry(Child);

impl Registry {
    fn start(binary: &Path, site: &Site) -> anyhow::Result<Registry> {
        let child = service(binary)
            .args(["registry", "serve", "--listen"])
            .arg(format!("127.0.0.1:{}", site.registry_port))
            .arg("--root")
            .arg(site.directory.join("registry"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the registry")?;
        Ok(Registry(child))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

/// A webhook that has responded once.
struct Webhook {
    child: Child,
    port: u16,
    trust: Trust,
}

impl Webhook {
    /// Starts `landfall webhook serve` and sends reviews until it responds.
    #[expect(clippy::disallowed_types, reason = "a benchmark measures real time")]
    fn start(binary: &Path, site: &Site, review: &str) -> anyhow::Result<Webhook> {
        const POLL: Duration = Duration::from_micros(500);
        let state = site.directory.join("state");
        let child = service(binary)
            .args(["webhook", "serve", "--user-data"])
            .arg(site.directory.join("user-data.yaml"))
            .arg("--profile")
            .arg(site.directory.join("profile.yaml"))
            .arg("--root")
            .arg(site.directory.join("root"))
            .arg("--state-dir")
            .arg(&state)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the webhook")?;
        let mut webhook = Webhook {
            child,
            port: site.port,
            trust: Trust::of_nobody(),
        };
        let started = std::time::Instant::now();
        let authority = state.join("webhook/ca.crt");
        loop {
            ensure!(
                started.elapsed() < START_TIME,
                "the webhook did not answer within {START_TIME:?}"
            );
            if let Some(status) = webhook.child.try_wait()? {
                bail!("the webhook ended with {status}");
            }
            // The port is not open until the webhook listens: refused connections are normal before that.
            if std::net::TcpStream::connect(("127.0.0.1", site.port)).is_ok() {
                webhook.trust = Trust::of_file(&authority)?;
                let answer = send_one(site.port, &webhook.trust, review)?;
                ensure!(answer.contains("JSONPatch"), "the webhook changed nothing: {answer}");
                return Ok(webhook);
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Kills a child; a failure means that it has ended already.
fn end(child: &mut Child) {
    drop(child.kill());
    drop(child.wait());
}
