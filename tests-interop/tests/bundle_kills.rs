//! SIGKILL, full disks, links and a clock without a battery: `bundle create`, `bundle copy` and `bundle upload` run again end
//! with the bytes of an undisturbed run, move no complete blob and no acknowledged range again, and give no unfinished
//! file the final name. An agent that is killed while it adopts a bundle has every image that it said to have, and goes on
//! with the rest.
//!
//! `LANDFALL_KILLS=200` sets the number of kills. [`bundle_failures.rs`](bundle_failures.rs) lists all cases.
#![expect(clippy::unwrap_used, reason = "test set-up")]

use std::process::Command;
use std::thread;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::reference::ImageReference;
use landfall_core::status::ProgressEvent;
use landfall_oci::store::ContentStore;
use landfall_testkit::fake_registry::{Effect, Fault};
use landfall_testkit::image_builder::{FixtureBuilder, digest_of};
use landfall_tests_interop::agent::{landfall, run_landfall};
use landfall_tests_interop::bundle::{BundleDesk, TILL};
use landfall_tests_interop::images::noise;
use landfall_tests_interop::port::free_port;
use landfall_tests_interop::program::{Program, run};
use landfall_tests_interop::small_disk::SmallDisk;
use landfall_tests_interop::upload_host::UploadHost;
use tempfile::TempDir;

const KILLS: &str = "LANDFALL_KILLS";
const KILLS_DEFAULT: u64 = 40;
/// Bytes that a copy may write again after an interruption.
const COPIED_AGAIN_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of one write of a copy: it may end before they are reported.
const CHUNK: u64 = 4 * 1024 * 1024;
const MIB: usize = 1024 * 1024;

/// Returns this share of the kills, at least one.
fn kills(percent: u64) -> u64 {
    let all = std::env::var(KILLS).map_or(KILLS_DEFAULT, |text| text.parse().unwrap());
    (all * percent / 100).max(1)
}

/// SplitMix64: the same points in each run.
struct Numbers(u64);

impl Numbers {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }
}

/// A directory in memory if possible: nothing here depends on the speed of a disk.
fn mk_directory() -> (TempDir, Utf8PathBuf) {
    let directory = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let path = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
    (directory, path)
}

/// Starts a program and kills it after a random part of the time that it needs undisturbed. Returns its
/// standard error.
fn run_and_kill(log: &Utf8Path, command: Command, whole: Duration, numbers: &mut Numbers) -> String {
    let seen = Program::stderr_before_start("landfall", log).len();
    let mut program = Program::start("landfall", log, command);
    let micros = u64::try_from(whole.as_micros()).unwrap();
    thread::sleep(Duration::from_micros(numbers.draw() % micros));
    program.kill();
    program.stderr().split_off(seen)
}

/// Returns the time that a command takes.
#[expect(clippy::disallowed_types, reason = "kills are aimed at the time of a run")]
fn time(command: Command) -> Duration {
    let start = std::time::Instant::now();
    drop(run(command).succeeded());
    start.elapsed()
}

fn find(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).rposition(|window| window == part).unwrap()
}

/// A blob with its part of the file: from its name in the tar to its last byte.
struct Stretch {
    digest: String,
    from: usize,
    to: usize,
}

impl Stretch {
    fn is_whole(&self, partial: &[u8], reference: &[u8]) -> bool {
        partial.get(self.from..self.to) == Some(&reference[self.from..self.to])
    }
}

/// Returns the large blobs of a bundle.
fn stretches(desk: &BundleDesk, reference: &[u8]) -> Vec<Stretch> {
    let blobs = [&desk.till, &desk.web, &desk.both]
        .into_iter()
        .flat_map(|image| &image.blobs);
    let large = blobs.filter(|(_, bytes)| bytes.len() >= 64 * 1024);
    large
        .map(|(digest, bytes)| Stretch {
            digest: digest.to_string(),
            from: find(reference, format!("blobs/sha256/{}", digest.hex()).as_bytes()),
            to: find(reference, &bytes[bytes.len() - 64..]) + 64,
        })
        .collect()
}

#[test]
fn a_killed_create_is_resumed_to_the_same_bytes_without_moving_a_blob_twice() {
    let desk = BundleDesk::new();
    // One blob is late: kills come after the others, however fast this machine is.
    let late = desk.till.blobs.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap().0;
    let delay = Effect::Delay(Duration::from_millis(150));
    desk.registry.inject(Fault::once(late.as_str(), delay).always());
    let reference_path = desk.path("reference.tar.zst");
    let whole = time(desk.create(&reference_path, &[]));
    let reference = fs_err::read(&reference_path).unwrap();
    let stretches = stretches(&desk, &reference);
    let mut numbers = Numbers(1);
    let (mut kept, mut unfinished) = (0, 0);
    for kill in 0..kills(40) {
        let (_directory, path) = mk_directory();
        let file = path.join("shop.tar.zst");
        drop(run_and_kill(&path, desk.create(&file, &[]), whole, &mut numbers));
        match fs_err::read(&file) {
            Ok(bytes) => assert!(bytes == reference, "kill {kill}: an unfinished file has the final name"),
            Err(_) => unfinished += 1,
        }
        let partial = fs_err::read(format!("{file}.partial")).unwrap_or_default();
        desk.registry.clear_requests();
        drop(run(desk.create(&file, &[])).succeeded());
        assert!(fs_err::read(&file).unwrap() == reference, "kill {kill}: other bytes");
        let requests = desk.registry.requests();
        for stretch in stretches
            .iter()
            .filter(|stretch| stretch.is_whole(&partial, &reference))
        {
            kept += 1;
            let path = format!("/blobs/{}", stretch.digest);
            let again = requests
                .iter()
                .find(|request| request.method == "GET" && request.path.contains(&path));
            assert!(again.is_none(), "kill {kill}: moved again: {again:?}");
        }
        assert!(!file.with_file_name("shop.tar.zst.partial").exists(), "kill {kill}");
    }
    assert!(unfinished > 0, "each run ended before its kill");
    // The points are random: with few of them, none may be behind a complete blob.
    assert!(kept > 0 || kills(40) < 16, "no kill came after a complete blob");
}

/// Returns bytes of the progress events in the output of a command.
fn advances(stderr: &str) -> Vec<u64> {
    let events = stderr.lines().filter_map(|line| serde_json::from_str(line).ok());
    let bytes = events.filter_map(|event| match event {
        ProgressEvent::BlobAdvanced { bytes, .. } => Some(bytes),
        _ => None,
    });
    bytes.collect()
}

/// Makes a bundle with this number of layers of 20 MiB, and returns its path.
fn mk_large_bundle(desk: &BundleDesk, layers: usize) -> Utf8PathBuf {
    let mut image = FixtureBuilder::new();
    for layer in 0..layers {
        image = image.plain_layer(&[("large", &noise(&format!("layer {layer}"), 20 * MIB))]);
    }
    desk.registry.add_image("shop/large", "1", &image.build());
    let list = format!("{}/shop/large:1 {TILL}\n", desk.registry.host());
    fs_err::write(desk.path("images.txt"), list).unwrap();
    desk.bundle("large.tar.zst", &[])
}

fn copy(from: &Utf8Path, to: &Utf8Path) -> Command {
    landfall(&["bundle", "copy", from.as_str(), to.as_str(), "--progress", "json"])
}

#[test]
fn a_killed_copy_is_resumed_to_the_same_bytes_and_copies_64_mib_again_at_most() {
    let desk = BundleDesk::new();
    let original = mk_large_bundle(&desk, 10);
    let (_directory, path) = mk_directory();
    let whole = time(copy(&original, &path.join("reference.tar.zst")));
    fs_err::remove_file(path.join("reference.tar.zst")).unwrap();
    let mut numbers = Numbers(2);
    for kill in 0..kills(30) {
        let (_directory, path) = mk_directory();
        let file = path.join("copy.tar.zst");
        let killed = run_and_kill(&path, copy(&original, &file), whole, &mut numbers);
        let copied: u64 = advances(&killed).iter().sum();
        let is_done = file.exists();
        let mut compare = Command::new("cmp");
        compare.args([&original, &file]);
        if is_done {
            drop(run(compare).succeeded());
            continue;
        }
        let resumed = run(copy(&original, &file)).succeeded();
        drop(run(compare).succeeded());
        let first = advances(&resumed.stderr()).first().copied().unwrap_or_default();
        assert!(
            first + COPIED_AGAIN_MAX + CHUNK >= copied,
            "kill {kill}: {copied} bytes were copied, and the second run began at {first}"
        );
        let left: Vec<_> = path
            .read_dir_utf8()
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_owned())
            .collect();
        assert!(
            left.iter()
                .all(|name| name == "copy.tar.zst" || name.starts_with("landfall.")),
            "{left:?}"
        );
    }
}

/// Returns the agent of a host that has a bundle, and is done with it at its end.
fn adopt(host: &Utf8Path) -> Command {
    let [user_data, profile, root, state] =
        ["user-data.yaml", "profile.yaml", "root", "state"].map(|name| host.join(name));
    let mut arguments = vec!["agent", "--once", "--progress", "json"];
    arguments.extend(["--user-data", user_data.as_str(), "--profile", profile.as_str()]);
    arguments.extend(["--root", root.as_str(), "--state-dir", state.as_str()]);
    landfall(&arguments)
}

/// Makes a host with a bundle and without a network. Its profile names one of the images.
fn mk_host(host: &Utf8Path, bundle: &Utf8Path) {
    let content = host.join("root/opt/spectrocloud/content");
    fs_err::create_dir_all(&content).unwrap();
    fs_err::copy(bundle, content.join("shop.tar.zst")).unwrap();
    let user_data = format!(
        "#cloud-config\nstylus:\n  imageRedirectWebhook: {{enable: false}}\nlandfall:\n  listen: 127.0.0.1:{}\n  \
         containerd: {{enable: false}}\n  primary: {{endpoint: '127.0.0.1:{}'}}\n",
        free_port(),
        free_port()
    );
    let profile = format!(
        "metadata: {{name: shop}}\nspec:\n  template:\n    packs:\n    - name: web\n      layer: addon\n      values: |\n        \
         pack:\n          content:\n            images:\n            - image: {TILL}\n"
    );
    fs_err::write(host.join("user-data.yaml"), user_data).unwrap();
    fs_err::write(host.join("profile.yaml"), profile).unwrap();
}

/// Returns the images that the output of an agent says to be there.
fn finished(stderr: &str) -> Vec<ImageReference> {
    let events = stderr.lines().filter_map(|line| serde_json::from_str(line).ok());
    let images = events.filter_map(|event| match event {
        ProgressEvent::ImageFinished { image } => image.parse().ok(),
        _ => None,
    });
    images.collect()
}

#[test]
fn a_killed_adoption_has_what_it_said_to_have_and_goes_on_with_the_rest() {
    let desk = BundleDesk::new();
    let bundle = desk.bundle("shop.tar.zst", &[]);
    let (_directory, reference) = mk_directory();
    mk_host(&reference, &bundle);
    let whole = time(adopt(&reference));
    let expected = ContentStore::open(&reference.join("state/store")).unwrap().images();
    let mut numbers = Numbers(3);
    let (mut said, mut kill) = (0, 0);
    while kill < kills(30) {
        let (_directory, host) = mk_directory();
        mk_host(&host, &bundle);
        // Some kills hit one host, as a loose plug does.
        for _ in 0..3 {
            let stderr = run_and_kill(&host, adopt(&host), whole, &mut numbers);
            kill += 1;
            let store = ContentStore::open(&host.join("state/store")).unwrap();
            for image in finished(&stderr) {
                let stored = store.image(&image);
                let stored = stored.unwrap_or_else(|| panic!("kill {kill}: `{image}` is lost\n{stderr}"));
                assert_eq!(
                    store.is_complete(&stored.digest).ok(),
                    Some(true),
                    "kill {kill}: {image}"
                );
                said += 1;
            }
        }
        drop(run(adopt(&host)).succeeded());
        let store = ContentStore::open(&host.join("state/store")).unwrap();
        assert_eq!(store.images(), expected, "kill {kill}");
        for digest in store.blobs().unwrap() {
            let bytes = store.read_blob(&digest, 1 << 40).unwrap();
            assert_eq!(digest_of(&bytes), digest, "kill {kill}: a blob with other bytes");
        }
        let receipt = format!("{host}/root/opt/spectrocloud/content/shop.tar.zst.receipt.json");
        assert!(fs_err::metadata(receipt).is_ok(), "kill {kill}");
    }
    assert!(said > 0, "no kill came after a complete image");
}

fn upload(file: &Utf8Path, host: &UploadHost) -> Command {
    let (to, token) = (host.url(), host.token_file());
    let arguments = [
        "bundle",
        "upload",
        file.as_str(),
        "--to",
        &to,
        "--token-file",
        token.as_str(),
    ];
    landfall(&[&arguments[..], &["--range-size", "65536", "--progress", "json"]].concat())
}

/// Client and agent are killed in turn. The host loses no range that it had acknowledged, and the clients together send
/// each of them once.
#[test]
fn a_killed_upload_goes_on_and_no_acknowledged_range_is_lost_or_sent_again() {
    let desk = BundleDesk::new();
    let original = mk_large_bundle(&desk, 2);
    let size = fs_err::metadata(&original).unwrap().len();
    let mut host = UploadHost::new();
    host.start();
    let mut numbers = Numbers(3);
    let mut known: Vec<String> = Vec::new();
    let mut acknowledged = 0;
    let (mut in_the_middle, mut is_complete) = (0, false);
    for kill in 0..kills(60) {
        let (_directory, log) = mk_directory();
        let mut client = Program::start("landfall", &log, upload(&original, &host));
        thread::sleep(Duration::from_millis(60 + numbers.draw() % 250));
        if kill % 2 == 0 {
            client.kill();
        } else {
            host.kill();
            thread::sleep(Duration::from_millis(numbers.draw() % 50));
            host.start();
            // It tries again until the agent is back, and is killed then.
            thread::sleep(Duration::from_millis(numbers.draw() % 1500));
            client.kill();
        }
        acknowledged += advances(&client.stderr()).iter().sum::<u64>();
        let uploads = host.uploads();
        let ranges = uploads
            .first()
            .map(|upload| upload["ranges"].as_array().unwrap().clone());
        let here = ranges.unwrap_or_default().into_iter().enumerate();
        let here: Vec<String> = here
            .filter(|(_, range)| range.is_string())
            .map(|(number, range)| format!("{number} {range}"))
            .collect();
        for range in &known {
            assert!(
                here.contains(range),
                "kill {kill}: range {range} is lost\n{}",
                host.output()
            );
        }
        let target = host.content().join("large.tar.zst");
        is_complete = uploads.first().is_some_and(|upload| upload["state"] == "complete");
        assert_eq!(
            target.exists(),
            is_complete,
            "kill {kill}: an unfinished file has the final name"
        );
        in_the_middle += u32::from(!here.is_empty() && !is_complete);
        known = here;
        if is_complete {
            break;
        }
    }
    assert!(in_the_middle > 0, "no kill came between the first and the last range");
    if !is_complete {
        let resumed = run(upload(&original, &host)).succeeded();
        acknowledged += advances(&resumed.stderr()).iter().sum::<u64>();
    }
    assert!(
        acknowledged <= size,
        "{acknowledged} of {size} bytes were acknowledged: some of them twice"
    );
    let mut compare = Command::new("cmp");
    compare.arg(&original).arg(host.content().join("large.tar.zst"));
    drop(run(compare).succeeded());
    let again = run(upload(&original, &host)).succeeded();
    assert_eq!(advances(&again.stderr()), Vec::<u64>::new());
    let left: Vec<_> = host
        .content()
        .join(".landfall-uploads")
        .read_dir_utf8()
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_owned())
        .filter(|name| !name.ends_with(".journal"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

/// Runs a command that must fail for want of space, and returns its message.
fn fail_for_space(command: Command, file: &Utf8Path) -> String {
    let failed = run(command);
    assert!(failed.code().is_some_and(|code| code != 0), "{failed}");
    let message = failed.stderr();
    let lower = message.to_lowercase();
    assert!(lower.contains("space") || lower.contains("room"), "{failed}");
    assert!(!file.exists(), "an unfinished file has the final name\n{failed}");
    message
}

#[test]
fn a_create_on_a_full_disk_says_so_and_goes_on_when_there_is_room() {
    let desk = BundleDesk::new();
    let reference = fs_err::read(desk.bundle("reference.tar.zst", &[])).unwrap();
    let disk = SmallDisk::mount("size=1m");
    let file = disk.path().join("shop.tar.zst");
    let message = fail_for_space(desk.create(&file, &[]), &file);
    assert!(message.contains(file.as_str()), "{message}");
    assert!(disk.free() > 900 * 1024, "{} bytes are free", disk.free());

    // The last blob fails, and then something else takes the room that is left.
    disk.remount("size=8m");
    let last = desk.both.blobs.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap().0;
    let fault = Fault::once(last.as_str(), Effect::Status(403, Vec::new(), String::new()));
    desk.registry.inject(fault);
    let failed = run(desk.create(&file, &[]));
    assert_ne!(failed.code(), Some(0), "{failed}");
    assert!(!file.exists(), "{failed}");
    let hog = disk.fill();
    fail_for_space(desk.create(&file, &[]), &file);
    fs_err::remove_file(hog).unwrap();
    drop(run(desk.create(&file, &[])).succeeded());
    assert!(fs_err::read(&file).unwrap() == reference);
}

#[test]
fn a_copy_to_a_full_disk_says_so_and_goes_on_when_there_is_room() {
    let desk = BundleDesk::new();
    let original = desk.bundle("shop.tar.zst", &[]);
    let reference = fs_err::read(&original).unwrap();
    let disk = SmallDisk::mount("size=1m");
    let file = disk.path().join("copy.tar.zst");
    let message = fail_for_space(copy(&original, &file), &file);
    assert!(message.contains(file.as_str()), "{message}");
    disk.remount("size=8m");
    let hog = disk.fill();
    fail_for_space(copy(&original, &file), &file);
    fs_err::remove_file(hog).unwrap();
    drop(run(copy(&original, &file)).succeeded());
    assert!(fs_err::read(&file).unwrap() == reference);
}

#[test]
fn an_upload_to_a_full_disk_says_so_and_goes_on_when_there_is_room() {
    let desk = BundleDesk::new();
    let original = desk.bundle("shop.tar.zst", &[]);
    let size = fs_err::metadata(&original).unwrap().len();
    let disk = SmallDisk::mount("size=2m");
    let mut host = UploadHost::on(disk.path());
    host.start();
    let target = host.content().join("shop.tar.zst");
    let message = fail_for_space(upload(&original, &host), &target);
    assert!(
        message.contains(&format!("the disk has no room: {size} bytes are needed")),
        "{message}"
    );
    assert!(host.uploads().is_empty(), "nothing is begun");

    // There is room at first, and then something else takes it.
    disk.remount("size=40m");
    let token = fs_err::read_to_string(host.token_file()).unwrap();
    let asked = format!(r#"{{"name": "shop.tar.zst", "size": {size}, "rangeSize": 65536}}"#);
    let header = format!("Authorization: Bearer {}", token.trim());
    let begun = host.curl(&["/api/v1/uploads", "-H", &header, "--json", &asked]);
    assert!(begun.is_some(), "{}", host.output());
    let hog = disk.fill();
    let message = fail_for_space(upload(&original, &host), &target);
    assert!(
        message.contains("the disk has no room: 65536 bytes are needed"),
        "{message}"
    );
    fs_err::remove_file(hog).unwrap();
    drop(run(upload(&original, &host)).succeeded());
    assert!(fs_err::read(&target).unwrap() == fs_err::read(&original).unwrap());
    host.kill();
}

#[test]
fn a_disk_without_inodes_is_called_full_and_gets_the_file_when_there_are_some() {
    let desk = BundleDesk::new();
    let original = desk.bundle("shop.tar.zst", &[]);
    let reference = fs_err::read(&original).unwrap();
    // The only one is that of the directory.
    let disk = SmallDisk::mount("size=16m,nr_inodes=1");
    let (created, copied) = (disk.path().join("created.tar.zst"), disk.path().join("copied.tar.zst"));
    fail_for_space(desk.create(&created, &[]), &created);
    fail_for_space(copy(&original, &copied), &copied);
    disk.remount("nr_inodes=20");
    drop(run(desk.create(&created, &[])).succeeded());
    drop(run(copy(&original, &copied)).succeeded());
    for file in [&created, &copied] {
        assert!(fs_err::read(file).unwrap() == reference, "{file}");
    }
}

#[test]
fn a_link_to_a_bundle_is_followed_and_stays() {
    let desk = BundleDesk::new();
    let original = desk.bundle("shop.tar.zst", &[]);
    let reference = fs_err::read(&original).unwrap();
    let (_directory, path) = mk_directory();
    let link = path.join("link.tar.zst");
    std::os::unix::fs::symlink(&original, &link).unwrap();
    drop(run_landfall(&["bundle", "verify", link.as_str()]).succeeded());
    let copied = path.join("copied.tar.zst");
    drop(run(copy(&link, &copied)).succeeded());
    assert!(fs_err::read(&copied).unwrap() == reference);
    // What the link leads to is replaced.
    fs_err::write(&original, "older").unwrap();
    drop(run(desk.create(&link, &[])).succeeded());
    assert!(fs_err::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs_err::read(&original).unwrap() == reference);
}

#[test]
fn a_clock_of_1970_changes_nothing() {
    let desk = BundleDesk::new();
    let reference = fs_err::read(desk.bundle("reference.tar.zst", &[])).unwrap();
    let in_1970 = |command: &Command| {
        let mut faked = Command::new("faketime");
        faked
            .args(["1970-01-01 00:00:10"])
            .arg(command.get_program())
            .args(command.get_args());
        drop(run(faked).succeeded());
    };
    let (file, copied) = (desk.path("shop.tar.zst"), desk.path("copied.tar.zst"));
    in_1970(&desk.create(&file, &[]));
    in_1970(&copy(&file, &copied));
    let key = desk.path("bundle.pub");
    in_1970(&landfall(&[
        "bundle",
        "verify",
        copied.as_str(),
        "--public-key",
        key.as_str(),
    ]));
    let host = desk.path("host");
    mk_host(&host, &copied);
    in_1970(&adopt(&host));
    let store = ContentStore::open(&host.join("state/store")).unwrap();
    let till = store.image(&TILL.parse().unwrap());
    assert_eq!(till.map(|image| image.digest), Some(desk.till.root.digest.clone()));
    for file in [&file, &copied] {
        assert!(fs_err::read(file).unwrap() == reference, "{file}");
    }
}
