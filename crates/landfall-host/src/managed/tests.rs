use landfall_core::hostconf::HEADER;
use landfall_testkit::host_fixture::HostFixture;

use super::*;

fn file(path: &str, text: &str) -> HostFile {
    HostFile {
        path: path.into(),
        mode: 0o600,
        content: format!("{HEADER}{text}\n").into(),
    }
}

fn managed(host: &HostFixture) -> ManagedFiles {
    ManagedFiles::new(HostRoot::new(host.root()), &host.path("/state"))
}

/// Previews and applies; the preview must list the same changes.
fn apply(host: &HostFixture, files: &[HostFile]) -> ManagedChanges {
    let managed = managed(host);
    let foreseen = managed.preview("containerd", files).unwrap();
    let changes = managed.apply("containerd", files).unwrap();
    assert_eq!(foreseen, changes, "the preview tells what happens");
    changes
}

fn write(host: &HostFixture, path: &str, text: &str) {
    let path = host.path(path);
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    let spec = FileSpec {
        path: path.file_name().unwrap().into(),
        mode: 0o644,
        owner: None,
        group: None,
        content: text.as_bytes().to_vec(),
    };
    ensure_file(&HostRoot::new(path.parent().unwrap()), &spec).unwrap();
}

fn exists(host: &HostFixture, path: &str) -> bool {
    host.path(path).exists()
}

#[test]
fn a_group_consists_of_exactly_the_files_that_are_wanted() {
    let host = HostFixture::mk();
    let (a, b) = (file("/certs.d/a/hosts.toml", "1"), file("/certs.d/b/hosts.toml", "1"));
    assert_eq!(
        apply(&host, &[a.clone(), b.clone()]).written,
        [a.path.clone(), b.path.clone()]
    );
    assert!(
        apply(&host, &[a.clone(), b.clone()]).is_empty(),
        "the second time changes nothing"
    );
    let changes = apply(&host, &[file("/certs.d/b/hosts.toml", "2")]);
    assert_eq!((changes.written, changes.removed), (vec![b.path], vec![a.path]));
    assert!(!exists(&host, "/certs.d/a"), "the directory went with its last file");
    assert_eq!(apply(&host, &[]).removed.len(), 1);
    assert!(!exists(&host, "/certs.d/b"));
}

#[test]
fn what_the_user_wrote_stays() {
    let host = HostFixture::mk();
    write(&host, "/certs.d/a/hosts.toml", "server = \"mine\"\n");
    write(&host, "/certs.d/b/ca.crt", "mine");
    let files = [file("/certs.d/a/hosts.toml", "1"), file("/certs.d/b/hosts.toml", "1")];
    let changes = apply(&host, &files);
    assert_eq!((changes.written.len(), changes.kept), (1, vec![files[0].path.clone()]));
    apply(&host, &[]);
    assert!(exists(&host, "/certs.d/a/hosts.toml") && exists(&host, "/certs.d/b/ca.crt"));
    assert!(!exists(&host, "/certs.d/b/hosts.toml"));
}

#[test]
fn a_file_whose_mark_the_user_took_out_is_theirs() {
    let host = HostFixture::mk();
    let ours = file("/certs.d/a/hosts.toml", "1");
    apply(&host, std::slice::from_ref(&ours));
    write(&host, "/certs.d/a/hosts.toml", "server = \"mine\"\n");
    assert_eq!(apply(&host, std::slice::from_ref(&ours)).kept, [ours.path]);
    apply(&host, &[]);
    assert!(exists(&host, "/certs.d/a/hosts.toml"));
}

#[test]
fn a_marked_file_is_taken_over_when_the_manifest_is_gone() {
    let host = HostFixture::mk();
    apply(&host, &[file("/a", "1")]);
    fs_err::remove_file(host.path("/state/managed-files.json")).unwrap();
    assert_eq!(apply(&host, &[file("/a", "2")]).written, ["/a"]);
    assert_eq!(apply(&host, &[]).removed, ["/a"]);
}

#[test]
fn groups_do_not_touch_each_other() {
    let host = HostFixture::mk();
    managed(&host).apply("kubelet", &[file("/k", "1")]).unwrap();
    apply(&host, &[file("/c", "1")]);
    apply(&host, &[]);
    assert!(exists(&host, "/k") && !exists(&host, "/c"));
}

#[test]
fn a_host_without_files_of_ours_gets_no_manifest() {
    let host = HostFixture::mk();
    assert!(apply(&host, &[]).is_empty());
    assert!(!exists(&host, "/state"));
}

#[test]
fn preview_says_what_to_do_about_a_broken_manifest_and_the_followed_hint_mends_it() {
    let host = HostFixture::mk();
    write(&host, "/state/managed-files.json", "{");
    let error = managed(&host).preview("containerd", &[]).unwrap_err();
    insta::assert_snapshot!(error.to_string().replace(host.root().as_str(), "ROOT"), @"cannot use `ROOT/state/managed-files.json`, which lists the files that Landfall wrote");
    assert_eq!(
        error.hint().as_deref(),
        Some("remove it, files with the mark are found again")
    );
    fs_err::remove_file(host.path("/state/managed-files.json")).unwrap();
    assert_eq!(
        managed(&host).preview("containerd", &[]).unwrap(),
        ManagedChanges::default()
    );
}

#[test]
fn damaged_manifest_is_set_aside_and_the_marked_files_are_still_ours() {
    for (content, ending) in [
        ("", "damaged"),
        ("garbage", "damaged"),
        ("{\"version\": 1, \"gro", "damaged"),
        ("{\"version\": 99, \"more\": []}", "newer"),
    ] {
        let host = HostFixture::mk();
        drop(apply(&host, &[file("/certs.d/a/hosts.toml", "1")]));
        let manifest = host.path("/state/managed-files.json");
        fs_err::write(&manifest, content).unwrap();
        let changes = managed(&host)
            .apply("containerd", &[file("/certs.d/a/hosts.toml", "2")])
            .unwrap();
        assert_eq!(changes.written, ["/certs.d/a/hosts.toml"], "{content}");
        let aside = changes.aside.unwrap().aside.unwrap();
        assert_eq!(aside, format!("{manifest}.{ending}"), "{content}");
        assert_eq!(fs_err::read_to_string(aside).unwrap(), content);
        assert_eq!(apply(&host, &[]).removed, ["/certs.d/a/hosts.toml"], "{content}");
    }
}

#[test]
fn all_files_of_ours_are_found_without_the_manifest_too() {
    let host = HostFixture::mk();
    let files = [
        file("/etc/containerd/certs.d/a/hosts.toml", "1"),
        file("/etc/kubernetes/registries/a.json", "1"),
        file("/etc/rancher/k3s/registries.yaml", "1"),
        file("/elsewhere/landfall", "1"),
    ];
    apply(&host, &files);
    host.put("/etc/kubernetes/registries/mine.json", 0o600, "the user's");
    host.put("/etc/rancher/k3s/registries.yaml", 0o600, "taken over");
    let paths = |numbers: &[usize]| numbers.iter().map(|at| files[*at].path.clone()).collect();
    let found = managed(&host).find_all().unwrap();
    let expected = OwnedFiles {
        ours: paths(&[0, 1, 3]),
        taken_over: paths(&[2]),
    };
    assert_eq!(found, expected);
    fs_err::remove_file(host.path("/state").join(MANIFEST)).unwrap();
    let expected = OwnedFiles {
        ours: paths(&[0, 1]),
        taken_over: BTreeSet::new(),
    };
    assert_eq!(managed(&host).find_all().unwrap(), expected);
}
