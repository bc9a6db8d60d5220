//! Every fault that a link or a registry can have, with real registries at both ends. Afterwards the image is
//! complete and verified, or the error names the fault. No incomplete image ever exists.
//!
//! The registries are Debian's docker-registry, the current release of distribution, and Landfall's, each
//! behind a proxy that injects faults into responses or connections.

use std::net::SocketAddr;
use std::thread;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_testkit::fake_registry::{Access, Effect, FakeRegistry, FakeRegistryOptions, Fault};
use landfall_testkit::image_builder::{FixtureBuilder, ImageFixture};
use landfall_testkit::weak_link::{WeakLink, Weakness};
use landfall_tests_interop::agent::{binary, run_landfall};
use landfall_tests_interop::docker_registry::{DockerRegistry, Release};
use landfall_tests_interop::images::{assert_in_layout, write_layout};
use landfall_tests_interop::landfall_registry::LandfallRegistry;
use landfall_tests_interop::tls::PrivateAuthority;

/// The end of the copy that has the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Source,
    Destination,
}
use End::{Destination, Source};

/// A kind of fault.
#[derive(Debug, Clone)]
enum InjectedFault {
    /// Requests get wrong responses.
    Responses(Vec<Fault>),
    /// Connections break.
    Link(Weakness),
}

struct Case {
    name: &'static str,
    end: End,
    fault: InjectedFault,
    /// A part of the error; `None` if the copy succeeds.
    error: Option<&'static str>,
}

const LAYER: u32 = 750_000;
const CUT: u64 = 1_000_000;
/// Bytes a second at which the layer takes longer than a stall timeout.
const SLOW: u64 = 600_000;
/// Placeholder for the proxy's URL in its responses.
const PROXY: &str = "{proxy}";

/// Returns an image whose layer is three times as large as the bytes that one connection carries.
fn mk_image() -> ImageFixture {
    let noise: Vec<u8> = (0..LAYER)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    FixtureBuilder::new().plain_layer(&[("noise", &noise)]).build()
}

fn status(status: u16) -> Effect {
    Effect::Status(status, Vec::new(), String::new())
}

fn busy() -> Effect {
    Effect::Status(429, vec![("retry-after", "1".to_owned())], String::new())
}

/// Returns the fault table; `elsewhere` is a host that must not receive any login, `layer` the path of the
/// large blob.
fn cases(elsewhere: &FakeRegistry, layer: &str) -> Vec<Case> {
    let passes = |name, end, fault: Fault| Case {
        name,
        end,
        fault: InjectedFault::Responses(vec![fault]),
        error: None,
    };
    let lasts = |name, end, fault: Fault, error| Case {
        name,
        end,
        fault: InjectedFault::Responses(vec![fault.always()]),
        error: Some(error),
    };
    let broken = |name, end, weakness| Case {
        name,
        end,
        fault: InjectedFault::Link(weakness),
        error: None,
    };
    let (manifest, blob) = (
        |effect| Fault::once("/manifests/", effect),
        |effect| Fault::once(layer, effect),
    );
    let upload = |method, effect| Fault::once("/blobs/uploads/", effect).method(method);
    let away = |path: &str| format!("{}{path}", elsewhere.url());
    let lapsed = Effect::Status(
        401,
        vec![("www-authenticate", format!("Bearer realm=\"{PROXY}/token\""))],
        String::new(),
    );
    let list = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    let next_page = Effect::Status(
        200,
        vec![
            ("content-type", "application/vnd.oci.image.index.v1+json".to_owned()),
            ("link", format!("<{}>; rel=\"next\"", away("/v2/next"))),
        ],
        list.to_owned(),
    );
    vec![
        broken("closed", Source, Weakness::Closes(CUT)),
        broken("reset", Source, Weakness::Resets(CUT)),
        broken("blocks", Source, Weakness::Blocks(CUT)),
        broken("swallows", Source, Weakness::Swallows(CUT)),
        broken("crawls", Source, Weakness::Crawls(CUT)),
        broken("slow", Source, Weakness::IsSlow(SLOW)),
        broken("closed on the way up", Destination, Weakness::Closes(CUT)),
        broken("reset on the way up", Destination, Weakness::Resets(CUT)),
        broken("blocks on the way up", Destination, Weakness::Blocks(CUT)),
        broken("swallows on the way up", Destination, Weakness::Swallows(CUT)),
        broken("crawls on the way up", Destination, Weakness::Crawls(CUT)),
        broken("slow on the way up", Destination, Weakness::IsSlow(SLOW)),
        passes("manifest 500", Source, manifest(status(500))),
        passes("manifest 429", Source, manifest(busy())),
        passes("blob 500", Source, blob(status(500))),
        passes("blob 429", Source, blob(busy())),
        passes("body cut", Source, blob(Effect::CutBodyAfter(100_000)).times(3)),
        passes("body stalls", Source, blob(Effect::StallBodyAfter(100_000))),
        passes("wrong bytes once", Source, blob(Effect::FlipBit)),
        lasts("wrong bytes", Source, blob(Effect::FlipBit), "have digest `sha256:"),
        lasts("wrong manifest", Source, manifest(Effect::FlipBit), "have"),
        lasts(
            "short length",
            Source,
            blob(Effect::Truncate(1000)),
            "bytes, and the descriptor says",
        ),
        lasts(
            "redirect to nothing",
            Source,
            blob(Effect::Redirect(away("/nothing"))),
            "the registry redirects to",
        ),
        lasts(
            "redirect to a file",
            Source,
            blob(Effect::Redirect("file:///etc/passwd".to_owned())),
            "redirect",
        ),
        lasts(
            "next page elsewhere",
            Source,
            Fault::once("/referrers/", next_page),
            "the next page of a list is on another host",
        ),
        passes("post 500", Destination, upload("POST", status(500))),
        passes("post 429", Destination, upload("POST", busy())),
        passes("put 500", Destination, upload("PUT", status(500))),
        passes("put 429", Destination, upload("PUT", busy())),
        passes(
            "put cut",
            Destination,
            upload("PUT", Effect::CloseAfterReading(100_000)),
        ),
        passes("token ends in mid-push", Destination, upload("PUT", lapsed)),
        passes(
            "tag 500",
            Destination,
            Fault::once("/manifests/", status(500)).method("PUT"),
        ),
        lasts("full", Destination, upload("PUT", status(507)), "507"),
        lasts("refused", Destination, upload("PUT", status(403)), "403"),
        lasts(
            "location of a file",
            Destination,
            upload("POST", Effect::Location("file:///etc/passwd".to_owned())),
            "redirect",
        ),
        lasts(
            "location elsewhere",
            Destination,
            upload("POST", Effect::Location(away("/nothing"))),
            "the registry redirects to",
        ),
    ]
}

/// A real registry.
struct Real {
    name: &'static str,
    host: String,
    scheme: &'static str,
}

/// Fixtures of all cases.
struct Fixtures<'a> {
    directory: &'a Utf8Path,
    image: &'a ImageFixture,
}

impl Fixtures<'_> {
    /// Copies the image from one registry to another, as `app:1`.
    fn carry_out(&self, case: &Case, from: &Real, to: &Real, number: usize) {
        let what = format!("{}: {} → {}", case.name, from.name, to.name);
        let faulty = match case.end {
            Source => from,
            Destination => to,
        };
        // Kept until the copy has ended.
        let (address, proxy, link) = match &case.fault {
            InjectedFault::Responses(faults) => {
                let proxy = FakeRegistry::start_with(FakeRegistryOptions {
                    access: Access::Bearer {
                        login: None,
                        realm: String::new(),
                    },
                    upstream: Some(format!("{}://{}", faulty.scheme, faulty.host)),
                    ..FakeRegistryOptions::default()
                });
                for mut fault in faults.iter().cloned() {
                    if let Effect::Status(_, headers, _) = &mut fault.effect {
                        for (_, value) in headers {
                            *value = value.replace(PROXY, &proxy.url());
                        }
                    }
                    proxy.inject(fault);
                }
                (proxy.host().to_string(), Some(proxy), None)
            }
            InjectedFault::Link(weakness) => {
                let target: SocketAddr = faulty.host.parse().expect("an address and a port");
                let link = WeakLink::start(target, *weakness, u64::MAX);
                (link.address().to_string(), None, Some(link))
            }
        };
        let (from, into) = match case.end {
            Source => (&address, &to.host),
            Destination => (&from.host, &address),
        };
        let name = format!("case-{number}/app:1");
        let copied = run_landfall(&[
            "copy",
            &format!("{from}/app:1"),
            &format!("{into}/{name}"),
            "--insecure",
            from,
            "--insecure",
            into,
            "--referrers",
            "--stall-after",
            "1",
            "--state-dir",
            self.path(&format!("{number}-state")).as_str(),
        ]);
        let back = self.path(&format!("{number}-back"));
        let read = run_landfall(&[
            "copy",
            &format!("{}/{name}", to.host),
            &format!("oci:{back}"),
            "--insecure",
            &to.host,
        ]);
        let occurred = match &case.fault {
            InjectedFault::Responses(_) => proxy.is_some_and(|proxy| proxy.faults_met() > 0),
            InjectedFault::Link(_) => link.is_some_and(|link| link.faults() > 0),
        };
        assert!(occurred, "{what}: the fault did not occur: {copied}");
        match case.error {
            None => {
                assert_eq!(copied.code(), Some(0), "{what}: {copied}");
                assert_eq!(read.code(), Some(0), "{what}: {read}");
                assert_in_layout(&back, self.image);
            }
            Some(error) => {
                assert_eq!(copied.code(), Some(1), "{what}: {copied}");
                assert!(copied.stdout().contains(error), "{what}: {copied}");
                assert!(
                    copied.stdout().contains("fix: ") || copied.stdout().contains("why: "),
                    "{what}: {copied}"
                );
                if read.code() == Some(0) {
                    // Its referrers are missing; the image itself is complete.
                    assert_in_layout(&back, self.image);
                }
            }
        }
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        self.directory.join(name)
    }
}

#[test]
fn each_fault_ends_in_a_whole_image_or_a_clear_error() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let directory = Utf8Path::from_path(directory.path()).expect("a temporary directory with a UTF-8 name");
    let authority = PrivateAuthority::generate("faults");
    let [source, two, three] =
        [Release::V2, Release::V2, Release::V3].map(|release| DockerRegistry::start_release(release, &authority, None));
    let [our_source, ours] = [(), ()].map(|()| LandfallRegistry::start(None, None));
    let real = |name, host: &str, scheme| Real {
        name,
        host: host.to_owned(),
        scheme,
    };
    let sources = [
        real("distribution 2", &source.host(), "https"),
        real("landfall", our_source.host(), "http"),
    ];
    let destinations = [
        real("distribution 2", &two.host(), "https"),
        real("distribution 3", &three.host(), "https"),
        real("landfall", ours.host(), "http"),
    ];
    let image = mk_image();
    let layout = directory.join("image");
    write_layout(&layout, &image);
    for source in &sources {
        let (layout, first) = (format!("oci:{layout}:image"), format!("{}/app:1", source.host));
        drop(run_landfall(&["copy", &layout, &first, "--insecure", &source.host]).succeeded());
    }

    let elsewhere = FakeRegistry::start();
    let layer = image
        .described_blobs()
        .map(|(blob, _)| blob)
        .max_by_key(|blob| blob.size)
        .expect("an image has blobs");
    let cases = cases(&elsewhere, &format!("/blobs/{}", layer.digest));
    let fixtures = Fixtures {
        directory,
        image: &image,
    };
    // Built before any deadline starts.
    binary();
    thread::scope(|scope| {
        for (number, case) in cases.iter().enumerate() {
            let (sources, destinations) = match case.end {
                Source => (&sources[..], &destinations[number % 3..=number % 3]),
                Destination => (&sources[..1], &destinations[..]),
            };
            let pairs = sources
                .iter()
                .flat_map(|from| destinations.iter().map(move |to| (from, to)));
            for (kind, (from, to)) in pairs.enumerate() {
                let fixtures = &fixtures;
                scope.spawn(move || fixtures.carry_out(case, from, to, 100 * kind + number));
            }
        }
    });
    let told: Vec<_> = elsewhere.requests();
    assert!(told.iter().all(|request| request.authorization.is_none()), "{told:?}");
    assert!(told.iter().all(|request| !request.path.contains("/next")), "{told:?}");
}
